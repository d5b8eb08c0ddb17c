"""Continuous training, run task by task against MariaDB and a real MLflow store."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pymysql
import pytest
from sqlalchemy import Engine, update
from support.dag_runs import Finished, asset_events, run_dag
from support.stores import TABLES, rows_of

from contracts.features import CONTRACT
from credit_score import stages
from credit_score.airflow import runners, stage
from credit_score.airflow.hook import MariaDbHook
from credit_score.promotion.registry import CHAMPION, GATE, PASSED, REFUSED, Registry
from credit_score.settings import Settings
from credit_score.store.engine import connect
from credit_score.store.predictions import LoggedPrediction, append
from credit_score.store.snapshot import read_snapshot, take_snapshot

pytestmark = pytest.mark.integration

DAG = "credit_score_classification_ct"
STAGES = ("validate", "watch", "prepare", "trial[0]", "finish", "gate", "promote")
PLANTED = "planted: the store is away"


@pytest.fixture
def store(worker: Settings) -> Iterator[Engine]:
    engine = connect(worker.store_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def registry(worker: Settings) -> Registry:
    return stages.open_registry(worker)


def fail_once(work: Callable[..., Any], fail: Callable[..., Any], key: Callable[..., str]) -> Callable[..., Any]:
    """Return work whose first call with each key fails."""
    seen: set[str] = set()

    def first_time_fails(*arguments: Any, **named: Any) -> Any:
        name = key(*arguments)
        if name in seen:
            return work(*arguments, **named)
        seen.add(name)
        return fail(*arguments, **named)

    return first_time_fails


def away(*_: object) -> None:
    raise pymysql.OperationalError(2003, PLANTED)


@pytest.fixture(scope="module")
def first(registry: Registry) -> Finished:
    """A run of the weak variant, without a logical date, in which every task that reaches out fails once."""
    assert registry.find(CHAMPION) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_VAR_MODEL_VERSION", "v1")
        failing = ["/bin/sh", "-c", f"echo 'error: {PLANTED}' >&2; exit 6"]
        patch.setattr(
            stage,
            "runner",
            fail_once(
                runners.runner,
                lambda *_: (failing, {}),
                lambda verb, _: " ".join(verb[: 2 if verb[0] == "training" else 1]),
            ),
        )
        patch.setattr(MariaDbHook, "get_conn", fail_once(MariaDbHook.get_conn, away, lambda _: "extract"))
        return run_dag(DAG)


def test_a_first_model_is_promoted(first: Finished, registry: Registry) -> None:
    """Where there is no champion, a model that passes the gate becomes it, and the asset's event says which and how good."""
    assert first.state == "success"
    assert first.tasks["promote"] == "success"
    assert first.tasks["not_promoted"] == "skipped"
    champion = registry.champion()
    assert champion.tags[GATE] == PASSED
    assert champion.tags["profile"] == "baseline"
    assert champion.version == first.values["gate"]["version"]
    (event,) = asset_events("champion")
    assert event == {"version": champion.version, "changed": True, "metrics": first.values["gate"]["candidate"]}
    assert event["metrics"]["macro_f1"] > 0.5


def test_every_task_that_fails_is_tried_again(first: Finished) -> None:
    """A store that is away fails a task for a while only: the retry comes to the same end."""
    assert {name: first.tries[name] for name in ("extract", *STAGES)} == dict.fromkeys(("extract", *STAGES), 2)
    assert {first.tasks[name] for name in ("extract", *STAGES)} == {"success"}


def test_extract_takes_the_snapshot_of_the_stage(first: Finished, worker: Settings, store: Engine) -> None:
    """The DAG's SQL and `credit-score snapshot` take the same rows."""
    day = date.fromisoformat(first.values["watch"]["snapshot"])
    extracted = read_snapshot(store, CONTRACT, day)
    assert first.values["extract"] == [[len(extracted)]]
    assert len(extracted) > 3_000
    take_snapshot(store, CONTRACT, day, months=worker.snapshot_months, keep_days=worker.snapshot_keep_days)
    assert read_snapshot(store, CONTRACT, day).equals(extracted)


def test_a_worse_model_is_not_promoted(
    first: Finished, registry: Registry, worker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused model ends in a successful run that shows the reasons; champion and asset stay, the refusal is recorded."""
    champion = registry.champion().version
    assert champion == first.values["gate"]["version"]
    monkeypatch.setenv("AIRFLOW_VAR_MODEL_VERSION", "smoke")
    done = run_dag(DAG, conf={"base_dt": worker.today().isoformat()})
    assert done.state == "success"
    assert done.tasks["promote"] == "skipped"
    assert done.tasks["not_promoted"] == "success"
    refused = registry.info(done.values["gate"]["version"])
    assert refused.tags[GATE] == REFUSED
    assert done.values["not_promoted"] == done.values["gate"]["reasons"] != []
    assert registry.champion().version == champion
    assert len(asset_events("champion")) == 1
    assert {done.tries[name] for name in STAGES if name != "promote"} == {1}


def test_the_champion_scores_every_customer_once(first: Finished, registry: Registry, store: Engine) -> None:
    """Batch scoring gives each customer a row with the champion's version; the next run finds nothing to do."""
    assert first.state == "success"
    customers = {row[CONTRACT.group.name] for row in rows_of(store, TABLES.features)}
    done = run_dag("credit_score_batch_scoring")
    assert done.state == "success"
    assert done.values["score"]["rows"] == len(customers)
    rows = rows_of(store, TABLES.scores)
    assert {row[CONTRACT.group.name] for row in rows} == customers
    assert {row["model_version"] for row in rows} == {registry.champion().version}
    again = run_dag("credit_score_batch_scoring")
    assert (again.state, again.values["score"]["rows"]) == ("success", 0)
    assert rows_of(store, TABLES.scores) == rows


def test_predictions_are_compared_with_labels(worker: Settings, store: Engine) -> None:
    """The report has a row for each day and each whole week in which predictions were made."""
    label = rows_of(store, TABLES.labels)[0]
    day = label[CONTRACT.event_date.name]
    noon = datetime.combine(day, time(12), ZoneInfo(worker.timezone))
    right = LoggedPrediction(
        request_id="a",
        group=label[CONTRACT.group.name],
        features={},
        prediction=label[CONTRACT.label.name],
        confidence=0.9,
        model_version="1",
        elapsed_ms=1.0,
        created_at=noon,
    )
    append(store, CONTRACT, [right])
    done = run_dag("credit_score_performance_report", conf={"base_dt": (day + timedelta(days=8)).isoformat()})
    assert done.state == "success"
    rows = rows_of(store, TABLES.performance)
    assert [(row["period"], row["predictions"], row["accuracy"]) for row in rows] == [
        ("daily", 1, 1.0),
        ("weekly", 1, 1.0),
    ]
    assert rows[0]["first_day"] == day
    assert rows[1]["first_day"] <= day <= rows[1]["last_day"]


def test_a_day_without_rows_changes_nothing(worker: Settings, store: Engine, webhook: list[dict[str, Any]]) -> None:
    """A day without data fails at once, without a retry; the snapshots that were there stay, and the webhook is told."""
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
