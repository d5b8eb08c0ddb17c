"""Continuous deployment of real Bentos, each served by a process of its own."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dag_runs import Finished, run_dag
from support.stores import TABLES, count

from credit_score import stages
from credit_score.deployment import api
from credit_score.deployment.smoke import PROBES
from credit_score.model.scorer import MODEL_FILE
from credit_score.promotion.registry import ROLLBACK_REASON, ROLLED_BACK, Registry
from credit_score.settings import Settings
from credit_score.store.engine import connect

pytestmark = pytest.mark.integration

DAG = "credit_score_classification_cd"
SHIPPED_SECONDS = 30


@pytest.fixture(scope="module")
def registry(worker: Settings) -> Iterator[Registry]:
    """The registry; at the end nothing is left deployed."""
    yield stages.open_registry(worker)
    stages.stop_deployment(worker, target="process")


def promote(settings: Settings, profile: str) -> str:
    """Train and promote a version."""
    day = settings.today()
    trained = stages.train(settings, day, profile=profile)
    outcome = stages.gate(settings, run_id=trained.run_id)
    assert outcome.promote, outcome.reasons
    return stages.promote(settings, version=outcome.version).version


def answering(settings: Settings) -> str | None:
    """Return the version that answers."""
    info = api.model_info(stages.service_url(settings))
    return str(info["version"]) if info else None


def states(done: Finished) -> dict[str, str | None]:
    return {name: done.tasks[name] for name in ("deploy", "smoke", "up_to_date", "revert", "failed")}


UP_TO_DATE = {
    "deploy": "skipped",
    "smoke": "skipped",
    "up_to_date": "success",
    "revert": "skipped",
    "failed": "skipped",
}
DEPLOYED = {"deploy": "success", "smoke": "success", "up_to_date": "skipped", "revert": "skipped", "failed": "skipped"}


def test_deployments_follow_the_champion(
    worker: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch, webhook: list[dict[str, Any]]
) -> None:
    """Nothing is deployed without a champion, each new one is, the same is not, and one that fails is taken back."""
    stages.snapshot(worker, worker.today())
    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", UP_TO_DATE)
    assert done.values["up_to_date"] == "there is no champion yet"

    # The first one: nothing answers.
    first = promote(worker, "baseline")
    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", DEPLOYED)
    assert answering(worker) == first
    assert done.values["smoke"]["problems"] == []
    assert_logged(worker, PROBES)

    # The same again.
    deployed = worker.deployment.read_text()
    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", UP_TO_DATE)
    assert done.values["up_to_date"] == f"version {first} is deployed already"
    assert worker.deployment.read_text() == deployed

    # A better one, in a service that cannot answer in time: it is taken back.
    second = promote(worker, "fast")
    assert webhook[-1]["event"] == "run succeeded"
    with monkeypatch.context() as broken:
        broken.setenv("CREDIT_SCORE_REQUEST_SECONDS", "0.000001")
        done = run_dag(DAG)
    assert done.state == "failed"
    assert states(done) == {
        "deploy": "success",
        "smoke": "failed",
        "up_to_date": "skipped",
        "revert": "success",
        "failed": "failed",
    }
    assert done.tries["smoke"] == 1
    assert registry.champion().version == answering(worker) == first
    taken_back = registry.info(second).tags
    assert ROLLED_BACK in taken_back
    assert "it answers 504" in taken_back[ROLLBACK_REASON]
    failed = next(said for said in webhook if said.get("task") == "failed")
    assert failed["error"].startswith(f"version {second}: ")
    assert failed["error"].endswith(f"version {first} is back")

    # A person wants it nevertheless, but its files are damaged, so that it cannot start: what was there stays deployed.
    registry.rollback(second, reason="the service was slow, not the model")
    damaged = damage(worker, registry, second)
    done = run_dag(DAG)
    assert done.state == "failed"
    assert (done.tasks["deploy"], done.tasks["smoke"], done.tries["deploy"]) == ("failed", "upstream_failed", 1)
    assert answering(worker) == first

    # Mended: the deployment, which is older than the champion now, follows.
    for path, trees in damaged.items():
        path.write_bytes(trees)
    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", DEPLOYED)
    assert done.values["deploy"]["before"] == first
    assert answering(worker) == second


def damage(settings: Settings, registry: Registry, version: str) -> dict[Path, bytes]:
    """Overwrite the trees of a version where MLflow keeps them; return what was there."""
    trees = (registry.scorer_folder(version, settings.home / "to-be-damaged") / MODEL_FILE).read_bytes()
    kept = {path: trees for path in settings.artifacts.rglob(MODEL_FILE) if path.read_bytes() == trees}
    assert kept
    for path in kept:
        path.write_bytes(b"damaged")
    return kept


def assert_logged(settings: Settings, least: int) -> None:
    """Wait until the service has shipped its answers to MariaDB."""
    engine = connect(settings.store_url)
    end = time.monotonic() + SHIPPED_SECONDS
    while count(engine, TABLES.predictions) < least and time.monotonic() < end:
        time.sleep(0.2)
    assert count(engine, TABLES.predictions) == least
    engine.dispose()
