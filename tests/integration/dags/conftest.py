"""An Airflow, a MariaDB store with data, and an MLflow of its own."""

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import support.airflow_home  # before Airflow
from sqlalchemy import URL
from support.dag_runs import prepare
from support.faults import Faults, Runner
from support.marks import NAME, SECRETS, in_files, in_texts
from support.warm_commands import Program, warm_commands
from support.workers import working

from ctcd.airflow import notices
from ctcd.airflow.runners import process
from ctcd.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> Iterator[None]:
    """Airflow's metadata database; at the end no marked secret and no name is in it, or in a log beside it."""
    prepare()
    yield
    assert in_files([*SECRETS, NAME], support.airflow_home.HOME) == []


@pytest.fixture(autouse=True)
def _says_no_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No marked secret and no name is in what a test's tasks log at the most talkative level, whether they succeed or fail."""
    caplog.set_level(logging.DEBUG, "ctcd")
    yield
    lines = [line.getMessage() for when in ("setup", "call") for line in caplog.get_records(when)]
    assert in_texts([*SECRETS, NAME], log="\n".join(lines)) == []


@pytest.fixture(scope="session")
def commands(warm_program: Program) -> Runner:
    """Runs commands in forks of one process."""
    return warm_commands(warm_program)


@pytest.fixture(scope="module")
def faults(commands: Runner) -> Iterator[Faults]:
    """Faults to inject into tasks; all that a module injects must have happened at its end."""
    planted = Faults(commands)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "command", planted.runner)
        yield planted
    assert planted.left == set()


@pytest.fixture(scope="module")
def worker(
    mariadb: URL, commands: Runner, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Iterator[Settings]:
    """The settings of a worker whose connection is to a MariaDB store with raw tables; they are set in the environment."""
    assert callable(commands)  # its imports begin while the store is filled
    home = tmp_path_factory.mktemp("worker")
    shutil.copy(empty_mlflow, home)
    # For all runs, as Airflow keeps the tasks that a DAG had in the run before.
    with pytest.MonkeyPatch.context() as patch, working(mariadb, home) as settings:
        patch.setenv("CTCD_WAREHOUSE", str(home / "warehouse"))
        yield settings


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The bodies that the webhook in the Airflow variable `alert_webhook` has received; none has a secret or a name."""
    received: list[dict[str, Any]] = []
    bodies: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            received.append(json.loads(bodies[-1]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AIRFLOW_VAR_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
        yield received
        server.shutdown()
        thread.join()
    assert in_texts([*SECRETS, NAME], webhook="\n".join(bodies)) == []


@pytest.fixture
def said(webhook: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Return the notices since the last call, which are the same in the log, as lines of JSON, and at the webhook."""
    caplog.set_level(logging.INFO, notices.__name__)

    def since() -> list[dict[str, Any]]:
        lines = [json.loads(line.getMessage()) for line in caplog.records if line.name == notices.__name__]
        assert lines == webhook
        webhook.clear()
        caplog.clear()
        return lines

    return since
