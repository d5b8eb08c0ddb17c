"""MLflow: runs, registered versions and their aliases."""
