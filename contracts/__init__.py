"""The promises of the system. Nothing else in the repository restates them."""
