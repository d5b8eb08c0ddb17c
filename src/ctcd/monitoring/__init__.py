"""Monitoring: checks of the data in the database, and performance of predictions once their labels are known."""
