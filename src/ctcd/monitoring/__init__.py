"""Checks of the data in the database, and how predictions compare with the labels that came later."""
