"""The whole stack as `make up` starts it, with its own name, ports and passwords, so that another one may be running."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.containers import OWN, OWN_EXAMPLE, docker
from support.load import wait

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
HOME = "/var/lib/ctcd"
ANY_PORT = dict.fromkeys(("API_PORT", "AIRFLOW_PORT", "MARIADB_PORT", "MLFLOW_PORT"), "0")
FOLLOW_SECONDS = 60
AIRFLOW = ("metadatabase", "scheduler", "dag_processor")


class Stack:
    """A stack for one test.

    Args:
        env_file: file with its passwords.
    """

    def __init__(self, env_file: Path) -> None:
        self.project = f"ctcd-test-{secrets.token_hex(4)}"
        self._environment: Mapping[str, str] = {
            **os.environ,
            **ANY_PORT,
            "COMPOSE_PROJECT_NAME": self.project,
            "ENV_FILE": str(env_file),
            "CTCD_CONTRACTS": str(OWN.folder),
        }
        self._env_file = env_file

    def run(self, *command: str) -> str:
        """Run a script of the repository on it and return the output."""
        done = subprocess.run(  # noqa: S603 - the repository's own scripts
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` on it."""
        return self.run("scripts/compose.sh", *arguments)

    def ctcd(self, *arguments: str) -> Any:
        """Run a command of ctcd in a container of it and return its report."""
        return json.loads(self.compose("run", "--rm", "--no-deps", "--no-TTY", "ct", "ctcd", *arguments, "--json"))

    def secret(self, name: str) -> str:
        """Return a password."""
        return dict(line.split("=", 1) for line in self._env_file.read_text().splitlines())[name]

    def ask(self, service: str, inner: int, method: str, path: str, body: Any = None) -> Any:
        """Send a request to a service through its published port and return the decoded response."""
        address = self.compose("port", service, str(inner)).strip()
        assert address.startswith("127.0.0.1:")
        connection = HTTPConnection(address, timeout=30)
        headers = {"Content-Type": "application/json", "X-API-Key": self.secret("API_KEY")}
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status == 200, answer
        return json.loads(answer)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The stack, up and healthy; nothing of it is left afterwards."""
    stack = Stack(tmp_path / ".env")
    try:
        stack.run("scripts/up.sh")
        yield stack
    finally:
        stack.compose("--profile=*", "down", "--volumes", "--remove-orphans")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert docker(*kind, "--quiet", f"--filter=label=com.docker.compose.project={stack.project}").stdout == ""


def test_it_comes_up_trains_and_serves_what_was_promoted(stack: Stack) -> None:
    """Every service is healthy, the api switches to a model trained and promoted in the stack, and predictions are logged."""
    health = stack.ask("airflow-api", 8080, "GET", "/api/v2/monitor/health")
    assert {part: health[part]["status"] for part in AIRFLOW} == dict.fromkeys(AIRFLOW, "healthy")

    stack.compose("run", "--rm", "--no-deps", "--no-TTY", "ct", "ctcd", "generate", f"{HOME}/raw", "--rows", "8000")
    stack.ctcd("ingest", f"{HOME}/raw")
    day = stack.ctcd("snapshot", "--months", "8")["base_dt"]
    run_id = stack.ctcd("train", "--profile", "baseline", "--base-dt", day)["run_id"]
    version = stack.ctcd("gate", "--run-id", run_id)["version"]
    stack.ctcd("promote", "--version", version)

    wait(lambda: stack.ask("api", 3000, "GET", "/model-info")["run_id"] == run_id, FOLLOW_SECONDS)
    answer = stack.ask("api", 3000, "POST", "/predict", {"data": OWN_EXAMPLE})
    assert answer["model_version"] == version
    query = f"SELECT COUNT(*) FROM {OWN.contract.predictions_table} WHERE request_id = '{answer['request_id']}'"  # noqa: S608 - neither comes from outside
    credentials = ["--user=ctcd", f"--password={stack.secret('FEATURE_STORE_PASSWORD')}"]
    client = ("exec", "-T", "mariadb", "mariadb", *credentials, "-N", "-e", query, "mlops")
    wait(lambda: stack.compose(*client).strip() == "1", FOLLOW_SECONDS)


def test_the_file_is_valid_with_every_profile(tmp_path: Path) -> None:
    """Docker accepts all of it, names it after the instance, and refuses to start anything without passwords."""
    stack = Stack(tmp_path / ".env")
    stack.run("scripts/make-env.sh", str(tmp_path / ".env"))
    assert {"adminer", "api", "ct", "prometheus"} <= set(stack.compose("--profile=*", "config", "--services").split())
    (tmp_path / ".env").write_text("")
    with pytest.raises(AssertionError, match="run make up"):
        stack.compose("config", "--quiet")
