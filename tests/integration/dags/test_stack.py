"""A whole Airflow, as `make airflow` starts it, driven through its REST API."""

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from sqlalchemy import URL, Engine, create_engine, func, inspect, make_url, select, text
from support.airflow_client import SECONDS, Airflow, eventually, patient_instance, stack
from support.instance import CONTRACT
from support.marks import API_KEY, in_files, in_texts, marks_of
from support.network import LOOPBACK, listening
from support.processes import still_running
from support.stores import TABLES, log_correct_prediction, rows_of

from ctcd.deployment import client
from ctcd.registry.versions import GATE, PASSED
from ctcd.settings import Settings
from ctcd.stages import connections
from ctcd.store.engine import connect
from ctcd.store.snapshot import snapshot_parameters

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

TRAINING, DEPLOYMENT = "machine_condition_classification_ct", "machine_condition_classification_cd"
REPORT = "machine_condition_performance_report"


@pytest.fixture
def scheduled(worker: Settings) -> datetime:
    """A minute in which the stack has surely started, when the performance report is to run."""
    now = datetime.now(ZoneInfo(worker.timezone))
    return (now + timedelta(seconds=90)).replace(second=0, microsecond=0)


@pytest.fixture
def predicted(worker: Settings) -> date:
    """A day of the last month that has a prediction."""
    engine = connect(worker.store_url)
    month = (worker.today() - timedelta(days=28), worker.today() - timedelta(days=8))
    label = next(row for row in rows_of(engine, TABLES.labels) if month[0] <= row[CONTRACT.event_date.name] <= month[1])
    day: date = label[CONTRACT.event_date.name]
    log_correct_prediction(engine, label, worker.timezone)
    engine.dispose()
    return day


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The tests' instance without its limits on latency, which a busy machine exceeds."""
    return patient_instance(tmp_path)


@pytest.fixture
def command(worker: Settings, instance: Path, scheduled: datetime) -> Iterator["subprocess.Popen[str]"]:
    """The command that a person runs, on a store with data."""
    # The days that are backfilled, and tomorrow: with the next one near, what is past is too long ago to be run at once;
    # and after a backfill the schedule goes on from where that ended.
    dues = [*backfilled(worker), scheduled + timedelta(days=1)]
    days, months = (",".join(sorted({str(getattr(due, part)) for due in dues})) for part in ("day", "month"))
    crons = {
        "CTCD_TRAINING_CRON": f"0 3 {days} {months} *",
        "CTCD_REPORT_CRON": f"{scheduled.minute} {scheduled.hour} * * *",
    }
    with stack(worker, instance, **crons) as process:
        yield process


@pytest.fixture
def before() -> set[tuple[str, int]]:
    """What was listened on before the stack was started."""
    return listening()


@pytest.fixture
def airflow(command: "subprocess.Popen[str]") -> Iterator[Airflow]:
    """A client of the stack."""
    client = Airflow(command)
    yield client
    client.close()


def test_runs_of_every_kind(
    before: set[tuple[str, int]], predicted: date, airflow: Airflow, worker: Settings, scheduled: datetime
) -> None:
    """A REST run trains, promotes and, through the asset, deploys; schedule and backfill get their days; Ctrl-C ends all."""
    assert airflow("GET", "/api/v2/importErrors")["total_entries"] == 0
    runs = [
        train_and_deploy(airflow, worker),
        *backfill(airflow, worker),
        report(airflow, worker, scheduled, predicted),
    ]
    # What Airflow knows of the runs is shown to everybody who may see them.
    marks, known = marks_of(make_url(worker.store_url)), metadata(airflow.command)
    assert all(run["dag_run_id"] in known["dag_run"] for run in runs)
    assert "--base-dt" in known["rendered_task_instance_fields"]
    assert in_texts(marks, **known) == []

    served = psutil.Process(json.loads(worker.deployment.read_text())["pid"])
    family = [*psutil.Process(airflow.command.pid).children(recursive=True), served, *served.children(recursive=True)]
    assert {"127.0.0.1"} <= {address for address, _ in listening(family) - before} <= LOOPBACK
    airflow.close()
    airflow.command.send_signal(signal.SIGINT)
    assert airflow.command.wait(SECONDS) == 0
    assert still_running(family, 0) == []
    assert client.model_info(worker.service_url, API_KEY) is None
    logs = worker.home / "airflow" / "logs"
    assert {path.parent.name for path in logs.rglob("attempt=*.log")} > {
        "task_id=gate",
        "task_id=deploy",
        "task_id=daily",
    }
    assert in_files(marks, logs) == []


def train_and_deploy(airflow: Airflow, worker: Settings) -> dict[str, Any]:
    """Train through the REST API, without a logical date; the champion that comes of it is deployed."""
    airflow("POST", "/api/v2/variables", {"key": "model_version", "value": "v1"})
    airflow("POST", f"/api/v2/dags/{TRAINING}/dagRuns", {"logical_date": None, "conf": {}})
    (training,) = eventually(lambda: airflow.finished(TRAINING, "manual"), airflow)
    assert (training["state"], training["logical_date"]) == ("success", None), airflow.tasks(training)
    champion = connections.open_registry(worker).champion()
    assert champion.tags[GATE] == PASSED
    (deployment,) = eventually(lambda: airflow.finished(DEPLOYMENT, "asset_triggered"), airflow)
    assert (deployment["state"], airflow.tasks(deployment)["smoke"]) == ("success", "success"), airflow.tasks(
        deployment
    )
    info = client.model_info(worker.service_url, API_KEY)
    assert info is not None
    assert (info["version"], info["run_id"]) == (champion.version, champion.run_id)
    return training


