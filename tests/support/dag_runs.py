"""Runs DAGs in this process, as Airflow does, and returns what happened."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import support.airflow_home  # noqa: F401 - before Airflow
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.variable import Variable
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select
from support.faults import Faults

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Args:
        state: state of the run.
        tasks: state of each task; that of a mapped one has its index, as in `trial[0]`.
        tries: number of tries of each task.
        values: return value of each task.
        run_id: id of the run.
        shown: all XComs and rendered templates, which the UI shows.
    """

    state: str
    tasks: dict[str, str | None]
    tries: dict[str, int]
    values: dict[str, Any]
    run_id: str
    shown: str


def load_dag(name: str) -> DAG:
    """Return one of our DAGs; all DAG files must be importable."""
    bag = DagBag()
    assert bag.import_errors == {}
    return bag.dags[name]


def prepare() -> None:
    """Create Airflow's metadata database."""
    initdb()


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an Airflow variable while the block runs."""
    Variable.set(name, value)
    yield
    Variable.delete(name)


def run_dag(
    name: str, *, logical_date: datetime | None = None, conf: dict[str, Any] | None = None, faults: Faults | None = None
) -> Finished:
    """Run a DAG to its end, with faults injected into its tasks; retries are not delayed."""
    dag = load_dag(name)
    for task in dag.tasks:
        # A mapped task has them in the arguments of its instances.
        for owner in (task, getattr(task, "partial_kwargs", None)):
            if isinstance(owner, dict):
                owner |= {"retry_delay": timedelta(0), "retry_exponential_backoff": 0.0}
            elif owner is task and not task.is_mapped:
                task.retry_delay, task.retry_exponential_backoff = timedelta(0), 0.0
    if faults is not None:
        faults.plant(dag)
    with _polling_often():
        done = dag.test(logical_date=logical_date, run_conf=conf)
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.id == done.id)).one()
        instances = {
            one.task_id if one.map_index < 0 else f"{one.task_id}[{one.map_index}]": one for one in run.task_instances
        }
        rows = session.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
                XComModel.run_id == run.run_id, XComModel.dag_id == name, XComModel.key == "return_value"
            )
        ).all()
        shown = session.execute(
            select(XComModel.value).where(XComModel.run_id == run.run_id, XComModel.dag_id == name)
        ).scalars()
        fields = session.execute(
            select(RenderedTaskInstanceFields.rendered_fields).where(RenderedTaskInstanceFields.run_id == run.run_id)
        ).scalars()
        return Finished(
            state=str(run.state),
            tasks={key: one.state and str(one.state) for key, one in instances.items()},
            tries={key: one.try_number for key, one in instances.items()},
            values={
                task if index < 0 else f"{task}[{index}]": XComModel.deserialize_value(_Value(value))
                for task, index, value in rows
            },
            run_id=run.run_id,
            shown=f"{list(shown)} {list(fields)}",
        )


@contextmanager
def _polling_often() -> Iterator[None]:
    """Shorten the pause of one second that `dag.test()` makes when no task is ready, as after a failed one."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), POLL_SECONDS))
    try:
        yield
    finally:
        time.sleep = sleep


@dataclass(frozen=True)
class _Value:
    value: Any


def asset_events(name: str) -> list[dict[str, Any]]:
    """Return the extras of the events of an asset, oldest first."""
    with create_session() as session:
        found = session.scalars(
            select(AssetEvent).join(AssetEvent.asset).where(AssetModel.name == name).order_by(AssetEvent.id)
        )
        return [dict(event.extra) for event in found]
