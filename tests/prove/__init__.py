"""Proof that the gates work: planted defects, each with the gate that must catch it."""
