"""The whole stack, as `make up` starts it, beside one that may be running: with a name, ports and passwords of its own."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.containers import docker
from support.instance import CONTRACT
from support.serving import EXAMPLE

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
HOME = "/var/lib/ctcd"
ANY_PORT = dict.fromkeys(("API_PORT", "AIRFLOW_PORT", "MARIADB_PORT", "MLFLOW_PORT"), "0")
FOLLOW_SECONDS = 60.0
AIRFLOW = ("metadatabase", "scheduler", "dag_processor")


class Stack:
    """A stack of our own.

    Args:
        env_file: where its passwords are.
    """

    def __init__(self, env_file: Path) -> None:
        self.project = f"ctcd-test-{secrets.token_hex(4)}"
        self._environment: Mapping[str, str] = {
            **os.environ,
            **ANY_PORT,
            "COMPOSE_PROJECT_NAME": self.project,
            "ENV_FILE": str(env_file),
        }
        self._env_file = env_file

    def run(self, *command: str) -> str:
        """Run one of our scripts on it and return what that prints."""
        done = subprocess.run(  # noqa: S603 - our own scripts
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` on it."""
        return self.run("scripts/compose.sh", *arguments)

    def verb(self, *arguments: str) -> Any:
        """Run a verb in a container of it and return its report."""
        return json.loads(self.compose("run", "--rm", "--no-deps", "--no-TTY", "ct", "ctcd", *arguments, "--json"))

    def secret(self, name: str) -> str:
        """Return a password."""
        return dict(line.split("=", 1) for line in self._env_file.read_text().splitlines())[name]

    def ask(self, service: str, inner: int, method: str, path: str, body: Any = None) -> Any:
        """Ask a service of it through its published port."""
        address = self.compose("port", service, str(inner)).strip()
        assert address.startswith("127.0.0.1:")
        connection = HTTPConnection(address, timeout=30)
        headers = {"Content-Type": "application/json", "X-API-Key": self.secret("API_KEY")}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        assert answer.status == 200, told
        return json.loads(told)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The stack, up and healthy; nothing of it is left at the end."""
    stack = Stack(tmp_path / ".env")
    try:
        stack.run("scripts/up.sh")
        yield stack
    finally:
        stack.compose("--profile=*", "down", "--volumes", "--remove-orphans")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert docker(*kind, "--quiet", f"--filter=label=com.docker.compose.project={stack.project}").stdout == ""


def test_it_comes_up_trains_and_serves_what_was_promoted(stack: Stack) -> None:
    """Every service is healthy; a model that is trained and promoted in it is answered with, and predictions are logged."""
    health = stack.ask("airflow-api", 8080, "GET", "/api/v2/monitor/health")
    assert {part: health[part]["status"] for part in AIRFLOW} == dict.fromkeys(AIRFLOW, "healthy")

    stack.compose("run", "--rm", "--no-deps", "--no-TTY", "ct", "ctcd", "generate", f"{HOME}/raw", "--rows", "8000")
    stack.verb("ingest", f"{HOME}/raw")
    day = stack.verb("snapshot", "--months", "8")["base_dt"]
    run_id = stack.verb("train", "--profile", "baseline", "--base-dt", day)["run_id"]
    version = stack.verb("gate", "--run-id", run_id)["version"]
    stack.verb("promote", "--version", version)

    deadline = time.monotonic() + FOLLOW_SECONDS
    while stack.ask("api", 3000, "GET", "/model-info")["run_id"] != run_id:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    told = stack.ask("api", 3000, "POST", "/predict", {"data": EXAMPLE})
    assert told["model_version"] == version
    query = f"SELECT COUNT(*) FROM {CONTRACT.predictions_table} WHERE request_id = '{told['request_id']}'"  # noqa: S608 - both are our own
    credentials = ["--user=credit_score", f"--password={stack.secret('FEATURE_STORE_PASSWORD')}"]
    while stack.compose("exec", "-T", "mariadb", "mariadb", *credentials, "-N", "-e", query, "mlops").strip() != "1":
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_the_file_can_be_read_with_every_profile(tmp_path: Path) -> None:
    """Docker understands all of it; without passwords it refuses to start anything."""
    stack = Stack(tmp_path / ".env")
    stack.run("scripts/make-env.sh", str(tmp_path / ".env"))
    assert {"adminer", "api", "ct", "prometheus"} <= set(stack.compose("--profile=*", "config", "--services").split())
    (tmp_path / ".env").write_text("")
    with pytest.raises(AssertionError, match="run make up"):
        stack.compose("config", "--quiet")
