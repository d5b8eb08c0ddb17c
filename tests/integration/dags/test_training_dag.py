"""Continuous training, run task by task against MariaDB and a real MLflow store."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pymysql
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from sqlalchemy import Engine, make_url, update
from support.dag_runs import Finished, asset_events, load_dag, run_dag, variable
from support.faults import PLANTED, Faults
from support.instance import CONTRACT
from support.snapshots import read_snapshot
from support.stores import TABLES, log_correct_prediction, rows_of

from ctcd.airflow.hook import MariaDbHook
from ctcd.airflow.stage import StageOperator
from ctcd.monitoring.findings import raise_finding
from ctcd.registry.versions import CHAMPION, GATE, PASSED, PREVIOUS, REFUSED, Registry
from ctcd.settings import Settings
from ctcd.stages import connections
from ctcd.store.engine import connect
from ctcd.store.snapshot import take_snapshot

pytestmark = pytest.mark.integration

DAG, ASSET = "machine_condition_classification_ct", "machine_condition_champion"
LONG_AGO = 10
"""Days after which the gate takes a model for out of date, and some."""
TASKS = ("extract", "validate", "monitor", "prepare", "trials", "trial", "finish", "gate", "decide", "promote")
"""All that run where a model is promoted, in their order."""


@pytest.fixture
def store(worker: Settings) -> Iterator[Engine]:
    engine = connect(worker.store_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def registry(worker: Settings) -> Registry:
    return connections.open_registry(worker)


def away(*_: object) -> None:
    raise pymysql.OperationalError(2003, PLANTED)


def aliases(registry: Registry) -> dict[str, str | None]:
    """Return which versions the registry's aliases name."""
    found = {name: registry.find(name) for name in (CHAMPION, PREVIOUS)}
    return {name: info.version if info else None for name, info in found.items()}


@pytest.fixture(scope="module")
def first(registry: Registry, faults: Faults) -> Finished:
    """A run of the weak variant, without a logical date, in which each task fails once."""
    assert registry.find(CHAMPION) is None
    connect_to = MariaDbHook.get_conn
    connections = iter([away])

    def connect_again(hook: MariaDbHook) -> Any:
        return next(connections, connect_to)(hook)

    faults.once(*(name for name in TASKS if name != "extract"))
    with pytest.MonkeyPatch.context() as patch, variable("model_version", "v1"):
        patch.setattr(MariaDbHook, "get_conn", connect_again)
        return run_dag(DAG, faults=faults)


def test_a_first_model_is_promoted(first: Finished, registry: Registry, worker: Settings) -> None:
    """Without a champion, a model that passes the gate becomes the champion; the asset event says which one it is."""
    assert first.state == "success"
    assert first.tasks["promote"] == "success"
    assert first.tasks["not_promoted"] == "skipped"
    champion = registry.champion()
    assert champion.tags[GATE] == PASSED
    assert champion.tags["profile"] == "baseline"
    assert champion.version == first.values["gate"]["version"]
    (event,) = asset_events(ASSET)
    assert event == {
        "version": champion.version,
        "run_id": champion.run_id,
        "base_dt": worker.today().isoformat(),
        "changed": True,
        "before": None,
        "metrics": first.values["gate"]["candidate"],
        "metrics_before": None,
    }
    assert event["metrics"]["macro_f1"] > 0.5


def test_every_task_that_fails_is_retried(first: Finished) -> None:
    """After a store that did not answer, or another temporary fault, the retry of a task succeeds."""
    here = [name if name != "trial" else "trial[0]" for name in TASKS]
    assert {name: first.tries[name] for name in here} == dict.fromkeys(here, 2)
    assert {first.tasks[name] for name in here} == {"success"}


def test_extract_takes_the_snapshot_of_the_stage(first: Finished, worker: Settings, store: Engine) -> None:
    """The DAG's SQL and `ctcd snapshot` take the same rows."""
    day = date.fromisoformat(first.values["monitor"]["snapshot"])
    extracted = read_snapshot(store, CONTRACT, day)
    assert first.values["extract"] == [[len(extracted)]]
    assert len(extracted) > 3_000
    take_snapshot(store, CONTRACT, day, months=worker.snapshot_months, keep_days=worker.snapshot_keep_days)
    assert read_snapshot(store, CONTRACT, day).equals(extracted)


