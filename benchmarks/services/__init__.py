"""The services that ours is measured against; each reads its files from the folder that it is started in."""

BARE_MODEL, NAIVE_MODEL, NAIVE_ROWS, STORE = "bare.cbm", "naive.cbm", "naive.parquet", "store.url"
"""Files: the models, the rows that the scalers are fitted on, and the URL of the feature store."""
