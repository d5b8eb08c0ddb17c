"""Helpers to fill and inspect a store."""

from collections.abc import Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, Table, func, select
from support.instance import CONTRACT

from ctcd.store.engine import reading
from ctcd.store.ingest import IngestReport, ingest
from ctcd.store.prediction_log import LoggedPrediction, append
from ctcd.store.tables import build_tables

TABLES = build_tables(CONTRACT)
assert TABLES.personal is not None
PEOPLE = TABLES.personal
"""The table of personal data."""


def load(engine: Engine, source: Path, *, chunk_rows: int = 1_000) -> IngestReport:
    """Ingest a file or folder."""
    return ingest(engine, CONTRACT, source, chunk_rows=chunk_rows)


def count(engine: Engine, table: Table) -> int:
    """Return the number of rows of a table."""
    with reading(engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def rows_of(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table in the order of its primary key."""
    with reading(engine) as connection:
        return [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]


def everything(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    return {table.name: rows_of(engine, table) for table in TABLES.metadata.sorted_tables}


def log_correct_prediction(engine: Engine, label: Mapping[str, Any], zone: str) -> None:
    """Log a correct prediction for a label, made at noon of the label's day."""
    made = LoggedPrediction(
        request_id="a",
        group=label[CONTRACT.group.name],
        features={},
        prediction=label[CONTRACT.label.name],
        confidence=0.9,
        model_version="1",
        run_id="run 1",
        elapsed_ms=1.0,
        created_at=datetime.combine(label[CONTRACT.event_date.name], time(12), ZoneInfo(zone)),
    )
    append(engine, CONTRACT, [made])
