"""A complete Airflow on one machine, without Docker: API server, scheduler, DAG processor and workers, on loopback only.

For trying things out and for tests. Everything that it writes, except for its metadata, is in one folder.
"""

import json
import secrets
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil

from ctcd.airflow.pools import DEPLOYMENT_QUEUE, POOLS, TRAINING_POOL
from ctcd.errors import Unreachable
from ctcd.loopback import opener
from ctcd.progress import Progress, silent

HOST = "127.0.0.1"
USER = "admin"
COMPONENTS = {
    "api-server": ("--host", HOST, "--workers", "1"),
    "scheduler": ("--skip-serve-logs",),  # the server for logs would listen on every address
    "dag-processor": (),
}
"""Options of each component, which runs as a process of its own.

`airflow standalone` would listen on every address, and leave processes behind.
"""
WORKER_SLOTS = 2
"""Tasks that a worker runs at once."""
START_SECONDS = 120.0
END_SECONDS = 30.0
LAST_LINES = 30
_POLL_SECONDS = 0.25
_HEALTHY = ("metadatabase", "scheduler", "dag_processor")
_SECRETS = "secrets.json"  # pragma: allowlist secret - the name of a file
_PREPARE = """
import json, sys
from airflow.models.pool import Pool
from airflow.utils.db import initdb
from airflow.utils.session import create_session

initdb()
with create_session() as session:
    for name, (slots, description) in json.loads(sys.argv[1]).items():
        Pool.create_or_update_pool(name, slots=slots, description=description, include_deferred=False, session=session)
"""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running Airflow.

    Args:
        url: address of UI and REST API.
        user: name of the user who may log in.
        password: the user's password.
        logs: folder with one log for each process, `<component>.log`.
        processes: its processes, by component.
        workers: the components that run tasks, apart from the scheduler.
    """

    url: str
    user: str
    password: str
    logs: Path
    processes: Mapping[str, "subprocess.Popen[bytes]"]
    workers: Collection[str] = ()

    def failure(self) -> str:
        """Return which process has ended, with the last lines of its log; empty while all of them run.

        A worker may end: Airflow gives its tasks to the others. The last one may not.
        """
        workers = {name: self.processes[name] for name in self.workers if name in self.processes}
        spared = workers if any(worker.poll() is None for worker in workers.values()) else ()
        for name, process in self.processes.items():
            if name not in spared and process.poll() is not None:
                last = (
                    (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
                )
                return "\n".join([f"{name} ended with exit code {process.returncode}; the end of its log:", *last])
        return ""


@dataclass(frozen=True, kw_only=True)
class Celery:
    """Workers of the Celery executor.

    Args:
        broker: URL of their Redis server.
        workers: the environment variables of each, by its name, in which it differs from Airflow's other processes.
    """

    broker: str
    workers: Mapping[str, Mapping[str, str]]


@contextmanager
def running(
    home: Path,
    dags: Path,
    *,
    port: int,
    database: str,
    environment: Mapping[str, str],
    celery: Celery | None = None,
    progress: Progress = silent,
) -> Iterator[Stack]:
    """Run Airflow while the block runs; at the end all its processes are stopped.

    Args:
        home: folder for everything that it writes, including its secrets and the login.
        dags: folder of DAGs.
        port: port of UI and REST API.
        database: SQLAlchemy URL of its metadata database; of PostgreSQL, because SQLite does not let several processes write.
        environment: environment variables of its processes, such as connections, apart from its own configuration.
        celery: who runs the tasks; None: the scheduler does.
        progress: called every quarter of a second until it is ready.

    Raises:
        Unreachable: it is not ready in time, or one of its processes ended.
    """
    home.mkdir(parents=True, exist_ok=True)
    own = _secrets(home)
    full = {**environment, **_configuration(home.resolve(), dags.resolve(), port, database, own)}
    if celery is not None:
        full |= {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(WORKER_SLOTS * len(celery.workers)),
            "AIRFLOW__CELERY__BROKER_URL": celery.broker,
        }
    logs = home / "logs" / "processes"
    logs.mkdir(parents=True, exist_ok=True)
    airflow = str(Path(sys.executable).with_name("airflow"))
    pools = POOLS
    if celery is not None:
        pools = POOLS | {TRAINING_POOL: (WORKER_SLOTS * len(celery.workers), POOLS[TRAINING_POOL][1])}
    _run("database", [sys.executable, "-c", _PREPARE, json.dumps(pools)], full, logs)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    stack = Stack(
        url=f"http://{HOST}:{port}",
        user=USER,
        password=own["password"],
        logs=logs,
        processes=processes,
        workers=tuple(celery.workers) if celery else (),
    )
    try:
        for name, options in COMPONENTS.items():
            where = ("--port", str(port)) if name == "api-server" else ()
            processes[name] = _start(name, [airflow, name, *options, *where], full, home, logs)
            if name == "api-server":
                # Meanwhile the DAGs are read, so that all can be triggered as soon as this is ready.
                _run("DAGs", [airflow, "dags", "reserialize"], full, logs)
                # Before anything starts a task: one that cannot report to it fails, and is retried after minutes.
                _wait(stack, takes_reports, progress)
        for number, (name, differs) in enumerate(celery.workers.items() if celery else ()):
            folder = home / name
            folder.mkdir(exist_ok=True)
            queues = "default" if number else f"default,{DEPLOYMENT_QUEUE}"
            command = [airflow, "celery", "worker", "--skip-serve-logs", "--celery-hostname", name, "--queues", queues]
            own_environment = {**full, **differs, "AIRFLOW_HOME": str(folder.resolve())}
            processes[name] = _start(
                name, [*command, "--concurrency", str(WORKER_SLOTS)], own_environment, folder, logs
            )
        _wait(stack, is_healthy, progress)
        yield stack
    finally:
        _end(processes)


def _start(
    name: str, command: list[str], environment: Mapping[str, str], folder: Path, logs: Path
) -> "subprocess.Popen[bytes]":
    with (logs / f"{name}.log").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A signal from the terminal reaches us, and we stop them in order.
            start_new_session=True,
        )


def _secrets(home: Path) -> dict[str, str]:
    """Return the secrets of this Airflow, which are generated when it first runs; only its user may read them."""
    path = home / _SECRETS
    if not path.exists():
        made = {name: secrets.token_urlsafe(24) for name in ("password", "jwt", "session")}
        made["fernet"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        path.touch(mode=0o600)
        path.write_text(json.dumps(made), encoding="utf-8")
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    login = home / "login.json"
    login.touch(mode=0o600)
    login.write_text(json.dumps({USER: known["password"]}), encoding="utf-8")
    return known


def _configuration(home: Path, dags: Path, port: int, database: str, own: Mapping[str, str]) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "login.json"),
        "AIRFLOW__CORE__FERNET_KEY": own["fernet"],
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__SECRET_KEY": own["session"],
        "AIRFLOW__API_AUTH__JWT_SECRET": own["jwt"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _run(what: str, command: list[str], environment: Mapping[str, str], logs: Path) -> None:
    """Run a command that prepares something, to its end.

    Raises:
        Unreachable: it failed.
    """
    log = logs / f"{what}.log"
    with log.open("wb") as output:
        done = subprocess.run(command, env=environment, cwd=logs, stdout=output, stderr=output, check=False)  # noqa: S603 - our own commands
    if done.returncode:
        raise Unreachable(f"its {what} cannot be prepared", where="Airflow", hint=f"see {log}")


def _wait(stack: Stack, ready: Callable[[str], bool], progress: Progress) -> None:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < START_SECONDS:
        if failure := stack.failure():
            raise Unreachable(failure, where="Airflow")
        if ready(stack.url):
            return
        progress("start Airflow", int(waited / _POLL_SECONDS), None)
        time.sleep(_POLL_SECONDS)
    raise Unreachable(f"not ready after {START_SECONDS:g} s", where="Airflow", hint=f"see {stack.logs}")


def takes_reports(url: str) -> bool:
    """Return whether tasks can report to the API server at a URL: the first request makes it set that part up."""
    return _document(f"{url}/execution/health").get("status") == "healthy"


def is_healthy(url: str) -> bool:
    """Return whether all parts of the Airflow at a URL work."""
    health = _document(f"{url}/api/v2/monitor/health")
    return all((health.get(part) or {}).get("status") == "healthy" for part in _HEALTHY)


def _document(url: str) -> dict[str, Any]:
    try:
        with opener(url).open(url, timeout=5) as response:
            document: Any = json.loads(response.read())
    except (OSError, HTTPException, ValueError):
        return {}
    return document if isinstance(document, dict) else {}  # whoever else may be at the port


def _end(processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    """Stop all processes and what they started, except for processes that detached themselves: a deployed service."""
    family = []
    for process in processes.values():
        try:
            family += psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    # The API server last: tasks that are being stopped report to it.
    server = processes.get("api-server")
    try:
        for together in ([each for each in processes.values() if each is not server], [server] if server else []):
            for process in together:
                process.terminate()
            deadline = time.monotonic() + END_SECONDS
            for process in together:
                try:
                    process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    finally:
        # Ctrl-C meanwhile ends them at once: in sessions of their own, they would run on.
        for process in processes.values():
            process.kill()
        for left in psutil.wait_procs(family, timeout=_POLL_SECONDS)[1]:
            left.kill()
