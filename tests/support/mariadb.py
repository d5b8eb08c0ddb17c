"""A MariaDB server for tests, and databases of their own on it."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pymysql
from sqlalchemy.engine import URL, make_url
from support.network import free_port

SUFFIX = "_test"
"""Ends the name of every database that tests may create, clean or drop."""
START_SECONDS = 60


SERVER_URL = "TESTS_FEATURE_STORE_URL"
"""Where tests keep what FEATURE_STORE_URL was: it names their server, and is not a setting of what they test."""


class ForeignDatabase(Exception):
    """Tests were about to touch a database that is not theirs."""


@contextmanager
def server() -> Iterator[URL]:
    """Give the URL, without a database, of the server in FEATURE_STORE_URL or else of a private one."""
    configured = os.environ.get("FEATURE_STORE_URL") or os.environ.get(SERVER_URL, "")
    if configured and make_url(configured).get_backend_name() in ("mysql", "mariadb"):
        yield make_url(configured)._replace(drivername="mysql+pymysql", database=None)
        return
    with private_server() as url:
        yield url


@contextmanager
def database(url: URL) -> Iterator[URL]:
    """Give the URL of a new, empty database on a server; it is dropped at the end."""
    name = f"ctcd_{secrets.token_hex(6)}{SUFFIX}"
    _execute(url, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    created = url.set(database=name)
    try:
        yield created
    finally:
        drop(created)


def drop(url: URL) -> None:
    """Drop the database of a URL.

    Raises:
        ForeignDatabase: its name does not end as those of test databases do.
    """
    if not (url.database or "").endswith(SUFFIX):
        raise ForeignDatabase(f"refuse to drop {url.database!r}: its name does not end in {SUFFIX}")
    _execute(url, f"DROP DATABASE IF EXISTS `{url.database}`")


@contextmanager
def private_server() -> Iterator[URL]:
    """Start a server of our own in a temporary folder, give its URL, and stop it.

    Raises:
        RuntimeError: MariaDB is not installed, or does not start; says why.
    """
    with own_server() as server:
        yield server.url


class OwnServer:
    """A server of our own that can be stopped and started again, on the same port and with the same data.

    Args:
        program: path of mariadbd.
        folder: for its data and its log.
        options: further ones of mariadbd; they override those given here.
    """

    def __init__(self, program: str, folder: Path, options: Sequence[str]) -> None:
        self._port = free_port()
        self._log = folder / "server.log"
        self._command = [
            program,
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--tmpdir={folder}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            # A commit survives the end of the server, not that of the machine, which no test needs.
            "--innodb-flush-log-at-trx-commit=2",
            *options,
        ]
        self._root = URL.create("mysql+pymysql", username="root", host="127.0.0.1", port=self._port)
        self.url = self._root.set(username="tester", password=secrets.token_hex(16))
        self.start()
        _execute(self._root, f"CREATE USER 'tester'@'%' IDENTIFIED BY '{self.url.password}'")
        _execute(self._root, "GRANT ALL PRIVILEGES ON *.* TO 'tester'@'%'")

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("a") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 -- fixed arguments
        _wait(self.process, self._root, self._log)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def execute(self, statement: str) -> None:
        """Run a statement as root."""
        _execute(self._root, statement)


@contextmanager
def own_server(*options: str) -> Iterator[OwnServer]:
    """Start a server of our own in a temporary folder, give it, and stop it; for what it raises see `private_server`.

    Args:
        options: further options of mariadbd.
    """
    install, run = _program("mariadb-install-db"), _program("mariadbd")
    # Not pytest's folder: a server started by root runs as mysql, which cannot reach it.
    folder = Path(tempfile.mkdtemp(prefix="ctcd-mariadb-"))
    try:
        as_user = []
        if os.geteuid() == 0:
            as_user = ["--user=mysql"]
            owner = pwd.getpwnam("mysql")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _install(install, folder, as_user)
        server = OwnServer(run, folder, [*as_user, *options])
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    # Debian puts the server where only root's PATH leads.
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
    if path is None:
        raise RuntimeError(f"{name} is missing: run scripts/ensure-mariadb.sh, or set FEATURE_STORE_URL")
    return path


def _install(program: str, folder: Path, as_user: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 -- fixed arguments
        [
            program,
            "--no-defaults",
            *as_user,
            f"--datadir={folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        # A server that starts deletes the temporary tables of all others that share its folder for them.
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _wait(process: subprocess.Popen[bytes], url: URL, log: Path) -> None:
    for _ in range(START_SECONDS * 20):
        with suppress(pymysql.OperationalError):
            _execute(url, "SELECT 1")
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise RuntimeError(f"mariadbd did not start:\n{log.read_text()[-2000:]}")


def _execute(url: URL, statement: str) -> None:
    connection = pymysql.connect(
        host=url.host or "127.0.0.1", port=url.port or 3306, user=url.username, password=url.password or ""
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
