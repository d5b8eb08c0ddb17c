"""Connections to the feature store: a SQLite file or a MariaDB server."""

import json
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json
from pymysql.connections import Connection as PyMySQLConnection
from pymysql.constants import CLIENT, CR, ER
from pymysql.err import OperationalError
from sqlalchemy import Connection, Dialect, Engine, NullPool, QueuePool, create_engine, event, exc, text
from sqlalchemy.engine import URL

from ctcd import urls
from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError

CONNECT_SECONDS = 10
BUSY_SECONDS = 30
"""How long a statement waits for the lock of another connection, on SQLite."""

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
UNFINISHED_SECONDS = 30
"""How long the server keeps the transaction of a shipping process that has written and then says nothing: its machine
may have lost its power or its network, and the rows that it has locked are those that its successor sends again."""
_SHIPPING = {
    "init_command": f"{_session(f'{_SQL_MODE},NO_BACKSLASH_ESCAPES')}, "
    f"idle_write_transaction_timeout={UNFINISHED_SECONDS}"
}


class Cause(NamedTuple):
    """A cause outside the program for which a database refuses to work.

    Args:
        what: the cause, in our words: a driver's message may contain values.
        hint: what a person can do about it.
    """

    what: str
    hint: str


_BUSY = Cause("another connection holds the lock", "nothing was written: run it again")
_LOGIN = Cause("access denied", "correct user or password in FEATURE_STORE_URL, or use TLS if the user has to")
_PRIVILEGE = Cause(
    "access denied: a privilege is missing", "grant the user of FEATURE_STORE_URL access to the database"
)
_PASSWORD = Cause("the user's password has expired", "set a new one on the server and in FEATURE_STORE_URL")
_LIMIT = Cause("the user has reached a limit on the server", "wait, or raise the user's resource limits")
_ENDED = Cause("the server ended the connection", "start the server or correct FEATURE_STORE_URL")
_INTERRUPTED = Cause("the server interrupted a statement", "run it again, or raise the server's max_statement_time")
_READ_ONLY = Cause("the server is read-only", "make the server writable")
_DISK = Cause("the server's disk is full", "free disk space on the server")
_MARIADB = {
    ER.ACCESS_DENIED_ERROR: _LOGIN,
    1698: _LOGIN,  # no password was given
    ER.HOST_NOT_PRIVILEGED: Cause("access denied for this host", "let the user connect from this host"),
    ER.HOST_IS_BLOCKED: Cause("this host is blocked after failed connections", "run on the server: FLUSH HOSTS"),
    1820: _PASSWORD,
    1862: _PASSWORD,
    4151: Cause("the user's account is locked", "run on the server: ALTER USER ... ACCOUNT UNLOCK"),
    ER.DBACCESS_DENIED_ERROR: _PRIVILEGE,
    ER.TABLEACCESS_DENIED_ERROR: _PRIVILEGE,
    ER.COLUMNACCESS_DENIED_ERROR: _PRIVILEGE,
    ER.SPECIFIC_ACCESS_DENIED_ERROR: _PRIVILEGE,
    ER.BAD_DB_ERROR: Cause("unknown database", "create the database or correct its name in FEATURE_STORE_URL"),
    ER.USER_LIMIT_REACHED: _LIMIT,
    ER.TOO_MANY_USER_CONNECTIONS: _LIMIT,
    ER.CON_COUNT_ERROR: Cause("the server has too many connections", "wait, or raise the server's max_connections"),
    ER.LOCK_DEADLOCK: _BUSY,
    ER.LOCK_WAIT_TIMEOUT: _BUSY,
    ER.QUERY_INTERRUPTED: _INTERRUPTED,
    1969: _INTERRUPTED,  # max_statement_time
    ER.SERVER_SHUTDOWN: _ENDED,
    1927: _ENDED,  # an operator killed the connection
    ER.OPTION_PREVENTS_STATEMENT: _READ_ONLY,
    1792: _READ_ONLY,  # the transaction is
    1836: _READ_ONLY,
    CR.CR_SSL_CONNECTION_ERROR: Cause("no TLS connection", "correct the ssl options of FEATURE_STORE_URL"),
    CR.CR_AUTH_PLUGIN_CANNOT_LOAD: Cause("the driver does not know the user's login method", "use a password"),
    ER.DISK_FULL: _DISK,
    ER.RECORD_FILE_FULL: _DISK,
}
"""Errors of server and driver with causes outside the program; PyMySQL knows no name for the numbers."""
_CLIENT_ERRORS = range(2000, 3000)
"""Codes of client errors, which concern the connection itself."""
_SQLITE = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PERM: Cause("access denied", "check the file's permissions"),
    sqlite3.SQLITE_READONLY: Cause("it is read-only", "make the file and its folder writable"),
    sqlite3.SQLITE_CANTOPEN: Cause("it cannot be opened", "check that the folder exists and can be written"),
    sqlite3.SQLITE_IOERR: Cause("the disk fails", "check the disk"),
    sqlite3.SQLITE_FULL: Cause("the disk is full", "free disk space"),
    sqlite3.SQLITE_CORRUPT: Cause("it is damaged", "restore the file from a backup"),
    sqlite3.SQLITE_NOTADB: Cause("it is not a database", "choose another file"),
}


