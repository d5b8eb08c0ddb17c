"""Scores many rows at once: files, and tables of the store."""
