"""Connections to the feature store: a SQLite file or a MariaDB server."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from pymysql.constants import CLIENT, ER
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError

CONNECT_SECONDS = 10
BUSY_SECONDS = 30
"""How long a writer waits for another writer, on SQLite."""

# Strict mode, whatever the server's default: a value that does not fit is an error, never truncated or rounded.
_SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION"
ISOLATION = "READ COMMITTED"


def _session(sql_mode: str) -> str:
    return f"SET time_zone='+00:00', sql_mode='{sql_mode}'"


MARIADB_SESSION: dict[str, Any] = {
    "charset": "utf8mb4",
    "connect_timeout": CONNECT_SECONDS,
    "init_command": _session(_SQL_MODE),
}
"""Connection arguments of PyMySQL for every session with MariaDB."""
_PLAIN_BACKSLASHES = {"init_command": _session(f"{_SQL_MODE},NO_BACKSLASH_ESCAPES")}
# Errors with causes outside the program, and what a person can do about them. All others are bugs.
_RUN_AGAIN = "another writer holds the lock, nothing was written: run it again"
_SERVER = "start the server or correct FEATURE_STORE_URL"
_GRANT = "grant the user of FEATURE_STORE_URL access to the database"
_HINTS_MARIADB: dict[object, str] = {
    ER.ACCESS_DENIED_ERROR: "correct user or password in FEATURE_STORE_URL",
    ER.DBACCESS_DENIED_ERROR: _GRANT,
    ER.TABLEACCESS_DENIED_ERROR: _GRANT,
    ER.BAD_DB_ERROR: "create the database or correct its name in FEATURE_STORE_URL",
    ER.LOCK_DEADLOCK: _RUN_AGAIN,
    ER.LOCK_WAIT_TIMEOUT: _RUN_AGAIN,
    ER.CON_COUNT_ERROR: "wait, or raise the server's max_connections",
    ER.SERVER_SHUTDOWN: _SERVER,
    1927: _SERVER,  # MariaDB only: an operator killed the connection
    ER.OPTION_PREVENTS_STATEMENT: "make the server writable",
    ER.DISK_FULL: "free disk space on the server",
    ER.RECORD_FILE_FULL: "free disk space on the server",
}
_CLIENT_ERRORS = range(2000, 3000)
"""Codes of client errors, which concern the connection itself."""
_HINTS_SQLITE = {
    sqlite3.SQLITE_BUSY: _RUN_AGAIN,
    sqlite3.SQLITE_LOCKED: _RUN_AGAIN,
    sqlite3.SQLITE_PERM: "check the file's permissions",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and can be written",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_FULL: "free disk space",
    sqlite3.SQLITE_CORRUPT: "restore the file from a backup",
    sqlite3.SQLITE_NOTADB: "choose another file",
}


def safe_url(url: str | URL) -> str:
    """Return a URL for messages, with its password hidden."""
    return _parse(url).render_as_string(hide_password=True)


def connect(url: str, *, many_texts: bool = False) -> Engine:
    """Return an engine for a store, after testing one connection.

    A SQLite file is created with its folder, and uses write-ahead logging and enforced foreign keys. On MariaDB the
    driver is PyMySQL, text is utf8mb4, the session's time zone is UTC and its SQL mode is strict.

    Args:
        url: SQLAlchemy URL of the store.
        many_texts: optimise for writing text through parameters: on MariaDB, backslashes lose their special meaning, as in
            standard SQL, and PyMySQL quotes text ten times as fast. Literals with backslashes in SQL change their meaning.

    Raises:
        UsageError: the URL is malformed, or names a database or an option that is not supported.
        Unreachable: the database does not answer or refuses the connection; names host, port and database, never the
            password.
    """
    parsed = _parse(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        engine = _sqlite(parsed)
    elif backend in ("mysql", "mariadb"):
        engine = _mariadb(parsed, many_texts=many_texts)
    else:
        raise UsageError(
            f"{backend!r} is not supported", where=_address(parsed), hint="use a sqlite or mysql+pymysql URL"
        )
    with _translated(engine), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a write transaction, which is committed at the end and rolled back on any error.

    On SQLite the transaction takes the write lock at once, so that writers queue instead of failing half-way.

    Raises:
        Unreachable: the database cannot be reached, the connection was lost, or the database is locked.
        NotFound: a table is missing.
    """
    with _translated(engine), engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for reading.

    Raises:
        Unreachable: the database cannot be reached, or the connection was lost.
        NotFound: a table is missing.
    """
    with _translated(engine), engine.connect() as connection:
        yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        expected = _expected(error, engine.url)
        if expected is None:
            raise
        # Drop the driver's error from the chain: its message may contain statements with values.
        raise expected from None


def _expected(error: exc.DBAPIError, url: URL) -> CtcdError | None:
    """Return a driver error as one that a person can act on, or None if it is a bug."""
    cause = error.orig
    code, text = None, str(cause.args[-1]) if cause is not None and cause.args else "the connection was lost"
    if isinstance(cause, sqlite3.Error):
        # The lowest byte of an extended code is the primary code.
        hint = _HINTS_SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
    else:
        code = cause.args[0] if cause is not None and cause.args else None
        hint = _HINTS_MARIADB.get(code)
        if hint is None and (code in _CLIENT_ERRORS or error.connection_invalidated):
            hint = _SERVER
    if code == ER.NO_SUCH_TABLE or "no such table" in text:
        return NotFound("the store has no tables yet", where=_address(url), hint="run: ctcd migrate")
    return Unreachable(text, where=_address(url), hint=hint) if hint else None


def _address(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database or ':memory:'}"
    return f"database {url.database or ''} at {url.host or 'localhost'}:{url.port or 3306}"


def _parse(url: str | URL) -> URL:
    try:
        return make_url(url)
    except (exc.ArgumentError, ValueError):
        # Repeat neither the text nor the parser's message: both may contain a password.
        raise UsageError(
            "not a database URL", hint="write it as mysql+pymysql://user:password@host:3306/database"
        ) from None


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        folder = Path(url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"cannot make folder {folder}: {error.strerror}", where=_address(url), hint="choose another folder"
            ) from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=_to_json)

    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions too late, and never before DDL
        for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _mariadb(url: URL, *, many_texts: bool) -> Engine:
    if int(str(url.query.get("client_flag", "0"))) & CLIENT.MULTI_STATEMENTS:
        raise UsageError(
            "client_flag sets MULTI_STATEMENTS, which hides the errors of later statements",
            where=_address(url),
            hint="remove it from FEATURE_STORE_URL",
        )
    return create_engine(
        url.set(drivername="mysql+pymysql"),
        isolation_level=ISOLATION,
        pool_pre_ping=True,
        json_serializer=_to_json,
        connect_args=MARIADB_SESSION | (_PLAIN_BACKSLASHES if many_texts else {}),
    )


_strict_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _to_json(value: Any) -> str:
    """Return a value as JSON, with keys in their order; NaN and infinities raise ValueError, as JSON has neither."""
    # The fast encoder never refuses a number that is not finite.
    text = to_json(value, inf_nan_mode="constants").decode()
    return _strict_json(value) if "NaN" in text or "Infinity" in text else text
