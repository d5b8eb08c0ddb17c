"""Proof that the gates work: defects planted on purpose, each with the gate that must catch it."""
