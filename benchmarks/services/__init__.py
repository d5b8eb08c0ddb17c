"""The services that ours is compared with; each reads its files from its working directory."""

BARE_MODEL, NAIVE_MODEL, NAIVE_ROWS, STORE = "bare.cbm", "naive.cbm", "naive.parquet", "store.url"
"""Files: the models, the rows that the scalers are fitted on, and the URL of the feature store."""
