"""What a MariaDB server refuses, provoked on a real one: each has an exit code and a hint, and none is quoted."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import text
from support.mariadb import OwnServer, own_server

from ctcd.errors import CtcdError, Unreachable, UsageError
from ctcd.store.engine import connect, transaction

pytestmark = pytest.mark.integration

PASSWORD = "made-up-4711"
DATABASE = "refusals_test"


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    # It counts the failed connections of a host, and a limit may be set for all users, only with these.
    with own_server("--skip-name-resolve=0", "--max-connect-errors=1", "--max-user-connections=100") as started:
        started.execute(f"CREATE DATABASE {DATABASE}")
        started.execute(f"CREATE TABLE {DATABASE}.t (a INT PRIMARY KEY, b INT)")
        yield started


def url_of(server: OwnServer, user: str, query: str = "") -> str:
    url = server.url.set(username=user, database=DATABASE, password=PASSWORD)
    return url.render_as_string(hide_password=False) + query


def new_user(server: OwnServer, name: str, options: str = "", grant: str = "ALL", on: str = "*") -> None:
    how = options if options.startswith("IDENTIFIED") else f"IDENTIFIED BY '{PASSWORD}' {options}"
    server.execute(f"CREATE USER {name}@'%' {how}")
    server.execute(f"GRANT {grant} ON {DATABASE}.{on} TO {name}@'%'")


@pytest.mark.parametrize(
    ("user", "options", "grant", "statement", "code", "hint"),
    [
        ("queries", "WITH MAX_QUERIES_PER_HOUR 3", "ALL", "SELECT 1", 1226, "raise the user's resource limits"),
        ("socket", "IDENTIFIED VIA unix_socket", "ALL", "SELECT 1", 1698, "correct user or password"),
        ("old", "PASSWORD EXPIRE", "ALL", "SELECT 1", 1820, "set a new one"),
        ("slow", "WITH MAX_STATEMENT_TIME 0.1", "ALL", "SELECT SLEEP(5)", 1969, "max_statement_time"),
        ("locked_out", "ACCOUNT LOCK", "ALL", "SELECT 1", 4151, "ACCOUNT UNLOCK"),
        ("tls", "REQUIRE SSL", "ALL", "SELECT 1", 1045, "TLS"),
        ("reader", "", "SELECT", "INSERT INTO t VALUES (1, 1)", 1142, "grant the user"),
        ("half", "", "SELECT (a)", "SELECT b FROM t", 1143, "grant the user"),
        ("plain", "", "ALL", "SET GLOBAL max_connections = 7", 1227, "grant the user"),
    ],
)
def test_what_a_user_may_not_is_told(
    server: OwnServer, *, user: str, options: str, grant: str, statement: str, code: int, hint: str
) -> None:
    """Each restriction of a user ends in exit code 6, with the server's error number and what to do about it."""
    new_user(server, user, options, grant, "t" if "(" in grant else "*")

    def work() -> None:
        for _ in range(3):
            with transaction(connect(url_of(server, user))) as connection:
                connection.execute(text(statement))

    with pytest.raises(Unreachable, match=rf"\(error {code}\) \(.*{hint}") as refused:
        work()
    assert PASSWORD not in str(refused.value)
    assert user not in str(refused.value)


def test_an_expired_password_may_end_the_login(server: OwnServer) -> None:
    """A server that disconnects users with an expired password uses another error number for the same."""
    new_user(server, "late", "PASSWORD EXPIRE")
    server.execute("SET GLOBAL disconnect_on_expired_password = ON")
    with pytest.raises(Unreachable, match=r"\(error 1862\)"):
        connect(url_of(server, "late"))


def test_a_read_only_server_is_told(server: OwnServer) -> None:
    """A replica, or a server that an operator made read-only, refuses writes by an error that says so."""
    new_user(server, "writer")
    server.execute("SET GLOBAL read_only = ON")
    try:
        with (
            pytest.raises(Unreachable, match="read-only"),
            transaction(connect(url_of(server, "writer"))) as connection,
        ):
            connection.execute(text("INSERT INTO t VALUES (2, 2)"))
    finally:
        server.execute("SET GLOBAL read_only = OFF")