def replay(faults: Faults, done: Finished, tasks: Sequence[str]) -> None:
    """Make commands of the next run return what they returned in another one, so that only the tasks after them run."""
    for name in tasks:
        if name not in ("trials", "decide"):
            faults.says(name, done.values["trial[0]" if name == "trial" else name])


def test_a_permanent_failure_ends_the_run_and_the_next_one_succeeds(
    first: Finished,
    worker: Settings,
    store: Engine,
    said: Callable[[], list[dict[str, Any]]],
    faults: Faults,
) -> None:
    """Whichever task fails, it is not retried, each notice is sent once and no alias moves; then the better model is promoted."""
    weak, registry = first.values["gate"]["version"], connections.open_registry(worker)
    with variable("model_version", "v2"):
        for place, name in enumerate(TASKS[1:], start=1):
            replay(faults, first, TASKS[1:place])
            faults.for_good(name)
            done = run_dag(DAG, faults=faults)
            (broken,) = [task for task, state in done.tasks.items() if state == "failed"]
            assert (done.state, broken.partition("[")[0], done.tries[broken]) == ("failed", name, 1)
            assert [(one["event"], one.get("task"), one.get("error")) for one in said()] == [
                ("task failed", name, PLANTED),
                ("run failed", None, None),
            ]
            assert aliases(registry) == {CHAMPION: weak, PREVIOUS: None}
            assert len(asset_events(ASSET)) == 1
        # As the trigger form sends it if nothing is filled in.
        done = run_dag(DAG, conf={"base_dt": None, "profile": None})
    assert done.state == "success"
    real = done.values["gate"]["version"]
    assert aliases(registry) == {CHAMPION: real, PREVIOUS: weak}
    assert registry.champion().tags["profile"] == "fast"
    assert [event["version"] for event in asset_events(ASSET)] == [weak, real]
    assert done.values["extract"] == [[len(read_snapshot(store, CONTRACT, worker.today()))]]
    assert [one["event"] for one in said()] == ["run succeeded"]


@pytest.fixture
def better(first: Finished, registry: Registry) -> str:
    """A better model than the first one is the champion: that of the test above, unless it was not run."""
    if registry.champion().version == first.values["gate"]["version"]:
        with variable("model_version", "v2"):
            assert run_dag(DAG).state == "success"
    return registry.champion().version


def test_a_worse_model_is_not_promoted(
    better: str, registry: Registry, worker: Settings, faults: Faults, webhook: list[dict[str, Any]]
) -> None:
    """A refused model ends in a successful run that shows the reasons; champion and asset stay, the refusal is recorded."""
    before = aliases(registry)
    assert before[CHAMPION] == better
    day = {"base_dt": worker.today().isoformat(), "profile": "baseline"}
    with variable("model_version", "v2"):
        done = run_dag(DAG, conf=day)
        replay(faults, done, TASKS[1:-1])
        faults.for_good("not_promoted")
        failed = run_dag(DAG, conf=day, faults=faults)
    assert (failed.state, failed.tasks["not_promoted"], failed.tries["not_promoted"]) == ("failed", "failed", 1)
    assert [said.get("task") for said in webhook if said["event"] == "task failed"] == ["not_promoted"]
    assert done.state == "success"
    assert done.tasks["promote"] == "skipped"
    assert done.tasks["not_promoted"] == "success"
    refused = registry.info(done.values["gate"]["version"])
    assert (refused.tags[GATE], refused.tags["profile"]) == (REFUSED, "baseline")
    assert done.values["not_promoted"] == done.values["gate"]["reasons"] != []
    assert aliases(registry) == before
    assert len(asset_events(ASSET)) == 2


