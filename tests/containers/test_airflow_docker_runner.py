"""Stages that Airflow runs in containers of the image for training."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from support.containers import CT, docker, volume_with
from support.dag_runs import prepare, run_dag, variable
from support.mariadb import server
from support.workers import working

from ctcd.registry.versions import GATE, PASSED
from ctcd.settings import Settings, StageRunner
from ctcd.stages import connections

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

BUILD = Path(__file__).parents[2] / "build"
DAG = "machine_condition_classification_ct"


@pytest.fixture
def worker() -> Iterator[Settings]:
    """A worker that runs stages in containers."""
    BUILD.mkdir(exist_ok=True)
    prepare()
    with (
        # In the checkout: where tests run in a container, that is what Docker can mount.
        TemporaryDirectory(prefix="worker-", dir=BUILD) as home,
        server() as url,
        working(
            url, Path(home), stage_runner=StageRunner.DOCKER, stage_image=CT, stage_volume=volume_with(Path(home))
        ) as settings,
    ):
        yield settings


def test_a_model_is_trained_and_promoted_in_containers(worker: Settings) -> None:
    """Every stage in a container of its own comes to a champion, in files of the worker's user; no container is left."""
    with variable("model_version", "v1"):
        done = run_dag(DAG)
    assert (done.state, done.tasks["promote"]) == ("success", "success"), done.tasks
    champion = connections.open_registry(worker).champion()
    assert (champion.version, champion.tags[GATE]) == (done.values["gate"]["version"], PASSED)
    owners = {path.stat().st_uid for path in worker.home.rglob("*")}
    assert owners == {os.getuid()}
    shared = worker.stage_volume.rpartition(":")[2] or str(worker.home)
    assert docker("ps", "--all", "--quiet", f"--filter=ancestor={CT}", f"--filter=volume={shared}").stdout == ""
