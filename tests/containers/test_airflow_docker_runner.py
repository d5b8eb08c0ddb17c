"""Stages that Airflow runs in containers of the image for training."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from support.containers import CT, docker
from support.dag_runs import prepare, run_dag, variable
from support.mariadb import server
from support.workers import working

from credit_score import stages
from credit_score.promotion.registry import GATE, PASSED
from credit_score.settings import Settings, StageRunner

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

DAG = "credit_score_classification_ct"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Settings]:
    """A worker that runs stages in containers."""
    prepare()
    with server() as url, working(url, tmp_path, stage_runner=StageRunner.DOCKER, stage_image=CT) as settings:
        yield settings


def test_a_model_is_trained_and_promoted_in_containers(worker: Settings) -> None:
    """Every stage in a container of its own comes to a champion, in files of the worker's user; no container is left."""
    with variable("model_version", "v1"):
        done = run_dag(DAG)
    assert (done.state, done.tasks["promote"]) == ("success", "success"), done.tasks
    champion = stages.open_registry(worker).champion()
    assert (champion.version, champion.tags[GATE]) == (done.values["gate"]["version"], PASSED)
    owners = {path.stat().st_uid for path in worker.home.rglob("*")}
    assert owners == {os.getuid()}
    assert docker("ps", "--all", "--quiet", f"--filter=volume={worker.home.resolve()}").stdout == ""
