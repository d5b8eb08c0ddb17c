"""Partitions of the prediction log in a real MariaDB, and the months that are dropped from it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, inspect, select
from support.instance import CONTRACT
from support.stores import TABLES, count

from ctcd.errors import Unreachable, UsageError
from ctcd.serving.broker import request_id
from ctcd.store import retention
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction, append
from ctcd.store.retention import partition, retain

pytestmark = pytest.mark.integration

TODAY = date(2026, 11, 26)
LOG = TABLES.predictions


def logged(number: int, at: datetime, *, named: str = "") -> LoggedPrediction:
    return LoggedPrediction(
        request_id=named or f"request-{number}",
        group=number,
        features={"maker": "Écrivain 😀"},
        prediction="sound",
        confidence=0.5,
        model_version="12",
        run_id="run 12",
        elapsed_ms=1.25,
        created_at=at,
    )


def of_month(month: int, rows: int, *, begin: int = 0) -> list[LoggedPrediction]:
    return [logged(begin + number, datetime(2026, month, 1 + number % 28, tzinfo=UTC)) for number in range(rows)]


@pytest.fixture
def store(store_url: str) -> Iterator[Engine]:
    """A log with three predictions in each of seven months, in small chunks."""
    engine = connect(store_url)
    for month in range(5, 12):
        append(engine, CONTRACT, of_month(month, 3, begin=10 * month))
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 4)
    monkeypatch.setattr(retention, "LOCK_SECONDS", 1)


def ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(LOG.c.request_id).order_by(LOG.c.id)))


def tables(engine: Engine) -> set[str]:
    return {name for name in inspect(engine).get_table_names() if name.startswith(LOG.name)}


def test_a_filled_log_gets_partitions_and_loses_months(store: Engine) -> None:
    """All rows are there afterwards, once, and months that end before the oldest kept one are dropped, whole."""
    before = ids(store)
    partition(store, CONTRACT, TODAY)
    assert (ids(store), tables(store)) == (before, {LOG.name})
    append(store, CONTRACT, of_month(5, 3, begin=50))  # sent again
    assert ids(store) == before
    report = retain(store, CONTRACT, TODAY, keep_months=2)
    assert report.dropped == ("p202605", "p202606", "p202607", "p202608")
    assert (report.partitioned, report.first_month, report.added, report.deleted) == (True, "2026-09", (), 0)
    assert ids(store) == before[-9:]
    partition(store, CONTRACT, TODAY)
    again = retain(store, CONTRACT, date(2026, 12, 1), keep_months=3)
    assert (again.added, again.dropped) == (("p202703",), ())
    append(store, CONTRACT, [logged(1, datetime(2027, 2, 28, tzinfo=UTC)), logged(2, datetime(2030, 1, 1, tzinfo=UTC))])
    assert retain(store, CONTRACT, date(2030, 1, 1), keep_months=None).added[:1] == ("p202704",)
    assert count(store, LOG) == 11


@pytest.mark.parametrize("at", ["CREATE TABLE", "INSERT INTO", "RENAME TABLE"])
def test_what_was_interrupted_is_continued(store: Engine, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is killed, the log has every row, also what is written at that moment, and the next run ends well."""
    before, run, left = ids(store), Connection.exec_driver_sql, [False, True]
    url = store.url.render_as_string(hide_password=False)

    def interrupted(self: Connection, statement: str, *arguments: Any, **options: Any) -> object:
        stop = statement.startswith(at) and left.pop()
        if stop:
            append(connect(url), CONTRACT, [logged(1, datetime(2026, 11, 26, tzinfo=UTC))])
        done = run(self, statement, *arguments, **options)
        if stop:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "exec_driver_sql", interrupted)
        with pytest.raises(KeyboardInterrupt):
            partition(store, CONTRACT, TODAY)
    assert set(ids(store)) - {"request-1"} == set(before)
    append(store, CONTRACT, of_month(11, 9, begin=200))
    partition(store, CONTRACT, TODAY)
    assert (sorted(ids(store)), tables(store)) == (
        sorted({"request-1", *before, *(f"request-{200 + n}" for n in range(9))}),
        {LOG.name},
    )
    assert retention.is_partitioned(store, LOG)


def test_a_writer_loses_nothing_meanwhile(store: Engine) -> None:
    """While the log gets partitions and loses months, a writer goes on, and each of its predictions is there once."""
    ended = Event()
    written: list[str] = []
    writing = connect(store.url.render_as_string(hide_password=False), shipping=True)

    def write() -> None:
        while not ended.is_set():
            number = 1_000 + len(written)
            append(writing, CONTRACT, [logged(number, datetime(2026, 11, 26, tzinfo=UTC))])
            written.append(f"request-{number}")

    writer = Thread(target=write)
    writer.start()
    try:
        partition(store, CONTRACT, TODAY)
        seen = len(written)
        retain(store, CONTRACT, TODAY, keep_months=2)
    finally:
        ended.set()
        writer.join(60)
    assert len(written) > seen > 0
    assert sorted(ids(store)[9:]) == sorted(written)


