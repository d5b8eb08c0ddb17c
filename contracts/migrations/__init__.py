"""The history of the store's schema; see `credit_score.store.migrations`."""
