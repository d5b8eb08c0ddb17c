"""Predictions on disk until the feature store has them."""