def backfilled(worker: Settings) -> list[datetime]:
    """Return the two times that are backfilled."""
    due = datetime.now(ZoneInfo(worker.timezone)).replace(hour=3, minute=0, second=0, microsecond=0)
    return [due - timedelta(days=days) for days in (11, 10)]


def backfill(airflow: Airflow, worker: Settings) -> list[dict[str, Any]]:
    """Wait until each run has validated the snapshot of its day, and end it: the rest would be as in the run of today.

    That a model for a day long past does not replace the champion is tested in test_training_dag.py.
    """
    since, until = backfilled(worker)
    asked = {"dag_id": TRAINING, "max_active_runs": 1, "from_date": since.isoformat(), "to_date": until.isoformat()}
    airflow("POST", "/api/v2/backfills", asked)
    first, last = since.date(), until.date()
    query = f"/api/v2/dags/{TRAINING}/dagRuns?run_type=backfill&order_by=logical_date"

    def created() -> list[dict[str, Any]] | None:
        runs: list[dict[str, Any]] = airflow("GET", query)["dag_runs"]
        return runs if len(runs) == len(backfilled(worker)) else None

    def validated(run: dict[str, Any]) -> bool | None:
        return airflow.tasks(run).get("validate") == "success" or None

    runs = eventually(created, airflow)
    for run in runs:
        eventually(partial(validated, run), airflow)
        airflow.change(f"/api/v2/dags/{TRAINING}/dagRuns/{run['dag_run_id']}", {"state": "failed"})
    engine = connect(worker.store_url)
    taken = {row["day"]: row["rows"] for row in snapshots(engine)}
    for day, each in zip((first, last), runs, strict=True):
        assert airflow.instances(each)["validate"]["rendered_fields"]["arguments"] == ["--base-dt", day.isoformat()]
        assert taken[day] == expected_rows(engine, worker, day)
    # Each of them, and the run of today before them, has its own.
    assert set(taken) == {first, last, worker.today()}
    engine.dispose()
    return runs


def snapshots(engine: Engine) -> list[dict[str, Any]]:
    """Return the days that have a snapshot, with its rows."""
    day = TABLES.snapshot.c[CONTRACT.snapshot_date]
    with engine.connect() as connection:
        query = select(day.label("day"), func.count().label("rows")).group_by(day)
        return [dict(row) for row in connection.execute(query).mappings()]


def expected_rows(engine: Engine, worker: Settings, day: date) -> int:
    """Return how many rows a snapshot of a day has: those with a label in its window, and features."""
    window = snapshot_parameters(day, months=worker.snapshot_months, keep_days=worker.snapshot_keep_days)
    keys = (CONTRACT.key.name, CONTRACT.group.name)
    known = {tuple(row[key] for key in keys) for row in rows_of(engine, TABLES.features)}
    labels = rows_of(engine, TABLES.labels)
    return sum(
        window["first_label_day"] <= row[CONTRACT.event_date.name] <= day and tuple(row[key] for key in keys) in known
        for row in labels
    )


def report(airflow: Airflow, worker: Settings, scheduled: datetime, predicted: date) -> dict[str, Any]:
    """Wait for the scheduled run: it has the day of its schedule, and its report the day that has a prediction."""
    (run,) = eventually(lambda: airflow.finished(REPORT, "scheduled"), airflow)
    assert run["state"] == "success", airflow.tasks(run)
    assert datetime.fromisoformat(run["logical_date"]) == scheduled
    arguments = airflow.instances(run)["daily"]["rendered_fields"]["arguments"]
    assert arguments == ["--base-dt", scheduled.date().isoformat(), "--period", "daily"]
    engine = connect(worker.store_url)
    rows = rows_of(engine, TABLES.performance)
    engine.dispose()
    assert predicted in {row["first_day"] for row in rows if row["period"] == "daily"}
    return run


def metadata(command: "subprocess.Popen[str]") -> dict[str, str]:
    """Return every row of each table of the metadata database of a stack, as text."""
    servers = [each for each in psutil.Process(command.pid).children() if each.name() == "postgres"]
    (arguments,) = [each.cmdline() for each in servers]
    data, port = (arguments[arguments.index(option) + 1] for option in ("-D", "-p"))
    password = (Path(data).parent / "password").read_text()
    engine = create_engine(URL.create("postgresql+psycopg2", "airflow", password, "127.0.0.1", int(port), "postgres"))
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        rows = {name: connection.scalars(text(f'SELECT each::text FROM "{name}" each')).all() for name in tables}  # noqa: S608 - names of tables
    engine.dispose()
    return {name: "\n".join(found) for name, found in rows.items()}
