"""Connections to a real MariaDB."""

import ssl

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ProgrammingError
from support.stores import TABLES, count, everything

from ctcd.errors import NotFound, Unreachable
from ctcd.store.engine import connect, reading, transaction

pytestmark = pytest.mark.integration

SECRET = "not-the-s3cret"  # a made-up one


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def test_a_wrong_password_is_told_and_not_repeated(store_url: str) -> None:
    """The error for a refused login names what to correct; neither the right nor the wrong password is in the message."""
    url = make_url(store_url)
    with pytest.raises(Unreachable, match=r"access denied.*correct user or password") as caught:
        connect(text_of(url.set(password=SECRET)))
    assert SECRET not in str(caught.value)
    assert str(url.password) not in str(caught.value)
    assert f"{url.host}:{url.port}" in str(caught.value)


def test_a_missing_database_is_named(store_url: str) -> None:
    """A database that is not there is named with what to do."""
    with pytest.raises(Unreachable, match=r"database nowhere_test at .*unknown database.*create the database"):
        connect(text_of(make_url(store_url).set(database="nowhere_test")))


def test_missing_tables_are_named(empty_store_url: str) -> None:
    """The error for a database without tables names the command to run."""
    with pytest.raises(NotFound, match="ctcd migrate"):
        count(connect(empty_store_url), TABLES.labels)


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mariadb+pymysql"])
def test_every_spelling_uses_the_same_driver(store_url: str, scheme: str) -> None:
    """However the URL names the dialect, PyMySQL with MySQL's dialect is used."""
    engine = connect(text_of(make_url(store_url).set(drivername=scheme)))
    assert (engine.dialect.name, engine.dialect.driver) == ("mysql", "pymysql")


@pytest.mark.parametrize("shipping", [False, True])
def test_every_session_is_strict_and_in_utc(store_url: str, shipping: bool) -> None:
    """Also those that ship predictions: what does not fit is an error, and nothing waits for rows that others read."""
    settings = (
        "SELECT @@sql_mode, @@time_zone, @@tx_isolation, @@character_set_connection, @@idle_write_transaction_timeout"
    )
    with reading(connect(store_url, shipping=shipping)) as connection:
        mode, *others = connection.execute(text(settings)).one()
    strict = {"STRICT_ALL_TABLES", "ERROR_FOR_DIVISION_BY_ZERO", "NO_ZERO_DATE", "NO_ZERO_IN_DATE"}
    quick = {"NO_BACKSLASH_ESCAPES"} if shipping else set[str]()
    assert set(mode.split(",")) == strict | {"NO_ENGINE_SUBSTITUTION"} | quick
    assert others == ["+00:00", "READ-COMMITTED", "utf8mb4", 30 if shipping else 0]


def test_a_second_statement_is_refused(store_url: str) -> None:
    """Two statements in one are an error, so that no error of a second one can be lost."""
    with pytest.raises(ProgrammingError, match="syntax"), reading(connect(store_url)) as connection:
        connection.execute(text("SELECT 1; SELECT 2"))


def test_a_killed_connection_is_unreachable_and_leaves_nothing(store_url: str) -> None:
    """Where the server ends a connection in the middle, the error is clear, nothing is written, and the next try works."""
    engine, other = connect(store_url), connect(store_url)

    def write_while_killed() -> None:
        with transaction(engine) as connection:
            row = {"table_name": "t", "source": "s", "line": 1, "reasons": [], "record": {}}
            connection.execute(TABLES.quarantine.insert(), row)
            number = connection.scalar(text("SELECT CONNECTION_ID()"))
            with transaction(other) as killer:
                killer.execute(text(f"KILL {number}"))
            connection.execute(text("SELECT 1"))

    with pytest.raises(Unreachable, match="start the server"):
        write_while_killed()
    assert not any(everything(engine).values())


def test_connections_share_what_tls_needs(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates of the system's authorities are loaded once for a process at most, and for a CA in the URL each time."""
    made: list[str | None] = []

    def make(cafile: str | None = None, **_: object) -> ssl.SSLContext:
        made.append(cafile)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr("pymysql.connections.ssl.create_default_context", make)
    monkeypatch.setattr("ctcd.store.engine._Connection._context", None)
    for _ in range(3):
        assert count(connect(store_url), TABLES.labels) == 0
    assert made == [None]
    for _ in range(2):
        with pytest.raises(Unreachable):  # the server of the tests has no TLS
            connect(f"{store_url}&ssl_ca=ca.pem" if "?" in store_url else f"{store_url}?ssl_ca=ca.pem")
    assert made == [None, "ca.pem", "ca.pem"]
