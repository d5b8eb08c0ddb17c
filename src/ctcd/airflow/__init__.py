"""What Airflow gets from us: a connection type, an operator that runs a stage, base dates and callbacks.

Nothing outside this package and `dags/` imports Airflow.
"""
