"""The service: scores requests, and answers only once the prediction is on disk."""
