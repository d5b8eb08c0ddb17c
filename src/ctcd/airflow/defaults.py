"""Defaults that all our DAGs share."""

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.dates import MACROS
from ctcd.airflow.notices import notice

ZONE = dag_settings().zone
"""Time zone of schedules and days."""
LOCK = dag_settings().contracts.resolve() / "lock"
# From the lock, because importing the contract would make every parse of a DAG file slow.
NAME: str = json.loads((LOCK / "contract.json").read_text(encoding="utf-8"))["name"]
"""Name of the instance, with which the ids of DAGs and assets begin."""
FINDING = Asset(f"{NAME}_finding")
"""Findings that ask for a training; the extra of its events says which."""
CHAMPION = Asset(f"{NAME}_champion")
"""The champion; the extra of its events says which version, from which run and day, and how it compares with the one
before."""

TASKS: dict[str, Any] = {
    "retries": 2,
    # The delay before the first one is Airflow's setting [core] default_task_retry_delay.
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=30),
    "execution_timeout": timedelta(hours=1),
    "on_failure_callback": notice("task failed"),
    "on_retry_callback": notice("task will be retried"),
}
"""Defaults of tasks."""
DAGS: dict[str, Any] = {
    # No start date: when a DAG is switched on, its first scheduled run is the next one, not a past one, unless that was
    # due within the last tenth of the interval.
    "catchup": False,
    "max_active_runs": 1,
    "default_args": TASKS,
    "user_defined_macros": MACROS,
    "template_searchpath": str(LOCK),
    "on_success_callback": notice("run succeeded"),
    "on_failure_callback": notice("run failed"),
}
"""Defaults of DAGs."""