def test_a_model_for_a_day_long_past_is_not_promoted(registry: Registry, worker: Settings, store: Engine) -> None:
    """A run for the day of a backfill trains on the snapshot of that day; its model is out of date, and the champion stays."""
    before, events = aliases(registry), asset_events(ASSET)
    day = worker.today() - timedelta(days=LONG_AGO)
    due = datetime.combine(day, time(3), ZoneInfo(worker.timezone))
    with variable("model_version", "smoke"):
        done = run_dag(DAG, logical_date=due)
    assert (done.state, done.tasks["not_promoted"], done.tasks["promote"]) == ("success", "success", "skipped")
    assert done.values["extract"] == [[len(read_snapshot(store, CONTRACT, day))]]
    assert any(reason.startswith("days since the training data") for reason in done.values["not_promoted"])
    assert registry.info(done.values["gate"]["version"]).tags["base_dt"] == day.isoformat()
    assert aliases(registry) == before
    assert asset_events(ASSET) == events


def test_the_champion_scores_every_machine_once(
    first: Finished, registry: Registry, store: Engine, faults: Faults, webhook: list[dict[str, Any]]
) -> None:
    """Batch scoring, after a permanent and a temporary failure, gives each machine one row; the next run finds nothing to do."""
    assert first.state == "success"
    machines = {row[CONTRACT.group.name] for row in rows_of(store, TABLES.features)}
    faults.for_good("score")
    done = run_dag("machine_condition_batch_scoring")
    assert (done.state, done.tries["score"], rows_of(store, TABLES.scores)) == ("failed", 1, [])
    faults.once("score")
    done = run_dag("machine_condition_batch_scoring")
    assert (done.state, done.tries["score"]) == ("success", 2)
    assert [said["event"] for said in webhook] == [
        "task failed",
        "run failed",
        "task will be retried",
        "run succeeded",
    ]
    assert done.values["score"]["rows"] == len(machines)
    rows = rows_of(store, TABLES.scores)
    assert {row[CONTRACT.group.name] for row in rows} == machines
    assert {row["model_version"] for row in rows} == {registry.champion().version}
    again = run_dag("machine_condition_batch_scoring")
    assert (again.state, again.values["score"]["rows"]) == ("success", 0)
    assert rows_of(store, TABLES.scores) == rows


def test_predictions_are_compared_with_labels(
    worker: Settings,
    store: Engine,
    faults: Faults,
    webhook: list[dict[str, Any]],
) -> None:
    """The report, after a permanent and a temporary failure, has a row for each day and each week in which predictions were made.

    The log is copied to the warehouse.
    """
    label = rows_of(store, TABLES.labels)[0]
    day = label[CONTRACT.event_date.name]
    log_correct_prediction(store, label, worker.timezone)
    conf = {"base_dt": (day + timedelta(days=8)).isoformat()}
    faults.for_good("daily", "weekly")
    done = run_dag("machine_condition_performance_report", conf=conf)
    others = {"drift_daily": 1, "drift_weekly": 1, "export": 1}
    after = ("due", "is_due", "report", "start_training")
    tries = {name: tries for name, tries in done.tries.items() if name not in after}
    assert (done.state, tries, rows_of(store, TABLES.performance)) == ("failed", others | {"daily": 1, "weekly": 1}, [])
    assert {done.tasks[name] for name in after} == {"upstream_failed"}
    faults.once("daily", "weekly")
    done = run_dag("machine_condition_performance_report", conf=conf)
    tries = {name: tries for name, tries in done.tries.items() if name not in after}
    assert (done.state, tries) == ("success", others | {"daily": 2, "weekly": 2})
    assert done.values["due"]["why"].endswith("the setting train_on_findings is off")
    assert done.tasks["start_training"] == "skipped"
    [exported] = done.values["export"]["days"]
    assert (exported["day"], exported["rows"]) == (day.isoformat(), 1)
    assert pq.read_table(worker.home / "warehouse" / exported["file"])["request_id"].to_pylist() == ["a"]
    # Rows of the store are judged, too, if there is a champion.
    [sample] = [each for each in done.values["drift_weekly"]["samples"] if each["source"] == "predictions"]
    assert (sample["rows"], sample["verdict"]) == (1, "too few rows")
    assert sorted(said["event"] for said in webhook) == [
        "run failed",
        "run succeeded",
        "task failed",
        "task failed",
        "task will be retried",
        "task will be retried",
    ]
    assert "accuracy 1.0000" in (worker.reports / "site" / "index.html").read_text()
    rows = rows_of(store, TABLES.performance)
    assert [(row["period"], row["predictions"], row["accuracy"]) for row in rows] == [
        ("daily", 1, 1.0),
        ("weekly", 1, 1.0),
    ]
    assert rows[0]["first_day"] == day
    assert rows[1]["first_day"] <= day <= rows[1]["last_day"]


