"""A whole Airflow, as `make airflow` starts it, driven through its REST API."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from support.airflow_home import ROOT
from support.network import free_port

from credit_score import stages
from credit_score.deployment import api
from credit_score.promotion.registry import GATE, PASSED
from credit_score.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

T = TypeVar("T")
SECONDS = 240


class Airflow:
    """A client of the REST API."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)
        token = self("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document

    def close(self) -> None:
        self._client.close()

    def finished(self, dag: str) -> dict[str, Any] | None:
        """Return the newest run of a DAG once it is finished."""
        runs = self("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
        return next((run for run in runs if run["state"] in ("success", "failed")), None)

    def tasks(self, dag: str, run: str) -> dict[str, str]:
        """Return the state of each task of a run."""
        found = self("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {one["task_id"]: one["state"] for one in found}


def eventually(look: Callable[[], T | None]) -> T:
    """Look until there is something."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {SECONDS} s")


@pytest.fixture
def command(worker: Settings) -> Iterator["subprocess.Popen[str]"]:
    """The command that a person runs, on a store with data."""
    # Nothing of the other tests' Airflow.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, str(ROOT / "scripts" / "airflow_stack.py"), "--port", str(free_port())],
        env=clean | worker.environment_variables() | {"AIRFLOW_VAR_MODEL_VERSION": "v1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def listening() -> set[tuple[str, int]]:
    """Return every address and port that is listened on.

    The kernel's list, not that of each process: in a container without ptrace even root may not look into all of them.
    """
    return {(each.laddr.ip, each.laddr.port) for each in psutil.net_connections() if each.status == psutil.CONN_LISTEN}


@pytest.fixture
def before() -> set[tuple[str, int]]:
    """What was listened on before the stack was started."""
    return listening()


def test_a_run_of_the_rest_api_trains_promotes_and_deploys(
    before: set[tuple[str, int]],
    command: "subprocess.Popen[str]",
    worker: Settings,
    request: pytest.FixtureRequest,
) -> None:
    """Triggered through REST, training promotes a model, whose asset triggers its deployment; Ctrl-C leaves nothing."""
    assert command.stdout is not None
    line = command.stdout.readline()
    assert line.startswith("Airflow: http://127.0.0.1:"), line
    words = line.replace(",", "").replace(")", "").split()
    airflow = Airflow(words[1], words[3], words[5])
    request.addfinalizer(airflow.close)
    assert airflow("GET", "/api/v2/importErrors")["total_entries"] == 0

    airflow("POST", "/api/v2/dags/credit_score_classification_ct/dagRuns", {"logical_date": None, "conf": {}})
    training = eventually(lambda: airflow.finished("credit_score_classification_ct"))
    tasks = airflow.tasks("credit_score_classification_ct", training["dag_run_id"])
    assert (training["state"], training["run_type"], training["logical_date"]) == ("success", "manual", None), tasks
    champion = stages.open_registry(worker).champion()
    assert champion.tags[GATE] == PASSED

    deployment = eventually(lambda: airflow.finished("credit_score_classification_cd"))
    tasks = airflow.tasks("credit_score_classification_cd", deployment["dag_run_id"])
    assert (deployment["state"], deployment["run_type"]) == ("success", "asset_triggered"), tasks
    assert tasks["smoke"] == "success"
    info = api.model_info(stages.service_url(worker))
    assert info is not None
    assert (info["version"], info["run_id"]) == (champion.version, champion.run_id)

    served = psutil.Process(json.loads(worker.deployment.read_text())["pid"])
    family = [*psutil.Process(command.pid).children(recursive=True), served, *served.children(recursive=True)]
    assert {address for address, _ in listening() - before} == {"127.0.0.1"}
    airflow.close()
    command.send_signal(signal.SIGINT)
    assert command.wait(90) == 0
    assert [process for process in family if process.is_running()] == []
    assert api.model_info(stages.service_url(worker)) is None
    assert not _holds_secret(Path(worker.home) / "airflow" / "logs", worker)


def _holds_secret(logs: Path, settings: Settings) -> bool:
    """Return whether the URL of the store, with its password, is in a log."""
    url = settings.store_url.partition("://")[2].partition("@")[0].encode()
    return any(url in path.read_bytes() for path in logs.rglob("*.log"))