def test_a_log_in_use_is_given_up_soon(store: Engine) -> None:
    """A transaction that reads for long delays the drop for seconds at most, then it is left for another time."""
    partition(store, CONTRACT, TODAY)
    with store.connect() as reader:
        reader.execute(select(LOG.c.id)).all()
        with pytest.raises(Unreachable, match="another connection holds the lock"):
            retain(store, CONTRACT, TODAY, keep_months=2)
        append(store, CONTRACT, [logged(1, datetime(2026, 11, 26, tzinfo=UTC))])
    assert len(retain(store, CONTRACT, TODAY, keep_months=2).dropped) == 4


def test_a_message_answered_twice_is_logged_once(store: Engine) -> None:
    """A broker's message that is delivered again has another time; its row, and that of its shadow, are there once."""
    partition(store, CONTRACT, TODAY)
    before = count(store, LOG)
    named = UUID(request_id("order-1", b"{}")).hex + "0000"
    for each in (named, "s" + named[1:]):
        first = logged(1, datetime(2026, 11, 1, tzinfo=UTC), named=each)
        again = replace(first, created_at=datetime(2026, 11, 2, tzinfo=UTC))
        append(store, CONTRACT, [first, again])
        append(store, CONTRACT, [again, logged(2, datetime(2026, 11, 2, tzinfo=UTC))])
    assert count(store, LOG) == before + 3
    assert ids(store).count(named) == 1


def test_rows_without_partitions_are_deleted(each_store_url: str) -> None:
    """Rows of months that are too old are deleted in chunks, and no others, on SQLite and on MariaDB."""
    engine = connect(each_store_url)
    for month in (7, 8, 9):
        append(engine, CONTRACT, of_month(month, 9, begin=month * 10))
    assert retain(engine, CONTRACT, TODAY, keep_months=None).deleted == 0
    report = retain(engine, CONTRACT, TODAY, keep_months=2)
    assert (report.deleted, report.partitioned, count(engine, LOG)) == (18, False, 9)
    engine.dispose()


@pytest.mark.parametrize("end", ["new", "old"])
def test_a_table_of_somebody_else_is_left_alone(store: Engine, end: str) -> None:
    """A table that has the name of one that partitions need is refused, with all of its rows, and so is the rest."""
    before = ids(store)
    with store.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {LOG.name}_{end} AS SELECT * FROM {LOG.name}")  # noqa: S608 - names of the test
    with pytest.raises(UsageError, match="not known to be theirs"):
        retain(store, CONTRACT, TODAY, keep_months=2, partitions=True)
    assert (ids(store), tables(store)) == (before, {LOG.name, f"{LOG.name}_{end}"})
    with store.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {LOG.name}_{end}").scalar() == len(before)  # noqa: S608 - names of the test


def test_each_retain_finishes_what_was_killed(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed once the tables changed places is finished without --partition, and no expired row comes back."""
    before = ids(store)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "_copy", lambda *_, **__: None)  # nothing is copied, then it is killed
        run = Connection.exec_driver_sql

        def killed(self: Connection, statement: str, *arguments: Any, **options: Any) -> object:
            if statement.startswith("DROP TABLE `") and statement.endswith("_old`"):
                raise KeyboardInterrupt
            return run(self, statement, *arguments, **options)

        patched.setattr(Connection, "exec_driver_sql", killed)
        with pytest.raises(KeyboardInterrupt):
            partition(store, CONTRACT, TODAY)
    assert ids(store) == []
    retain(store, CONTRACT, TODAY, keep_months=2)
    assert (ids(store), tables(store)) == (before[-9:], {LOG.name})
    append(store, CONTRACT, of_month(5, 2, begin=900))  # late: into the oldest partition that is left
    assert retain(store, CONTRACT, TODAY, keep_months=2).deleted == 2
    assert ids(store) == before[-9:]


def test_rows_of_the_future_get_partitions(store: Engine) -> None:
    """If a clock was wrong and all rows are later than the months ahead, the log gets partitions all the same."""
    before = ids(store)
    partition(store, CONTRACT, date(2025, 1, 1))
    assert retain(store, CONTRACT, date(2025, 1, 1), keep_months=2).dropped == ()
    assert ids(store) == before
