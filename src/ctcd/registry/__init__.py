"""MLflow: runs, registered versions and their aliases."""

NOT_GIVEN = "not given"
"""Reason of a change for which nobody gave one. It is here because the command line starts without MLflow."""
