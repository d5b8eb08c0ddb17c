"""Proof that another team adopts the repository by writing `contracts/` and nothing else."""
