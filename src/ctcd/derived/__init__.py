"""What is generated from a contract: lock files, the comparison of revisions, documents and synthetic data."""
