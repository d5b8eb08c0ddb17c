"""Checking an instance before anything is trained, and what in it is still a draft."""
