"""Snapshots written directly into a store, also into a table without constraints."""

from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, String, Table

from ctcd.contract.spec import Contract
from ctcd.store.engine import transaction
from ctcd.store.snapshot import snapshot_chunks
from ctcd.store.tables import build_tables


def put_snapshot(engine: Engine, contract: Contract, frame: pd.DataFrame, day: date) -> None:
    """Replace the snapshot of a day with a frame."""
    table = build_tables(contract).snapshot
    plain = frame.drop(columns=contract.snapshot_date).astype(object)
    rows: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")  # type: ignore[assignment]  # names
    with transaction(engine) as connection:
        connection.execute(table.delete().where(table.c[contract.snapshot_date] == day))
        connection.execute(table.insert(), [row | {contract.snapshot_date: day} for row in rows])


def read_snapshot(engine: Engine, contract: Contract, day: date) -> pd.DataFrame:
    """Return the snapshot of a day as one frame."""
    return pd.concat(snapshot_chunks(engine, contract, day), ignore_index=True)


def loosen_snapshot_table(engine: Engine, contract: Contract) -> None:
    """Replace the snapshot table with one without keys, whose values may be missing, long or large."""
    strict = build_tables(contract).snapshot
    columns = []
    for column in strict.columns:
        kind = column.type
        if isinstance(kind, String):
            kind = String(2_000)
        elif isinstance(kind, Integer):
            kind = BigInteger()
        columns.append(Column(column.name, kind, nullable=True))
    loose = Table(strict.name, MetaData(), *columns, **strict.kwargs)
    with engine.begin() as connection:
        strict.drop(connection)
        loose.create(connection)
