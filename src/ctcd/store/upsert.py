"""Idempotent inserts, in the SQL of each database."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, Date, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.dml import Insert

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# pyarrow is imported by the functions that need it: the service imports this module, and its image has none.

Rows = Sequence[Mapping[str, Any]]
STATEMENT_BYTES = 1_000_000
"""Most bytes of the rows in one statement, unless one row is larger; a server takes 16 MiB, unless set up otherwise."""


def upsert(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, at least one and all with the same columns; each replaces the row with the same primary key."""
    replaced = [name for name in rows[0] if not table.c[name].primary_key]
    connection.execute(_insert(connection, table, replaced), rows)


def insert_new(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, at least one; an existing row with the same primary or unique key stays as it is."""
    connection.execute(_insert(connection, table, []), rows)


def upsert_frame(connection: Connection, table: Table, frame: "pd.DataFrame") -> None:
    """Insert the rows of a frame with columns of the table; each replaces the row with the same primary key.

    The values are handed to the driver by column, several times as fast as row by row.

    Raises:
        ValueError: a number is not finite.
    """
    if frame.empty:
        return
    names = list(map(str, frame.columns))
    statement = _insert(connection, table, [name for name in names if not table.c[name].primary_key])
    arrays = [_values(frame[name], day=isinstance(table.c[name].type, Date)) for name in names]
    if connection.dialect.name == "sqlite":
        rows = list(zip(*(array.to_pylist() for array in arrays), strict=True))
        connection.exec_driver_sql(str(statement.compile(dialect=connection.dialect, column_keys=names)), rows)
        return
    marks, end = f" VALUES ({', '.join('?' * len(names))}) ", "ON DUPLICATE KEY UPDATE "
    text = str(statement.compile(dialect=mysql.dialect(paramstyle="qmark"), column_keys=names))
    before, after = text.split(marks + end)
    for values in _statements(arrays):
        # Without parameters the driver leaves percent signs alone.
        connection.exec_driver_sql(f"{before} VALUES {values} {end}{after}", execution_options={"no_parameters": True})


def _values(series: "pd.Series[Any]", *, day: bool) -> "pa.Array":
    """Return a column as both databases take it: numbers, or text; dates as text, and truth values as 0 and 1."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.array(series, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_timestamp(array.type):
        return pc.strftime(array, "%Y-%m-%d" if day else "%Y-%m-%d %H:%M:%S")
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8())
    if pa.types.is_floating(array.type) and not pc.all(pc.is_finite(array), skip_nulls=True).as_py():
        raise ValueError("a number is not finite")
    return array


def _statements(arrays: "Sequence[pa.Array]") -> Iterator[str]:
    """Yield the rows as literals of MariaDB's SQL, as many as one statement takes."""
    import pyarrow.compute as pc

    literals = [pc.fill_null(_literals(array), "NULL") for array in arrays]
    rows = _joined("(", _joined(*literals, ","), ")", "")
    ends = np.cumsum(pc.binary_length(rows).to_numpy())
    start = 0
    while start < len(rows):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + STATEMENT_BYTES, side="right")))
        yield ",".join(rows.slice(start, stop - start).to_pylist())
        start = stop


def _literals(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return array.cast(pa.string()).cast(pa.large_string())
    # In the session's mode, backslashes and quotes are all that has a meaning within a text.
    quoted = pc.replace_substring(pc.replace_substring(array.cast(pa.large_string()), "\\", "\\\\"), "'", "''")
    return _joined("'", quoted, "'", "")


def _joined(*parts: "pa.Array | str") -> "pa.Array":
    """Return texts joined row by row; the last part separates them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*texts)


def _insert(connection: Connection, table: Table, replaced: list[str]) -> Insert:
    if connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        if not replaced:
            return lite.on_conflict_do_nothing()
        return lite.on_conflict_do_update(
            index_elements=list(table.primary_key.columns), set_={name: lite.excluded[name] for name in replaced}
        )
    # INSERT IGNORE would also turn all other errors into warnings.
    maria = mysql.insert(table)
    same = next(iter(table.primary_key.columns))
    return maria.on_duplicate_key_update({name: maria.inserted[name] for name in replaced} or {same.name: same})
