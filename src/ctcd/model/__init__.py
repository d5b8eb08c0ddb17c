"""The model as one artifact: encoder, scorer, probes, metrics, and the MLflow pyfunc."""
