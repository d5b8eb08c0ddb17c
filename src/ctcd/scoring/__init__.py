"""Batch scoring of files and of tables in the store."""
