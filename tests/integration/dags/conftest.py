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
import support.airflow_home  # noqa: F401 - before Airflow
from sqlalchemy import URL
from support.dag_runs import prepare
from support.faults import Faults, Runner
from support.warm_commands import Program, warm_commands
from support.workers import working

from ctcd.airflow import notices
from ctcd.airflow.runners import process
from ctcd.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    """Airflow's metadata database."""
    prepare()


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
    with working(mariadb, home) as settings:
        yield settings


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The bodies that the webhook in the Airflow variable `alert_webhook` has received."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AIRFLOW_VAR_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
        yield received
        server.shutdown()
        thread.join()


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
