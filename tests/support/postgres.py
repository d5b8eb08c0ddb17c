"""A private PostgreSQL server: Airflow's metadata database in `make airflow` and in the test of it.

Not SQLite: with it, one process's write makes those of the others fail, and a scheduler that cannot write ends.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import OperationalError
from support.network import free_port

START_SECONDS = 60
STOP_SECONDS = 30
_UNSAFE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""It is thrown away, so it need not survive a power failure."""


@contextmanager
def private_server() -> Iterator[URL]:
    """Start a server in a temporary folder, give the URL of its empty database, and stop and remove it at the end.

    Raises:
        RuntimeError: PostgreSQL is not installed or does not start; says why.
    """
    initialise, run = _program("initdb"), _program("postgres")
    # Not pytest's folder: a server started by root runs as postgres, which cannot reach it.
    folder = Path(tempfile.mkdtemp(prefix="ctcd-postgres-"))
    url = URL.create(
        "postgresql+psycopg2", "airflow", secrets.token_hex(16), host="127.0.0.1", port=free_port(), database="postgres"
    )
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    try:
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(str(url.password))
        if user:
            shutil.chown(password, "postgres", "postgres")
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={url.username}"]
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [initialise, f"--pgdata={folder / 'data'}", *options, f"--pwfile={password}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **user,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        with _running(run, folder, url, user):
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(program: str, folder: Path, url: URL, user: dict[str, Any]) -> Iterator[None]:
    settings = (*_UNSAFE, "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "max_connections=200")
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [program, "-D", str(folder / "data"), "-p", str(url.port), *(f"--{setting}" for setting in settings)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C at a terminal reaches whoever uses the server, and is for them to handle.
            start_new_session=True,
            **user,
        )
    try:
        _wait(process, url, log)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown, which does not wait for clients
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: URL, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    engine = create_engine(url)
    try:
        while time.monotonic() < end and process.poll() is None:
            try:
                engine.connect().close()
            except OperationalError:
                time.sleep(0.05)
            else:
                return
    finally:
        engine.dispose()
    raise RuntimeError(f"postgres did not start:\n{log.read_text()[-2000:]}")


def _program(name: str) -> str:
    # Debian keeps each version's programs in a folder of its own, which is on no PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, debian)]))
    if path is None:
        raise RuntimeError(f"{name} is missing: run scripts/ensure-postgres.sh")
    return path
