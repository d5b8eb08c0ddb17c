"""Drafting an instance from a table of examples, and checking an instance before anything is trained."""
