"""Bring raw tables into the store; rows that break the contract are put aside with the reasons."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Table, delete

from ctcd.contract.duplicates import SeenKeys
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import Failure, failures
from ctcd.errors import DataRefused
from ctcd.progress import Progress, silent
from ctcd.store.conversion import convert, trim
from ctcd.store.engine import transaction
from ctcd.store.ingest_plan import Plan, make_plan
from ctcd.store.sources import Chunk, Record, find_sources
from ctcd.store.tables import build_tables
from ctcd.store.upsert import upsert

TOO_FEW, TOO_MANY = "the row has too few fields", "the row has too many fields"
REPEATED = "the key repeats that of an earlier row"

_FIRST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """What became of one file.

    Args:
        table: the table it belongs to.
        source: the file.
        read: its rows.
        written: rows that are now in the table.
        quarantined: rows that were put aside.
        reasons: rows put aside by reason, such as "date is not a calendar date"; a row may have several reasons.
        personal: rows written to the table of personal data.
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
    """What an ingest did.

    Args:
        source: the file or folder.
        tables: one report for each file, in the order in which they were read.
        seconds: how long it took.
    """

    source: str
    tables: tuple[TableReport, ...]
    seconds: float


def ingest(
    engine: Engine, contract: Contract, source: Path, *, chunk_rows: int, progress: Progress = silent
) -> IngestReport:
    """Read a file or folder into the store, all of it in one transaction.

    A folder holds `<table>.csv`, `.csv.gz` or `.parquet` for the features and the labels, and may hold one for the personal
    data; a single file is named in the same way. Blanks around a cell do not count, an empty cell is a missing value, and
    columns may stand in any order. A row is written over the one with the same key. A row that breaks the contract is put
    aside, with reasons and line, in the quarantine table, in place of those that the same file left there before; of rows
    with the same key the first good one stays. Personal values go to their own table only, and never into a reason.

    Args:
        engine: the store, with its tables.
        contract: what the rows have to be.
        source: the file or folder.
        chunk_rows: rows held in memory at once.
        progress: told the rows read so far.

    Raises:
        UsageError: there is no such source, or it is named for no table.
        DataRefused: a file is empty, unreadable, lacks a column or has an unknown one, or more of its rows break the
            contract than that allows; then nothing is written.
        Unreachable: the store does not answer.
        NotFound: the store has no tables.
    """
    begin = time.monotonic()
    found = find_sources(source, [contract.features_table, contract.labels_table], [contract.personal_table])
    plans = [make_plan(each, contract) for each in found]
    with transaction(engine) as connection:
        reports = [_Loader(connection, contract, plan).load(chunk_rows, progress) for plan in plans]
    return IngestReport(source=str(source), tables=tuple(reports), seconds=time.monotonic() - begin)


