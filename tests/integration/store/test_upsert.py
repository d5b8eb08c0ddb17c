"""Frames written by column, as the rows are stored by a real MariaDB and by SQLite."""

from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    MetaData,
    Table,
    Text,
    delete,
    select,
)
from sqlalchemy.engine import Engine

from ctcd.store import upsert
from ctcd.store.engine import connect, reading, transaction
from ctcd.store.upsert import upsert_frame

pytestmark = pytest.mark.integration

TABLE = Table(
    "odd values",
    MetaData(),
    Column("(?, ?)", BigInteger(), primary_key=True, autoincrement=False),
    Column("100 % `it's`", Text()),
    Column("number", Double()),
    Column("whole", BigInteger()),
    Column("truth", Boolean()),
    Column("day", Date()),
    Column("moment", DateTime()),
    mysql_charset="utf8mb4",
)
TEXTS = [
    "\\",
    "\\'",
    "'; DROP TABLE x; --",
    '"',
    "%s",
    "%(day)s",
    "100 %",
    "\\n\n\r\0\x1a",
    "''",
    "\\0",
    "NULL",
    "?",
    "",
    "😀",
]
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.none() | st.dates(date(1000, 1, 1), date(9999, 12, 31)),
        st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(microsecond=0)),  # noqa: DTZ001 - a DATETIME has no zone
    ),
    min_size=1,
)


@pytest.fixture(params=["mariadb", "sqlite"])
def engine(request: pytest.FixtureRequest, empty_store_url: str, tmp_path: Path) -> Engine:
    """A database with the table."""
    engine = connect(empty_store_url if request.param == "mariadb" else f"sqlite:///{tmp_path / 'odd.db'}")
    with transaction(engine) as connection:
        TABLE.create(connection)
    return engine


@given(rows=ROWS)
@example([(text, 5e-324, 0, True, None, None) for text in TEXTS])
@example([(None, number, 0, False, None, None) for number in (0.1, 1e15, -0.0, 1.7976931348623157e308, 2**53 + 2.0)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example empties the table first
def test_every_value_is_stored_as_it_is(engine: Engine, rows: list[tuple[object, ...]]) -> None:
    """Whatever a text contains and however large a number is, it comes back; a row replaces the one with the same key."""
    names = [column.name for column in TABLE.columns]
    frame = pd.DataFrame([(number, *row) for number, row in enumerate(rows)], columns=names)
    frame["day"] = frame["day"].astype("datetime64[s]")
    frame["moment"] = frame["moment"].astype("datetime64[s]")
    with transaction(engine) as connection:
        connection.execute(delete(TABLE))
        upsert_frame(connection, TABLE, frame.assign(number=1.5))
        upsert_frame(connection, TABLE, frame)
    with reading(engine) as connection:
        stored = connection.execute(select(TABLE).order_by(TABLE.c["(?, ?)"])).all()
    assert [tuple(row)[1:] for row in stored] == rows


def test_a_statement_is_no_larger_than_a_server_takes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are divided among as many statements as their bytes need, and none is left out."""
    monkeypatch.setattr(upsert, "STATEMENT_BYTES", 1_000)
    frame = pd.DataFrame({"(?, ?)": range(50), "100 % `it's`": ["x" * size for size in range(0, 2_000, 40)]})
    with transaction(engine) as connection:
        upsert_frame(connection, TABLE, frame)
    with reading(engine) as connection:
        stored = connection.execute(select(TABLE).order_by(TABLE.c["(?, ?)"])).all()
    assert [len(row[1]) for row in stored] == list(range(0, 2_000, 40))


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(engine: Engine, number: float) -> None:
    """An infinity, which MariaDB has not, is an error and leaves nothing."""
    with pytest.raises(ValueError, match="not finite"), transaction(engine) as connection:
        upsert_frame(connection, TABLE, pd.DataFrame({"(?, ?)": [1], "number": [number]}))
    with reading(engine) as connection:
        assert connection.execute(select(TABLE)).all() == []
