"""Training: split, preprocessing, search, evaluation, and logging to MLflow."""
