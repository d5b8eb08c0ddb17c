"""What is generated from a contract: lock files, comparisons of revisions, documents and synthetic data."""
