"""Loading raw tables into the store; rows that break the contract are quarantined with the reasons."""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from sqlalchemy import Connection, Date, Engine, Table, delete, inspect, select, tuple_, update

from ctcd.contract.columns import Role
from ctcd.contract.duplicates import SeenKeys
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import Failure
from ctcd.errors import DataRefused, NotFound, UsageError
from ctcd.progress import Progress, silent
from ctcd.store.engine import transaction
from ctcd.store.ingest_plan import Plan, make_plan
from ctcd.store.rows import Reasons, check, malformed, require_few, valid_rows
from ctcd.store.sources import Chunk, Record, find_sources
from ctcd.store.tables import build_tables
from ctcd.store.upsert import insert_new, upsert_frame

DUPLICATE = "duplicate key"
DELETED_AT_ONCE = 500
"""Rows that one statement deletes."""


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """The result of loading one file.

    Args:
        reasons: number of quarantined rows by reason, such as "day is not a calendar date"; a row may have several.
    """

    table: str
    source: str
    read: int
    written: int
    quarantined: int
    reasons: dict[str, int]
    personal: int


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """The result of an ingest: one report per file, in the order in which they were read."""

    source: str
    tables: tuple[TableReport, ...]
    seconds: float


def ingest(
    engine: Engine,
    contract: Contract,
    source: Path,
    *,
    chunk_rows: int,
    replace: bool = False,
    today: date | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Load a file or folder into the store, in one transaction.

    A folder holds `<table>.csv`, `.csv.gz` or `.parquet` for features and labels, unless the features have the label
    too, and optionally for personal data; a single file is named in the same way. Spaces around a cell are ignored, an
    empty cell is a missing value, and columns may be in any order. At most `chunk_rows` rows are in memory at once.

    A row replaces the row with the same key in the store, also if it has no label or no personal data any more; with
    `replace`, the tables lose all rows that the source does not hold. Within a source, the first valid row with a key
    is written. Without a key, nothing tells the rows of two files apart: the store then takes the rows of one source,
    and another ingest has to replace them, with their scores. Without an event date, rows get the day `today`, by
    default that in UTC.

    All other rows go to the quarantine table, with line and reasons; they replace the rows that the same file left
    there before. Personal data is written to its own table only and never appears in a reason.

    Raises:
        UsageError: the source does not exist, or its name is not that of a table; or the contract has no key, and the
            store holds rows that are not to be replaced.
        DataRefused: a file is empty or unreadable, has a missing or unknown column, or too large a share of its rows
            breaks the contract; nothing is written.
        Unreachable: the store does not answer.
        NotFound: the store has no tables, or those of another contract.
    """
    begin = time.monotonic()
    required = [contract.features_table, *([contract.labels_table] if contract.labels else [])]
    # The lines of another file are not those of the feature file: only a key says whose the personal data are.
    optional = [contract.personal_table] if contract.personal and not contract.key.filled else []
    found = find_sources(source, required, optional)
    plans = [make_plan(each, contract) for each in found]
    with transaction(engine) as connection:
        tables = build_tables(contract)
        _require_tables(connection, tables.features)
        if replace:
            # Without a key, scores are kept by the number of a row, which is another row now.
            scores = tables.scores if contract.key.filled else None
            for table in (tables.features, tables.labels, tables.personal, tables.quarantine, tables.sources, scores):
                if table is not None:
                    connection.execute(delete(table))
        elif contract.key.filled and connection.execute(select(tables.features).limit(1)).first():
            raise UsageError(
                "the store already has rows, which these would replace: without a key, rows are identified by their number only",
                where=contract.features_table,
                hint="--replace replaces them; to keep both, give a column the role KEY",
            )
        day = today or datetime.now(UTC).date()
        reports = [_Loader(connection, contract, plan, day).load(chunk_rows, progress) for plan in plans]
    return IngestReport(source=str(source), tables=tuple(reports), seconds=time.monotonic() - begin)


def _require_tables(connection: Connection, features: Table) -> None:
    """Check that the columns of the features are those of the contract: another one's revisions have the same numbers."""
    found = inspect(connection)
    if not found.has_table(features.name):
        return  # the write reports it
    columns = {each["name"] for each in found.get_columns(features.name)}
    if differing := sorted(columns ^ set(features.columns.keys())):
        raise NotFound(
            f"the table has other columns than the contract ({', '.join(differing)}): it belongs to another contract, such"
            " as an earlier draft",
            where=features.name,
            hint="use another store, or delete this one if nothing in it is needed",
        )


class _Loader:
    """Loads one file inside a transaction and counts its rows."""

    def __init__(self, connection: Connection, contract: Contract, plan: Plan, today: date) -> None:
        self._connection, self._contract, self._plan, self._today = connection, contract, plan, today
        self._tables = build_tables(contract)
        self._origin = {"table_name": plan.source.table, "source": str(plan.source.path)}
        self._filled = names(contract.filled)
        self._seen = SeenKeys()
        self._read = self._quarantined = self._personal = 0
        self._reasons = Reasons()

    def load(self, chunk_rows: int, progress: Progress) -> TableReport:
        """Load the file; its quarantined rows replace those of earlier runs."""
        source, task = self._plan.source, f"ingest {self._plan.source.path.name}"
        quarantine = self._tables.quarantine
        of_this_file = [quarantine.c[name] == value for name, value in self._origin.items()]
        self._connection.execute(delete(quarantine).where(*of_this_file))
        progress(task, 0, source.rows)
        for chunk in source.chunks(chunk_rows):
            frame, found = self._examine(chunk)
            self._quarantine(chunk, found)
            self._write(frame.iloc[valid_rows(len(frame), found)])
            self._read += len(frame) + len(chunk.malformed)
            progress(task, self._read, chunk.total)
        self._refuse_too_many()
        self._record()
        return TableReport(
            table=source.table,
            source=str(source.path),
            read=self._read,
            written=self._read - self._quarantined,
            quarantined=self._quarantined,
            reasons=dict(self._reasons.counts.most_common()),
            personal=self._personal,
        )

    def _examine(self, chunk: Chunk) -> tuple[pd.DataFrame, list[Failure]]:
        """Return typed rows and their failures: wrong types, then broken rules, then duplicate keys."""
        frame, found = check(chunk.cells, self._plan.columns, self._plan.schema, self._contract)
        filled: dict[Role, Any] = {Role.KEY: chunk.numbers, Role.EVENT_DATE: pd.Timestamp(self._today)}
        frame = frame.assign(**{column.name: filled[column.role] for column in self._contract.filled})
        good = valid_rows(len(frame), found)
        repeated = good[self._seen.duplicated(frame[names(self._contract.keys)].iloc[good])]
        if repeated.size:
            found.append(Failure(column="", rule=DUPLICATE, rows=repeated))
        return frame, found

    def _quarantine(self, chunk: Chunk, found: list[Failure]) -> None:
        bad = [*self._bad_rows(chunk, found), *(self._malformed_row(record, chunk) for record in chunk.malformed)]
        self._quarantined += len(bad)
        if bad:
            self._connection.execute(self._tables.quarantine.insert(), [{**self._origin, **row} for row in bad])

    def _bad_rows(self, chunk: Chunk, found: list[Failure]) -> list[dict[str, Any]]:
        hidden = set(names(self._plan.personal))
        reasons: dict[int, list[dict[str, str | None]]] = {}
        for failure in found:
            self._reasons.add(failure.text, chunk.lines[failure.rows].tolist())
            shown = failure.column and failure.column not in hidden
            for row in failure.rows.tolist():
                value = chunk.cells[failure.column][row].as_py() if shown else None
                reasons.setdefault(row, []).append({"column": failure.column, "value": value, "rule": failure.rule})
        rows = sorted(reasons)
        records = chunk.cells.select([name for name in chunk.cells.column_names if name not in hidden]).take(
            pyarrow.array(rows, pyarrow.int64())
        )
        return [
            {"line": int(chunk.lines[row]), "reasons": reasons[row], "record": record}
            for row, record in zip(rows, records.to_pylist(), strict=True)
        ]

    def _malformed_row(self, record: Record, chunk: Chunk) -> dict[str, Any]:
        rule = malformed(record, chunk.cells.num_columns)
        self._reasons.add(rule, [record.first])
        # Cells cannot be assigned to columns, and any of them may be personal: keep none.
        return {"line": record.first, "reasons": [{"column": "", "value": None, "rule": rule}], "record": {}}

    def _write(self, frame: pd.DataFrame) -> None:
        for table, columns in self._plan.writes:
            if table is self._tables.features:
                rows = frame[columns]
            else:  # a row of the feature file need not have a label or personal data, or no longer has any
                own = [name for name in columns if not table.c[name].primary_key and name not in self._filled]
                given = frame[own].notna().any(axis=1)
                rows = frame.loc[given, columns]
                _delete(self._connection, table, frame.loc[~given])
            upsert_frame(self._connection, table, rows)
            if table is self._tables.personal:
                self._personal += len(rows)

    def _record(self) -> None:
        """Record the file by its content: the same content, again or from another place, is the same file."""
        source = self._plan.source
        found = {"source": str(source.path), "read_rows": self._read, "written_rows": self._read - self._quarantined}
        key = {"table_name": source.table, "sha256": source.sha256}
        table = self._tables.sources
        insert_new(self._connection, table, [{**key, **found, "ingested_at": datetime.now(UTC)}])
        self._connection.execute(update(table).where(*(table.c[name] == key[name] for name in key)).values(found))

    def _refuse_too_many(self) -> None:
        where = str(self._plan.source.path)
        if not self._read:
            raise DataRefused("the file has no rows", where=where, hint="give a file with rows")
        hint = (
            "nothing was written; correct the rows, or the contract: the rules that they break, or max_quarantine_share"
        )
        require_few(self._quarantined, self._read, self._reasons, self._contract, where=where, hint=hint)


def _delete(connection: Connection, table: Table, frame: pd.DataFrame) -> None:
    """Delete the rows of a table that have the keys of a frame."""
    keys = list(table.primary_key)
    values = [_driver_values(frame[key.name], day=isinstance(key.type, Date)) for key in keys]
    rows = list(zip(*values, strict=True))
    for start in range(0, len(rows), DELETED_AT_ONCE):
        some = rows[start : start + DELETED_AT_ONCE]
        # The condition on the first column alone is one that every database finds by its index.
        connection.execute(delete(table).where(keys[0].in_([row[0] for row in some]), tuple_(*keys).in_(some)))


def _driver_values(values: "pd.Series[Any]", *, day: bool) -> list[Any]:
    """Return values as a database driver takes them: Python objects, None for a missing value."""
    if pd.api.types.is_datetime64_dtype(values.dtype):
        moments = values.dt.date if day else pd.Series(values.dt.to_pydatetime(), dtype=object)
        return list(moments.where(values.notna().to_numpy(), None))
    if values.isna().any():
        return list(values.astype(object).where(values.notna(), None))
    return values.tolist()
