"""What one team promises: data, API, model, service and monitoring. Nothing else in the repository restates it."""
