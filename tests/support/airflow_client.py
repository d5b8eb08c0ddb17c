"""The whole Airflow that `make airflow` starts, and a client of its REST API."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from support.instance import INSTANCE
from support.network import free_port

from ctcd.settings import Settings

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
SECONDS = 400
"""Longest wait for one run, on a machine that does much else."""


def patient_instance(folder: Path) -> Path:
    """Return a copy of the tests' instance, in a folder, without its limits on latency, which a busy machine exceeds."""
    copy = shutil.copytree(INSTANCE.folder, folder / "instance")
    policy = copy / INSTANCE.promotion_policy.name
    policy.write_text(re.sub(r"^(max_\w+_ms) = .*$", r"\1 = 1_000.0", policy.read_text(), flags=re.MULTILINE))
    return copy


def far_schedules() -> dict[str, str]:
    """Return settings by which no DAG runs by itself, whatever the time is.

    A new DAG is run at once if its schedule was due lately, by less than a tenth of its interval: from a daily one, which
    is due at three, a test between three and half past five would get a run that it did not ask for.
    """
    due = datetime.now(UTC) + timedelta(days=180)
    return {f"CTCD_{each}_CRON": f"0 3 {due.day} {due.month} *" for each in ("TRAINING", "REPORT", "BATCH", "TRAFFIC")}


@contextmanager
def stack(worker: Settings, instance: Path, *options: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the command that a person runs, on a store with data and an instance, while the block runs."""
    # Nothing of the other tests' Airflow.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, str(ROOT / "scripts" / "airflow_stack.py"), "--port", str(free_port()), *options],
        env=clean
        | worker.environment_variables()
        | far_schedules()
        | environment
        | {
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # no file changes while a test runs
            "CTCD_CONTRACTS": str(instance),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH")))),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate()
        for log in sorted((worker.home / "airflow" / "logs" / "processes").glob("*.log")):
            print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-40:], sep="\n")  # noqa: T201 - pytest shows it if the test fails


class Airflow:
    """A client of the REST API of the Airflow that `scripts/airflow_stack.py` runs, once it says that it is ready."""

    def __init__(self, command: "subprocess.Popen[str]") -> None:
        self.command = command
        assert command.stdout is not None
        line = command.stdout.readline()
        assert line.startswith("Airflow: http://127.0.0.1:"), line
        words = line.replace(",", "").replace(")", "").split()
        self._client = httpx.Client(base_url=words[1], timeout=30)
        token = self("POST", "/auth/token", {"username": words[3], "password": words[5]})["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document

    def change(self, path: str, body: dict[str, Any]) -> None:
        """Change something that the scheduler may be changing too: PostgreSQL ends one of two that wait for each other.

        The API answers that with 500, and the change can be sent again.
        """
        for _ in range(5):
            response = self._client.patch(path, json=body)
            if response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                break
            time.sleep(1)
        response.raise_for_status()

    def close(self) -> None:
        self._client.close()

    def finished(self, dag: str, kind: str, count: int = 1) -> list[dict[str, Any]] | None:
        """Return the runs of one kind of a DAG, oldest day first, once so many are finished."""
        runs = self("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=logical_date&run_type={kind}")["dag_runs"]
        ended = [run for run in runs if run["state"] in ("success", "failed")]
        return ended if len(ended) >= count else None

    def instances(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the tasks of a run, with their states and rendered templates."""
        path = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        return {one["task_id"]: one for one in self("GET", path)["task_instances"]}

    def tasks(self, run: dict[str, Any]) -> dict[str, str]:
        """Return the state of each task of a run."""
        return {name: one["state"] for name, one in self.instances(run).items()}

    def states(self) -> dict[str, Any]:
        """Return the state of each run, and of its tasks."""
        runs = self("GET", "/api/v2/dags/~/dagRuns")["dag_runs"]
        return {f"{run['dag_id']} {run['dag_run_id']}": (run["state"], self.tasks(run)) for run in runs}


def eventually(look: Callable[[], T | None], airflow: Airflow | None = None) -> T:
    """Look until there is something; if there is not, the failure shows the runs of this Airflow."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(1)
    raise AssertionError(f"not within {SECONDS} s: {airflow.states() if airflow else ''}")
