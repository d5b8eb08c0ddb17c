"""Migrations of the store's schema; see `ctcd.store.migrations`."""
