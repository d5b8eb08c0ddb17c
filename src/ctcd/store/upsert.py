"""Inserts that can be repeated, in the words of each dialect."""

from collections.abc import Iterable

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.dml import Insert


def upsert(connection: Connection, table: Table, columns: Iterable[str]) -> Insert:
    """Return an insert of some columns that replaces a row with the same primary key."""
    return _insert(connection, table, [table.c[name].name for name in columns if not table.c[name].primary_key])


def insert_new(connection: Connection, table: Table) -> Insert:
    """Return an insert that leaves a row with the same primary or unique key as it is."""
    return _insert(connection, table, [])


def _insert(connection: Connection, table: Table, replaced: list[str]) -> Insert:
    if connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        if not replaced:
            return lite.on_conflict_do_nothing()
        return lite.on_conflict_do_update(
            index_elements=list(table.primary_key.columns), set_={name: lite.excluded[name] for name in replaced}
        )
    # INSERT IGNORE would turn every other error into a warning as well.
    maria = mysql.insert(table)
    same = next(iter(table.primary_key.columns))
    return maria.on_duplicate_key_update({name: maria.inserted[name] for name in replaced} or {same.name: same})