def test_a_report_is_backfilled_and_run_again(worker: Settings, store: Engine) -> None:
    """Runs of past days, the later one first, report on the days before their own; once more, rows and findings are the same."""
    label = rows_of(store, TABLES.labels)[0]
    day = label[CONTRACT.event_date.name]
    log_correct_prediction(store, label, worker.timezone)
    recorded = []
    for later in (9, 8, 8):
        base_dt = day + timedelta(days=later)
        due = datetime.combine(base_dt, time(6), ZoneInfo(worker.timezone))
        done = run_dag("machine_condition_performance_report", logical_date=due)
        assert done.state == "success"
        [row] = [each for each in done.values["daily"]["rows"] if each["first_day"] == day.isoformat()]
        assert (row["predictions"], row["accuracy"]) == (1, 1.0)
        assert done.values["drift_daily"]["first_day"] == (base_dt - timedelta(days=1)).isoformat()
        assert done.values["drift_weekly"]["last_day"] < base_dt.isoformat()
        assert [each["day"] for each in done.values["export"]["days"]] == [day.isoformat()]
        tables = (TABLES.performance, TABLES.drift, TABLES.findings)
        recorded.append(
            {
                table.name: [{k: v for k, v in row.items() if k != "computed_at"} for row in rows_of(store, table)]
                for table in tables
            }
        )
    assert recorded[1] == recorded[2]
    for rows in recorded[1:]:
        daily = [each for each in rows[TABLES.performance.name] if each["period"] == "daily"]
        assert [(each["first_day"], each["predictions"], each["accuracy"]) for each in daily] == [(day, 1, 1.0)]


@pytest.mark.usefixtures("worker")
def test_findings_that_another_monitor_took_up_start_no_second_training() -> None:
    """Between the question whether one is due and its start: the task is skipped, and emits no event."""
    start = load_dag("machine_condition_performance_report").get_task("start_training")
    assert isinstance(start, StageOperator)
    assert start.asset_event is not None
    with pytest.raises(AirflowSkipException, match="not due any more: started today"):
        start.asset_event({"due": False, "why": "started today", "findings": []}, {})


