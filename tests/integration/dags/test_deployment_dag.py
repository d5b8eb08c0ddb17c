"""Continuous deployment of real Bentos, each served by a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dag_runs import Finished, run_dag
from support.faults import Faults, Runner
from support.load import wait
from support.marks import API_KEY
from support.stores import TABLES, count
from support.warm_commands import report_of

from ctcd.deployment import client
from ctcd.deployment.smoke import PROBES
from ctcd.deployment.target import TargetName
from ctcd.model.trees import MODEL_FILE
from ctcd.registry.versions import CHAMPION, ROLLBACK_REASON, ROLLED_BACK, Registry
from ctcd.settings import Settings
from ctcd.stages import connections, data, deployment
from ctcd.store.engine import connect

pytestmark = pytest.mark.integration

DAG = "machine_condition_classification_cd"
SHIPPED_SECONDS = 30


@pytest.fixture(scope="module")
def registry(worker: Settings) -> Iterator[Registry]:
    """The registry; at the end the deployment is stopped."""
    yield connections.open_registry(worker)
    deployment.stop(worker, target=TargetName.PROCESS)


def promote(settings: Settings, commands: Runner, profile: str) -> str:
    """Train and promote a version."""
    day = settings.today().isoformat()
    trained = report_of(commands, settings, "train", "--base-dt", day, "--profile", profile)
    outcome = report_of(commands, settings, "gate", "--run-id", trained["run_id"])
    return str(report_of(commands, settings, "promote", "--version", outcome["version"])["version"])


def answering(settings: Settings) -> str | None:
    """Return the version that the service reports; None if no service answers."""
    info = client.model_info(settings.service_url, API_KEY)
    return str(info["version"]) if info else None


def states(done: Finished) -> dict[str, str | None]:
    return {name: done.tasks[name] for name in ("deploy", "smoke", "up_to_date", "rollback", "failed")}


UP_TO_DATE = {
    "deploy": "skipped",
    "smoke": "skipped",
    "up_to_date": "success",
    "rollback": "skipped",
    "failed": "skipped",
}
DEPLOYED = {
    "deploy": "success",
    "smoke": "success",
    "up_to_date": "skipped",
    "rollback": "skipped",
    "failed": "skipped",
}


@pytest.fixture(scope="module")
def nothing(worker: Settings, registry: Registry, faults: Faults) -> Finished:
    """A run without a champion, in which every task fails once."""
    data.snapshot(worker, worker.today())
    assert registry.find(CHAMPION) is None
    faults.once("check", "decide", "up_to_date", "is_broken")
    return run_dag(DAG, faults=faults)


@pytest.fixture(scope="module")
def first(nothing: Finished, worker: Settings, commands: Runner, faults: Faults) -> tuple[str, Finished]:
    """The first champion, and the run that deployed it, in which every task of the deployment failed once."""
    assert nothing.state == "success"
    version = promote(worker, commands, "baseline")
    faults.once("deploy", "smoke")
    return version, run_dag(DAG, faults=faults)


@pytest.fixture(scope="module")
def second(first: tuple[str, Finished], worker: Settings, commands: Runner) -> str:
    """A better champion, which is not deployed."""
    assert first[0] == answering(worker)
    return promote(worker, commands, "fast")


def test_without_a_champion_nothing_is_deployed(nothing: Finished) -> None:
    """A run without a champion succeeds and says that there is none, even if each of its tasks had to be retried."""
    assert (nothing.state, states(nothing)) == ("success", UP_TO_DATE)
    assert {nothing.tries[name] for name in ("check", "decide", "up_to_date", "is_broken")} == {2}
    assert nothing.values["up_to_date"] == "there is no champion yet"


def test_without_a_service_the_champion_is_deployed(
    first: tuple[str, Finished], worker: Settings, registry: Registry
) -> None:
    """The first champion is deployed, and its probes reach the prediction log, even if each task had to be retried.

    The history names the run of the DAG.
    """
    version, done = first
    assert (done.state, states(done)) == ("success", DEPLOYED)
    assert (done.tries["deploy"], done.tries["smoke"]) == (2, 2)
    assert answering(worker) == version
    assert done.values["smoke"]["problems"] == []
    assert_logged(worker, PROBES)
    [deployed] = [each for each in registry.changes() if each.target]
    assert (deployed.version, deployed.target.partition(" ")[0]) == (version, "process")
    assert deployed.why == f"DAG run {done.run_id}"


def test_a_permanent_failure_is_not_retried_and_changes_nothing(
    first: tuple[str, Finished], worker: Settings, faults: Faults, webhook: list[dict[str, Any]]
) -> None:
    """A permanent failure of a check or of the rollback fails the run, and the notice names it; the next run succeeds."""
    deployed = worker.deployment.read_text()
    for name in ("check", "decide", "up_to_date", "is_broken"):
        webhook.clear()
        faults.for_good(name)
        done = run_dag(DAG, faults=faults)
        assert (done.state, done.tasks[name], done.tries[name]) == ("failed", "failed", 1)
        assert [(said["event"], said.get("task")) for said in webhook] == [("task failed", name), ("run failed", None)]
        assert {done.tasks[task] for task in ("deploy", "smoke", "rollback")} <= {"skipped", "upstream_failed"}

    webhook.clear()
    faults.says("check", {"action": "deploy", "reason": "planted", "champion": first[0]})
    faults.says("deploy", {"changed": False})
    faults.for_good("smoke", "rollback")
    done = run_dag(DAG, faults=faults)
    assert (done.state, done.tasks["rollback"], done.tries["rollback"]) == ("failed", "failed", 1)
    assert done.tasks["failed"] == "upstream_failed"
    assert [said.get("task") for said in webhook] == ["smoke", "rollback", None]

    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", UP_TO_DATE)
    assert done.values["up_to_date"] == f"version {first[0]} is deployed already"
    assert worker.deployment.read_text() == deployed
    assert answering(worker) == first[0]


def test_a_version_that_fails_its_probes_is_rolled_back(
    first: tuple[str, Finished],
    second: str,
    worker: Settings,
    monkeypatch: pytest.MonkeyPatch,
    webhook: list[dict[str, Any]],
) -> None:
    """A service that does not answer in time is replaced by the one before it; registry and notice have the reason."""
    registry = connections.open_registry(worker)
    with monkeypatch.context() as broken:
        broken.setenv("CTCD_REQUEST_SECONDS", "0.000001")
        done = run_dag(DAG)
    assert done.state == "failed"
    assert states(done) == {
        "deploy": "success",
        "smoke": "failed",
        "up_to_date": "skipped",
        "rollback": "success",
        "failed": "failed",
    }
    assert (done.tries["smoke"], done.values["deploy"]["before"]) == (1, first[0])
    assert registry.champion().version == answering(worker) == first[0]
    rolled_back_tags = registry.info(second).tags
    assert ROLLED_BACK in rolled_back_tags
    assert "it answers 504" in rolled_back_tags[ROLLBACK_REASON]
    (failed,) = [said for said in webhook if said.get("task") == "failed"]
    assert failed["error"].startswith(f"version {second}: ")
    assert failed["error"].endswith(f"version {first[0]} is back")


def test_a_version_that_cannot_start_leaves_the_old_one_and_is_deployed_once_repaired(
    first: tuple[str, Finished], second: str, worker: Settings, registry: Registry, faults: Faults
) -> None:
    """If the files of a champion are damaged, the old version stays deployed; the run after their repair deploys it."""
    registry.rollback(second, reason="the service was slow, not the model")
    damaged = damage(worker, registry, second)
    faults.once("rollback")
    done = run_dag(DAG, faults=faults)
    for path, trees in damaged.items():
        path.write_bytes(trees)
    assert done.state == "failed"
    assert (done.tasks["deploy"], done.tasks["smoke"], done.tries["deploy"]) == ("failed", "upstream_failed", 1)
    assert (done.tasks["rollback"], done.tries["rollback"]) == ("success", 2)
    assert answering(worker) == first[0]

    # The deployment is older than the champion.
    done = run_dag(DAG)
    assert (done.state, states(done)) == ("success", DEPLOYED)
    assert done.values["deploy"]["before"] == first[0]
    assert registry.champion().version == answering(worker) == second


def damage(settings: Settings, registry: Registry, version: str) -> dict[Path, bytes]:
    """Overwrite the trees of a version where MLflow keeps them; return what was there."""
    trees = (registry.fetch_scorer(version, settings.home / "to-be-damaged") / MODEL_FILE).read_bytes()
    kept = {path: trees for path in settings.artifacts.rglob(MODEL_FILE) if path.read_bytes() == trees}
    assert kept
    for path in kept:
        path.write_bytes(b"damaged")
    return kept


def assert_logged(settings: Settings, least: int) -> None:
    """Wait until the service has shipped its answers to MariaDB."""
    engine = connect(settings.store_url)
    wait(lambda: count(engine, TABLES.predictions) >= least, SHIPPED_SECONDS)
    assert count(engine, TABLES.predictions) == least
    engine.dispose()
