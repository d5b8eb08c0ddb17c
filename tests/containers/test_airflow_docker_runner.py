"""Stages that Airflow runs in containers of the image for training, with the tests' instance in it."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from support.containers import docker, volume_with
from support.dag_runs import prepare, run_dag, variable
from support.images import training_image
from support.instance import CONTRACT
from support.mariadb import server
from support.workers import working

from ctcd.registry.versions import GATE, PASSED
from ctcd.settings import Settings, StageRunner
from ctcd.stages import connections

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

BUILD = Path(__file__).parents[2] / "build"
DAG = f"{CONTRACT.name}_classification_ct"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Settings]:
    """A worker that runs stages in containers."""
    BUILD.mkdir(exist_ok=True)
    prepare()
    with (
        # In the checkout: if the tests run in a container, Docker can mount that only.
        TemporaryDirectory(prefix="worker-", dir=BUILD) as home,
        training_image(tmp_path) as image,
        server() as url,
        working(
            url, Path(home), stage_runner=StageRunner.DOCKER, stage_image=image, stage_volume=volume_with(Path(home))
        ) as settings,
    ):
        yield settings


def test_a_model_is_trained_and_promoted_in_containers(worker: Settings) -> None:
    """Each stage runs in a container of its own; its files belong to the worker's user, and no container is left."""
    with variable("model_version", "v1"):
        done = run_dag(DAG)
    assert (done.state, done.tasks["promote"]) == ("success", "success"), done.tasks
    champion = connections.open_registry(worker).champion()
    assert (champion.version, champion.tags[GATE]) == (done.values["gate"]["version"], PASSED)
    owners = {path.stat().st_uid for path in worker.home.rglob("*")}
    assert owners == {os.getuid()}
    shared = worker.stage_volume.rpartition(":")[2] or str(worker.home)
    assert (
        docker("ps", "--all", "--quiet", f"--filter=ancestor={worker.stage_image}", f"--filter=volume={shared}").stdout
        == ""
    )
