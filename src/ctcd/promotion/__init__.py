"""The gate that decides which model ships, and the registry in which it does."""
