"""The feature store: tables derived from the contract, ingest, training snapshots and the prediction log."""
