"""The base date of a run: the day that it processes."""

from datetime import date, datetime
from typing import Any, Protocol

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from ctcd.airflow.dag_settings import dag_settings
from ctcd.errors import UsageError
from ctcd.settings import parse_day


class Run(Protocol):
    """The attributes of a template's `dag_run` that are read here."""

    conf: dict[str, Any] | None
    logical_date: datetime | None
    run_after: datetime


def base_dt(dag_run: Run) -> date:
    """Return the day that a run processes, in the configured time zone: the same for every task and every retry.

    It is `base_dt` of the run's conf, else the day of its logical date, else, for runs that the REST API or an asset
    triggers, the day of its `run_after`.

    Raises:
        AirflowFailException: `base_dt` in the conf is not a calendar date, or one too far away; a retry would not help.
    """
    given = (dag_run.conf or {}).get("base_dt")
    if given is not None:
        try:
            return parse_day(given)
        except UsageError as error:
            raise AirflowFailException(f"conf: base_dt {error.what}") from error
    moment = dag_run.logical_date or dag_run.run_after
    return moment.astimezone(dag_settings().zone).date()


def snapshot_days(dag_run: Run) -> dict[str, str]:
    """Return the parameters of `snapshot.mariadb.sql` for a run, ISO 8601."""
    from ctcd.store.snapshot import snapshot_parameters

    settings = dag_settings()
    days = snapshot_parameters(base_dt(dag_run), months=settings.snapshot_months, keep_days=settings.snapshot_keep_days)
    return {name: day.isoformat() for name, day in days.items()}


MACROS = {"base_dt": base_dt, "snapshot_days": snapshot_days}
"""Macros that our DAGs add to templates."""
BASE_DT = "{{ base_dt(dag_run) }}"
"""Template of a run's base date."""
BASE_DT_PARAM = {
    "base_dt": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description="Day to process; empty: the day of the run.",
    )
}
"""Parameter of a DAG with which its trigger form asks for the base date."""
