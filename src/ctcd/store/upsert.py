"""Idempotent inserts, in the SQL of each database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.dml import Insert

Rows = Sequence[Mapping[str, Any]]


def upsert(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, at least one and all with the same columns; each replaces the row with the same primary key."""
    replaced = [name for name in rows[0] if not table.c[name].primary_key]
    connection.execute(_insert(connection, table, replaced), rows)


def insert_new(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, at least one; an existing row with the same primary or unique key stays as it is."""
    connection.execute(_insert(connection, table, []), rows)


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