_LIMIT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses in seconds before a user who has reached a limit connects again: the server notices a moment later that the
connection before has ended."""


class _Connection(PyMySQLConnection):
    """A connection that uses TLS if the server has it, as PyMySQL does, with one context for the whole process.

    PyMySQL makes one for each connection, which loads the certificates of the system's authorities: 16 ms, for nothing,
    because without a CA in the URL it verifies none.
    """

    _context: Any = None

    def _create_ssl_ctx(self, sslp: Any) -> Any:
        make = super()._create_ssl_ctx  # type: ignore[misc]  # the stubs leave it out
        if sslp:
            return make(sslp)
        if _Connection._context is None:
            _Connection._context = make(sslp)
        return _Connection._context


@event.listens_for(Engine, "do_connect")  # those of Great Expectations, too, which connect for each query
def _connect(dialect: Dialect, _record: object, args: Any, arguments: Any) -> Any:
    if dialect.driver != "pymysql":
        return None
    for pause in _LIMIT_PAUSES:
        try:
            return _Connection(*args, **arguments)
        except OperationalError as error:
            if error.args[0] not in (ER.USER_LIMIT_REACHED, ER.TOO_MANY_USER_CONNECTIONS):
                raise
            time.sleep(pause)
    return _Connection(*args, **arguments)


def connect(url: str, *, shipping: bool = False) -> Engine:
    """Return an engine for a store, after testing one connection.

    A SQLite file is created with its folder, and uses write-ahead logging and enforced foreign keys. On MariaDB the
    driver is PyMySQL, text is utf8mb4, the session's time zone is UTC and its SQL mode is strict.

    Args:
        url: SQLAlchemy URL of the store.
        shipping: optimise for a process that writes text through parameters all the time: on MariaDB, the connection is
            kept, an unfinished transaction is rolled back after 30 s without a statement, and backslashes lose their
            special meaning, as in standard SQL, so that PyMySQL quotes text ten times as fast. Literals with
            backslashes in SQL change their meaning.

    Raises:
        UsageError: the URL is malformed, or names a database or an option that is not supported.
        Unreachable: the database does not answer or refuses the connection; names host, port and database, never the
            password.
    """
    try:
        parsed = urls.parse(url)
    except ValueError:
        hint = "write it as mysql+pymysql://user:password@host:3306/database"
        raise UsageError("not a database URL", hint=hint) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "mysql", "mariadb"):
        raise UsageError(
            f"{backend!r} is not supported", where=_address(parsed), hint="use a sqlite or mysql+pymysql URL"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", exc.SAWarning)  # an option that would be ignored
            engine = _sqlite(parsed) if backend == "sqlite" else _mariadb(parsed, shipping=shipping)
        with _translated(engine), engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except CtcdError:
        raise
    except Exception as error:  # noqa: BLE001 - a driver raises anything for an argument, a missing file, a way to log in
        options = f"an option of FEATURE_STORE_URL: {', '.join(sorted(parsed.query))}" if parsed.query else "this login"
        raise UsageError(
            f"{options} cannot be used ({type(error).__name__})", where=_address(parsed), hint="correct it"
        ) from None
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
def alone(engine: Engine, work: str, *, seconds: int = 60) -> Iterator[Connection]:
    """Yield a connection in a write transaction, which no other process has at the same time for the same work.

    On MariaDB others wait until it is committed, for up to some seconds, by a lock of this name and database.

    Raises:
        Unreachable: another process has been at this work for longer, or the store does not answer.
    """
    if engine.dialect.name == "sqlite":  # the transaction holds the write lock
        with transaction(engine) as connection:
            yield connection
        return
    with reading(engine) as connection:
        lock = {"name": f"{work} {engine.url.database}"[:64], "seconds": seconds}
        if connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), lock) != 1:
            raise Unreachable(
                f"another process holds the lock of {work!r}",
                where=_address(engine.url),
                hint="wait for it, then run it again",
            )
        # The lock belongs to the connection. Whoever gets it next has to find what was written under it: it is released
        # after the commit, and what is read under it is read in a transaction that began after it.
        connection.rollback()
        try:
            with connection.begin():
                yield connection
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)


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
    if isinstance(cause, sqlite3.Error):
        if "no such table" in str(cause):
            return _no_tables(url)
        # The lowest byte of an extended code is the primary code.
        found = _SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
        return Unreachable(found.what, where=_address(url), hint=found.hint) if found else None
    return refusal(cause, url, lost=error.connection_invalidated)


def refusal(cause: BaseException | None, url: URL, *, lost: bool = False) -> CtcdError | None:
    """Return an error of PyMySQL as one that a person can act on, or None if it is a bug.

    `lost` says that the connection is known to be lost.
    """
    code: int = cause.args[0] if cause is not None and cause.args else 0
    if code == ER.NO_SUCH_TABLE:
        return _no_tables(url)
    found = _MARIADB.get(code)
    if found is None and (lost or code in _CLIENT_ERRORS):
        # The reason for which the system made no connection; later ones have none.
        reason = getattr(cause, "original_exception", None)
        text = getattr(reason, "strerror", None) or (type(reason).__name__ if reason else "the connection was lost")
        found = Cause(f"the server does not answer: {text}", _ENDED.hint)
    return Unreachable(f"{found.what} (error {code})", where=_address(url), hint=found.hint) if found else None


def _no_tables(url: URL) -> NotFound:
    return NotFound("the store has no tables yet", where=_address(url), hint="run: ctcd migrate")


def _address(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database or ':memory:'}"
    return f"database {url.database or ''} at {url.host or 'localhost'}:{url.port or 3306}"


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        folder = Path(url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"cannot make folder {folder}: {error.strerror}", where=_address(url), hint="choose another folder"
            ) from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=_to_json, hide_parameters=True)

    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions too late, and never before DDL
        # FULL: a commit is on disk, as the outbox deletes what the store has accepted.
        for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _mariadb(url: URL, *, shipping: bool) -> Engine:
    if int(str(url.query.get("client_flag", "0"))) & CLIENT.MULTI_STATEMENTS:
        raise UsageError(
            "client_flag sets MULTI_STATEMENTS, which hides the errors of later statements",
            where=_address(url),
            hint="remove it from FEATURE_STORE_URL",
        )
    return create_engine(
        url.set(drivername="mysql+pymysql"),
        isolation_level=ISOLATION,
        # A command holds one connection at a time, and none between two pieces of work: a user's connections are few.
        poolclass=QueuePool if shipping else NullPool,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=_to_json,
        connect_args=MARIADB_SESSION | (_SHIPPING if shipping else {}),
    )


_strict_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _to_json(value: Any) -> str:
    """Return a value as JSON, with keys in their order; NaN and infinities raise ValueError, as JSON has neither."""
    # The fast encoder never refuses a number that is not finite.
    text = to_json(value, inf_nan_mode="constants").decode()
    return _strict_json(value) if "NaN" in text or "Infinity" in text else text
