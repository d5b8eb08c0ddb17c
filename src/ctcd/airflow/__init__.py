"""What Airflow needs from the engine: a connection type, an operator that runs a stage, base dates and callbacks.

Only this package and `dags/` import Airflow.
"""
