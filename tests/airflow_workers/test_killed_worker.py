"""Two workers of the Celery executor, one of which is killed in the middle of a training."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy import make_url
from support.airflow_client import ROOT, SECONDS, Airflow, eventually, patient_instance, stack
from support.instance import CONTRACT
from support.marks import in_files, marks_of
from support.network import LOOPBACK, listening
from support.processes import still_running

from ctcd.registry import tracking
from ctcd.settings import Settings
from ctcd.stages import connections
from ctcd.training.runs import KIND, TRAINING, TRIAL

pytestmark = [pytest.mark.celery, pytest.mark.timeout(1200)]

DAG, DEPLOYMENT = "machine_condition_classification_ct", "machine_condition_classification_cd"
PROFILE = """
[spread]
description = "trials for several workers"

[spread.fixed]
iterations = 400
early_stopping_rounds = 400
learning_rate = 0.1
rsm = 1.0
max_ctr_complexity = 1

[spread.grid]
depth = [5, 6]
l2_leaf_reg = [1.0, 3.0, 9.0]
"""
TRIALS = 6
IMPATIENT = {
    # Seconds without a sign of life after which a task is lost.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    # Seconds after which Redis gives what a worker has not finished to another one: while the run goes on.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "30",
}
STARTED = re.compile(r"Executing workload in Celery: .*task_id=trial/map_index=(\d+)/attempt=(\d+)\.log")


def worker_process(command: int, name: str) -> psutil.Process:
    """Return the main process of a worker."""
    children: list[psutil.Process] = psutil.Process(command).children()
    (found,) = [each for each in children if name in " ".join(each.cmdline())]
    return found


def trials(process: psutil.Process) -> dict[int, psutil.Process]:
    """Return the trials that run below a worker, by their index."""
    found = {}
    for each in process.children(recursive=True):
        try:
            words = each.cmdline()
        except psutil.NoSuchProcess:
            continue
        if words[2:4] == ["training", "trial"]:
            found[int(words[words.index("--index") + 1])] = each
    return found


def started(worker: Settings, name: str) -> set[tuple[int, int]]:
    """Return which tries of which trials a worker was given, by index and number."""
    log = worker.home / "airflow" / "logs" / "processes" / f"{name}.log"
    return {(int(index), int(number)) for index, number in STARTED.findall(log.read_text(errors="replace"))}


def test_a_killed_worker_loses_and_doubles_nothing(worker: Settings, tmp_path: Path) -> None:
    """Trials run on both workers; those of the one that is killed run again on the other, and each counts once."""
    instance = patient_instance(tmp_path)
    with (instance / "training.toml").open("a") as profiles:
        profiles.write(PROFILE)
    before = listening()
    with stack(worker, instance, "--workers", "2", **IMPATIENT) as command, closing(Airflow(command)) as airflow:
        airflow("POST", f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": None, "conf": {"profile": "spread"}})
        kept, lost = (worker_process(command.pid, f"worker-{number}") for number in (1, 2))
        assert trials_of_both(kept, lost)
        # In the middle of its trials, wherever they are: they cannot end before their worker.
        stopped = trials(lost)
        for each in stopped.values():
            each.suspend()
        os.killpg(lost.pid, signal.SIGKILL)
        for each in stopped.values():
            each.resume()
        assert still_running(stopped.values(), SECONDS) == []
        (folder,) = worker.trainings.iterdir()
        assert [index for index in stopped if (folder / f"trial-{index}.json").exists()] == []

        # That of a helper: a worker overwrites its own, to say in its title what it does.
        environment = next(each.environ() for each in kept.children() if "--celery-hostname" in each.cmdline())
        assert [is_healthy(name, environment) for name in ("worker-1", "worker-2")] == [True, False]

        (run,) = eventually(lambda: airflow.finished(DAG, "manual"), airflow)
        assert run["state"] == "success", airflow.tasks(run)
        path = f"/api/v2/dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances?task_id=trial"
        tries = {one["map_index"]: one["try_number"] for one in airflow("GET", path)["task_instances"]}
        assert set(tries) == set(range(TRIALS))
        assert {index for index, number in tries.items() if number > 1} >= set(stopped)
        first, second = (started(worker, f"worker-{number}") for number in (1, 2))
        # Both had some, and what was tried again had been lost.
        assert {index for index, number in tries.items() if number > 1} <= {index for index, _ in second}
        assert {index for index, _ in first} | {index for index, _ in second} == set(tries)
        # Redis gives the lost message to the other worker as well, and that does nothing.
        eventually(lambda: {(index, 1) for index in stopped} <= started(worker, "worker-1") or None)
        once(worker)
        # What acts on the machine is done by the one worker that takes its queue, and kept in its home.
        (deployment,) = eventually(lambda: airflow.finished(DEPLOYMENT, "asset_triggered"), airflow)
        assert deployment["state"] == "success", airflow.tasks(deployment)
        deployed = homes(worker)["worker-1"] / worker.deployment.name
        served = psutil.Process(json.loads(deployed.read_text())["pid"])

        family = [*psutil.Process(command.pid).children(recursive=True), served, *served.children(recursive=True)]
        assert {"127.0.0.1"} <= {address for address, _ in listening(family) - before} <= LOOPBACK
        airflow.close()
        command.send_signal(signal.SIGINT)
        assert command.wait(SECONDS) == 0
        assert still_running(family, 0) == []
    # Neither has anything that the other one needs, but for the trainings that they share.
    for home in homes(worker).values():
        assert {each.name for each in home.iterdir()} & {"mlflow.db", "mlartifacts", "store.db"} == set()
        assert (home / "trainings").resolve() == worker.trainings
    assert in_files(marks_of(make_url(worker.store_url)), worker.home / "airflow" / "logs") == []


def is_healthy(name: str, environment: dict[str, str]) -> bool:
    """Return whether the health check of a worker in docker/compose.yaml, in the environment of one, finds a worker."""
    service = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["airflow-worker"]
    kind, check = service["healthcheck"]["test"]
    assert (kind, check.count("$$(hostname)")) == ("CMD-SHELL", 1)
    program = Path(sys.executable).with_name("celery")
    command = check.replace("$$(hostname)", name).replace("celery --app", f"{program} --app")
    return subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own


def homes(worker: Settings) -> dict[str, Path]:
    """Return the home of each worker, by its name."""
    return {name: worker.home / "airflow" / name / "home" for name in ("worker-1", "worker-2")}


def trials_of_both(*workers: psutil.Process) -> bool:
    """Wait until each worker runs a trial at the same time."""
    return eventually(lambda: all(trials(each) for each in workers) or None)


def once(worker: Settings) -> None:
    """Each trial of the grid is in the result once, and there is one version."""
    client = tracking.connect(worker)
    experiment = client.get_experiment_by_name(CONTRACT.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (training,) = [run for run in runs if run.data.tags[KIND] == TRAINING]
    children = [run for run in runs if run.data.tags[KIND] == TRIAL]
    assert {run.data.tags[MLFLOW_PARENT_RUN_ID] for run in children} == {training.info.run_id}
    grid = Counter((run.data.params["depth"], run.data.params["l2_leaf_reg"]) for run in children)
    assert grid == Counter((depth, l2) for depth in ("5", "6") for l2 in ("1.0", "3.0", "9.0"))
    assert {run.info.status for run in runs} == {"FINISHED"}
    (version,) = connections.open_registry(worker).versions()
    assert version.run_id == training.info.run_id
