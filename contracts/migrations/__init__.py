"""The history of the store's schema; see `ctcd.store.migrations`."""
