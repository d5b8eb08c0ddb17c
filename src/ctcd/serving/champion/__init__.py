"""Following the registry's champion while the service runs."""
