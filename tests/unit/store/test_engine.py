import socket
import threading
from pathlib import Path

import pytest
from pymysql.err import OperationalError as DriverError
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError
from support.stores import TABLES, count

from ctcd.errors import NotFound, Unreachable, UsageError
from ctcd.store.engine import connect, reading, transaction
from ctcd.urls import masked

SECRET = "s3cret!"
QUARANTINED = {"table_name": "t", "source": "s", "line": 1, "reasons": [], "record": {}}


def test_a_url_for_messages_hides_its_password() -> None:
    """User and password are left out, the rest stays."""
    shown = masked(f"mysql+pymysql://ct:{SECRET}@db.example:3306/mlops")
    assert shown == "mysql+pymysql://db.example:3306/mlops"


def test_an_unreachable_server_is_named_without_the_password() -> None:
    """Where nothing listens, the message names host, port and database."""
    with socket.socket() as taken:  # bound and not listening: it refuses
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"database mlops at 127\.0\.0\.1:{port}.*refused") as caught:
            connect(f"mysql+pymysql://ct:{SECRET}@127.0.0.1:{port}/mlops")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [f"user:{SECRET}@host", "", f"mysql+pymysql://ct:{SECRET}@host:port/x"],
    ids=["no-scheme", "empty", "bad-port"],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: str) -> None:
    """Text that is no URL is refused without repeating it."""
    with pytest.raises(UsageError, match="not a database URL") as caught:
        connect(url)
    assert SECRET not in str(caught.value)


def test_other_databases_are_refused() -> None:
    """A database that is not supported is named."""
    with pytest.raises(UsageError, match="'postgresql' is not supported"):
        connect("postgresql://user@host/x")


def test_several_statements_at_once_are_refused() -> None:
    """A client flag under which the errors of later statements are lost is refused."""
    with pytest.raises(UsageError, match="MULTI_STATEMENTS"):
        connect("mysql+pymysql://user@host/x?client_flag=65536")


def test_a_sqlite_file_is_made_with_its_folder(tmp_path: Path) -> None:
    """A new file is write-ahead logged and enforces foreign keys."""
    engine = connect(f"sqlite:///{tmp_path / 'new' / 'folder' / 'store.db'}")
    with reading(engine) as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of a folder ends in a clear error."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unreachable, match="cannot make folder"):
        connect(f"sqlite:///{tmp_path / 'file' / 'store.db'}")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """A file that is not SQLite's ends in a clear error."""
    (tmp_path / "store.db").write_text("no database" * 1000)
    with pytest.raises(Unreachable, match=r"store\.db: it is not a database"):
        connect(f"sqlite:///{tmp_path / 'store.db'}")


def test_missing_tables_are_named(tmp_path: Path) -> None:
    """The error for a store without tables names the command to run."""
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(NotFound, match=r"no tables yet \(run: ctcd migrate\)"):
        count(engine, TABLES.labels)
    engine.dispose()


def test_our_own_defects_stay_tracebacks(store: Engine) -> None:
    """A wrong statement is a defect of the program and not dressed up as an unreachable store."""
    with pytest.raises(OperationalError, match="no such column"), reading(store) as connection:
        connection.execute(text(f"SELECT wrong FROM {TABLES.labels.name}"))  # noqa: S608 -- a fixed name


def test_a_transaction_is_all_or_nothing(store: Engine) -> None:
    """What was written before an error is gone after it, tables made included."""

    def write_and_fail() -> None:
        with transaction(store) as connection:
            connection.execute(text("CREATE TABLE extra (x INTEGER)"))
            connection.execute(TABLES.quarantine.insert(), QUARANTINED)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert count(store, TABLES.quarantine) == 0
    with reading(store) as connection:
        assert connection.scalar(text("SELECT count(*) FROM sqlite_master WHERE name = 'extra'")) == 0


def test_writers_queue(store: Engine) -> None:
    """Two writers that both read before they write do so one after the other, and neither fails."""
    first_is_in = threading.Event()
    order = []

    def second() -> None:
        first_is_in.wait()
        with transaction(store) as connection:
            order.append("second")
            connection.execute(TABLES.quarantine.delete())

    other = threading.Thread(target=second)
    other.start()
    with transaction(store) as connection:
        first_is_in.set()
        connection.execute(text(f"SELECT * FROM {TABLES.quarantine.name}")).all()  # noqa: S608 -- a fixed name
        connection.execute(TABLES.quarantine.insert(), QUARANTINED)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert count(store, TABLES.quarantine) == 0


def test_a_writer_holds_the_store_from_its_beginning(store: Engine) -> None:
    """A second writer is kept out before the first has written, so that neither fails half-way; one that cannot wait gets an error."""
    impatient = connect(str(store.url))
    event.listen(impatient, "connect", lambda connection, _record: connection.execute("PRAGMA busy_timeout=0"))
    impatient.pool.dispose()
    refused = pytest.raises(Unreachable, match=r"another connection holds the lock \(nothing was written")
    with transaction(store), refused, transaction(impatient):
        pass
    with transaction(impatient) as connection:
        connection.execute(TABLES.quarantine.insert(), QUARANTINED)
    impatient.dispose()


@pytest.mark.parametrize("code", [1203, 1226])
def test_a_user_at_a_limit_connects_again_a_moment_later(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may count a connection that has just ended; a limit that stays reached is named."""
    refusals = iter([code] * 2)

    class Server:
        """In place of a driver's connection, as no server can be told how long to count one that has ended."""

        def __init__(self, **_: object) -> None:
            for refusal in refusals:
                raise DriverError(refusal, "has reached a limit")
            raise DriverError(1045, "access denied")

    monkeypatch.setattr("ctcd.store.engine._Connection", Server)
    monkeypatch.setattr("ctcd.store.engine.time.sleep", lambda _: None)
    url = "mysql+pymysql://user:password-0123456789@127.0.0.1:1/mlops"
    with pytest.raises(Unreachable, match="access denied"):  # the third attempt, which the limit lets through
        connect(url)
    refusals = iter([code] * 99)
    with pytest.raises(Unreachable, match="the user has reached a limit on the server"):
        connect(url)
    assert len(list(refusals)) == 99 - 6