def test_a_finding_starts_a_training(
    worker: Settings,
    store: Engine,
    said: Callable[[], list[dict[str, Any]]],
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its asset, on which continuous training is scheduled; not before it is switched on, nor again in the cool-down.

    A finding is posted to the webhook when it is raised, and when it starts a training, in any try of the task.
    """
    asset = "machine_condition_finding"
    schedule: Any = load_dag(DAG).timetable
    assert [each.name for each in schedule.asset_condition.objects] == [asset]
    finding = {"kind": "drift", "subject": "temperature"}
    raised = raise_finding(store, CONTRACT, **finding, evidence={"psi": 0.4}, day=worker.today())
    for allowed, started, new in (("false", "skipped", True), ("true", "success", False), ("true", "skipped", False)):
        monkeypatch.setenv("CTCD_TRAIN_ON_FINDINGS", allowed)
        before = asset_events(asset)
        faults.says("drift_daily", {"findings": [finding | {"new": new}]})
        if started == "success":
            faults.once("start_training")
        done = run_dag("machine_condition_performance_report", faults=faults)
        assert (done.state, done.tasks["start_training"]) == ("success", started)
        reported = [(one["event"], one["about"]) for one in said() if "about" in one]
        if new:
            assert reported == [("findings raised", ["drift: temperature"])]
        if started == "success":
            [event] = asset_events(asset)[len(before) :]
            assert event == {"findings": [raised.id], "why": "drift: temperature"}
            assert reported == [("training started", ["drift: temperature"])]
            raise_finding(store, CONTRACT, kind="drift", subject="power", evidence={}, day=worker.today())
        else:
            assert asset_events(asset) == before
    assert f"a finding started a training on {worker.today()}" in done.values["due"]["why"]


@pytest.mark.usefixtures("worker")
def test_a_challenger_is_judged(faults: Faults, webhook: list[dict[str, Any]]) -> None:
    """Without one there is nothing to do; a withdrawn one is posted to the webhook, and a promoted one is deployed."""
    before = asset_events(ASSET)
    done = run_dag("machine_condition_traffic", faults=faults)
    assert (done.state, done.tasks["promoted"]) == ("success", "skipped")
    assert (done.values["judge"]["verdict"], done.values["judge"]["why"]) == (None, "no experiment runs")
    said = {"verdict": "withdraw", "why": "errors: worse", "experiment": {"version": "8"}}
    finding = {"kind": "challenger", "subject": "version 8", "new": True}
    faults.says("judge", said | {"done": "withdrawn", "findings": [finding]})
    assert run_dag("machine_condition_traffic", faults=faults).tasks["promoted"] == "skipped"
    assert [one["about"] for one in webhook if one["event"] == "findings raised"] == [["challenger: version 8"]]
    assert asset_events(ASSET) == before
    faults.says(
        "judge", said | {"verdict": "promote", "why": "it keeps every limit", "done": "promoted", "findings": []}
    )
    assert run_dag("machine_condition_traffic", faults=faults).tasks["promoted"] == "success"
    [event] = asset_events(ASSET)[len(before) :]
    assert event == {"version": "8", "why": "it keeps every limit"}


def test_a_day_without_rows_changes_nothing(worker: Settings, store: Engine, webhook: list[dict[str, Any]]) -> None:
    """A day without data fails at once, without a retry; earlier snapshots stay, and the webhook is called."""
    before = rows_of(store, TABLES.snapshot)
    # It would expire those that are there.
    done = run_dag(DAG, conf={"base_dt": "2035-01-01"})
    assert done.state == "failed"
    assert (done.tasks["extract"], done.tries["extract"]) == ("failed", 1)
    assert done.tasks["gate"] == "upstream_failed"
    assert rows_of(store, TABLES.snapshot) == before
    assert [(said["event"], said.get("task"), said["base_dt"]) for said in webhook] == [
        ("task failed", "extract", "2035-01-01"),
        ("run failed", None, "2035-01-01"),
    ]
    assert "nothing was changed" in webhook[0]["error"]
    assert worker.today() != date(2035, 1, 1)


def test_data_that_breaks_the_contract_stops_the_run(
    worker: Settings, store: Engine, webhook: list[dict[str, Any]]
) -> None:
    """A value outside its bounds fails validation at once, and the notice names column and rule."""
    bounded = next(column for column in CONTRACT.model_inputs if column.maximum is not None)
    assert bounded.maximum is not None
    features = TABLES.features
    key = features.c[CONTRACT.key.name]
    row = rows_of(store, features)[0]
    broken, mended = ({bounded.name: value} for value in (bounded.maximum + 1, row[bounded.name]))
    here = key == row[CONTRACT.key.name]
    with store.begin() as connection:
        connection.execute(update(features).where(here).values(broken))
    try:
        done = run_dag(DAG)
    finally:
        with store.begin() as connection:
            connection.execute(update(features).where(here).values(mended))
    assert done.state == "failed"
    assert (done.tasks["extract"], done.tasks["validate"], done.tries["validate"]) == ("success", "failed", 1)
    assert webhook[0]["task"] == "validate"
    assert bounded.name in webhook[0]["error"]
    assert worker.store_url not in str(webhook)


def test_a_secret_in_a_foreign_error_is_shown_nowhere(
    worker: Settings, faults: Faults, said: Callable[[], list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    """The store's password in the error message of a command, as of a library, is masked in the webhook and in the UI."""
    password = make_url(worker.store_url).password
    assert password
    faults.for_good("validate", words=f"no answer from mysql://tester:{password}@db")
    done = run_dag(DAG, faults=faults)
    assert (done.state, done.tasks["validate"]) == ("failed", "failed")
    lines = [line.getMessage() for line in caplog.records]
    assert any("no answer from mysql://tester:" in line for line in lines)
    for text in (json.dumps(said()), done.shown):
        assert "no answer from mysql://tester:***@db" in text
        assert password not in text