class _Loader:
    """Loads one file inside a transaction, and counts."""

    def __init__(self, connection: Connection, contract: Contract, plan: Plan) -> None:
        self._connection, self._contract, self._plan = connection, contract, plan
        self._tables = build_tables(contract)
        self._origin = {"table_name": plan.source.table, "source": str(plan.source.path)}
        self._seen = SeenKeys()
        self._read = self._quarantined = self._personal = 0
        self._reasons: Counter[str] = Counter()
        self._first_lines: dict[str, list[int]] = {}

    def load(self, chunk_rows: int, progress: Progress) -> TableReport:
        """Load the file, in place of what it left in the quarantine before."""
        source, task = self._plan.source, f"ingest {self._plan.source.path.name}"
        aside = self._tables.quarantine
        mine = [aside.c[name] == value for name, value in self._origin.items()]
        self._connection.execute(delete(aside).where(*mine))
        progress(task, 0, source.rows)
        for chunk in source.chunks(chunk_rows):
            frame, found = self._examine(chunk)
            self._quarantine(chunk, found)
            self._write(frame.iloc[_unnamed(len(frame), found)])
            self._read += len(frame) + len(chunk.malformed)
            progress(task, self._read, source.rows)
        self._refuse_too_many()
        return TableReport(
            table=source.table,
            source=str(source.path),
            read=self._read,
            written=self._read - self._quarantined,
            quarantined=self._quarantined,
            reasons=dict(self._reasons.most_common()),
            personal=self._personal,
        )

    def _examine(self, chunk: Chunk) -> tuple[pd.DataFrame, list[Failure]]:
        """Return typed rows and what is wrong with them: first the types, then the rules, then repeated keys."""
        frame, found = convert(trim(chunk.cells), self._plan.columns)
        typed = _unnamed(len(frame), found)
        for failure in failures(frame.iloc[typed], self._plan.schema, self._contract):
            found.append(Failure(column=failure.column, rule=failure.rule, rows=typed[failure.rows]))
        good = _unnamed(len(frame), found)
        repeated = good[self._seen.duplicated(frame[names(self._contract.keys)].iloc[good])]
        if repeated.size:
            found.append(Failure(column="", rule=REPEATED, rows=repeated))
        return frame, found

    def _quarantine(self, chunk: Chunk, found: list[Failure]) -> None:
        aside = [*self._bad_rows(chunk, found), *(self._malformed_row(record, chunk) for record in chunk.malformed)]
        self._quarantined += len(aside)
        if aside:
            rows = [{**self._origin, **row} for row in aside]
            self._connection.execute(self._tables.quarantine.insert(), rows)

    def _bad_rows(self, chunk: Chunk, found: list[Failure]) -> list[dict[str, Any]]:
        hidden = set(names(self._plan.personal))
        reasons: dict[int, list[dict[str, str | None]]] = {}
        for failure in found:
            self._count(failure.text, chunk.lines[failure.rows].tolist())
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
        rule = TOO_FEW if len(record.cells) < chunk.cells.num_columns else TOO_MANY
        self._count(rule, [record.first])
        # Which cell is whose cannot be told, so none is kept: one may be personal.
        return {"line": record.first, "reasons": [{"column": "", "value": None, "rule": rule}], "record": {}}

    def _count(self, reason: str, lines: list[int]) -> None:
        self._reasons[reason] += len(lines)
        first = self._first_lines.setdefault(reason, [])
        first.extend(lines[: _FIRST_LINES - len(first)])

    def _write(self, frame: pd.DataFrame) -> None:
        personal = names(self._plan.personal)
        if self._plan.table is not None:
            _upsert(self._connection, self._plan.table, frame.drop(columns=personal))
        if personal:
            told = frame[frame[personal].notna().any(axis=1)]
            _upsert(self._connection, self._tables.personal, told[[*names(self._contract.keys), *personal]])
            self._personal += len(told)

    def _refuse_too_many(self) -> None:
        where, allowed = str(self._plan.source.path), self._contract.max_quarantine_share
        if not self._read:
            raise DataRefused("the file has no rows", where=where, hint="give a file with rows")
        share = self._quarantined / self._read
        if share > allowed:
            told = "; ".join(
                f"{reason} ({count:,} rows, first in line {', '.join(map(str, self._first_lines[reason]))})"
                for reason, count in self._reasons.most_common()
            )
            raise DataRefused(
                f"{self._quarantined:,} of {self._read:,} rows ({share:.2%}) break the contract, which allows "
                f"{allowed:.2%}: {told}",
                where=where,
                hint="nothing was written; correct the rows, or the contract's max_quarantine_share",
            )


def _unnamed(rows: int, found: Iterable[Failure]) -> NDArray[np.intp]:
    """Return the positions of the rows that no failure names."""
    good = np.ones(rows, dtype=bool)
    for failure in found:
        good[failure.rows] = False
    return np.flatnonzero(good)


def _upsert(connection: Connection, table: Table, frame: pd.DataFrame) -> None:
    if frame.empty:
        return
    columns = list(map(str, frame.columns))
    values = [_plain(frame[name]) for name in columns]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    connection.execute(upsert(connection, table, columns), rows)


def _plain(values: "pd.Series[Any]") -> list[Any]:
    """Return values that a database driver takes: None for a missing one."""
    if pd.api.types.is_datetime64_dtype(values.dtype):
        return list(values.dt.date)
    if values.isna().any():
        return list(values.astype(object).where(values.notna(), None))
    return values.tolist()