def test_a_killed_statement_is_told(server: OwnServer) -> None:
    """A statement that an operator ends (KILL QUERY) may be run again."""
    new_user(server, "patient")
    ended = threading.Event()

    def work() -> None:
        with transaction(connect(url_of(server, "patient"))) as connection:
            number = connection.scalar(text("SELECT CONNECTION_ID()"))
            operator = threading.Thread(target=kill, args=(number,))
            operator.start()
            try:
                connection.execute(text("SELECT SLEEP(60)"))
            finally:
                ended.set()
                operator.join()

    def kill(number: int) -> None:
        while not ended.wait(0.2):
            server.execute(f"KILL QUERY {number}")

    with pytest.raises(Unreachable, match=r"\(error 1317\)"):
        work()


def test_a_limit_for_every_user_is_told(server: OwnServer) -> None:
    """The server's own limit of connections for each user has another error number than that of one user."""
    new_user(server, "one_of_many")
    server.execute("SET GLOBAL max_user_connections = 1")
    try:
        with (
            connect(url_of(server, "one_of_many")).connect(),
            pytest.raises(Unreachable, match=r"\(error 1203\) \(.*raise the user's resource limits"),
        ):
            connect(url_of(server, "one_of_many"))
    finally:
        server.execute("SET GLOBAL max_user_connections = 100")


def test_a_host_that_may_not_connect_is_told(server: OwnServer) -> None:
    """A host that is blocked after failed connections, and one from which no user may connect, are told apart."""
    elsewhere = "127.0.0.2"
    new_user(server, "visitor")
    url = url_of(server, "visitor", f"?bind_address={elsewhere}")
    connect(url)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", server.url.port), source_address=(elsewhere, 0)) as client:
            client.sendall(b"this is no login")
            with suppress(ConnectionResetError):  # the server closed it
                while client.recv(1_000):  # until the server has refused and counted it
                    pass
    with pytest.raises(Unreachable, match=r"\(error 1129\) \(run on the server: FLUSH HOSTS"):
        connect(url)
    server.execute("FLUSH HOSTS")
    # A host from which some user may connect is let in as far as the login.
    server.execute("UPDATE mysql.global_priv SET Host = 'localhost' WHERE Host = '%'")
    server.execute("FLUSH PRIVILEGES")
    try:
        with pytest.raises(Unreachable, match=r"\(error 1130\) \(let the user connect from this host"):
            connect(url)
    finally:
        server.execute("UPDATE mysql.global_priv SET Host = '%' WHERE User NOT IN ('root', 'mysql', 'mariadb.sys')")
        server.execute("FLUSH PRIVILEGES")


@pytest.mark.parametrize(
    "query",
    [
        *("foo=bar", "connect_timeout=abc", "ssl_ca=/nowhere", "read_timeout=0", "client_flag=abc", "port=1"),
        *("local_infile=x", "compress=1", "conv=1", "ssl=1", "named_pipe=1", "sql_mode=garbage", "collation=abc"),
        *("cursorclass=x", "foo=a&foo=b"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(server: OwnServer, query: str) -> None:
    """An option of the URL that driver or server do not know, or whose value they cannot use, is an error of the URL."""
    server.execute(f"CREATE USER IF NOT EXISTS options@'%' IDENTIFIED BY '{PASSWORD}'")
    server.execute(f"GRANT ALL ON {DATABASE}.* TO options@'%'")
    name, _, value = query.partition("=")
    with pytest.raises(UsageError, match=rf"option of FEATURE_STORE_URL: {name} ") as refused:
        connect(url_of(server, "options", f"?{query}"))
    assert f"={value}" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("host=127.0.0.9", "Connection refused"),
        ("ssl_verify_cert=true", "no TLS connection"),
        ("password=wrong", "access denied"),
    ],
)
def test_an_option_that_leads_nowhere_is_an_unreachable_store(server: OwnServer, query: str, message: str) -> None:
    """An option that is understood but leads to no connection is told like any server that does not answer."""
    with pytest.raises(Unreachable, match=message):
        connect(url_of(server, "tester", f"?{query}"))


def test_a_login_that_the_driver_cannot_make_is_told(server: OwnServer) -> None:
    """A user whose login needs a package that is not there, such as ed25519, is a matter of the URL."""
    server.execute("INSTALL SONAME 'auth_ed25519'")
    new_user(server, "ed", f"IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')")
    with pytest.raises(CtcdError, match="login") as refused:
        connect(url_of(server, "ed"))
    assert refused.value.exit_code in (UsageError.exit_code, Unreachable.exit_code)
