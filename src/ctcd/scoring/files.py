"""Scoring of a file or a table of the store in chunks; the output file is written atomically."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from sqlalchemy import Engine, func, select

from ctcd.contract.schemas import batch_schema
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import validate
from ctcd.errors import DataRefused, UsageError, shown
from ctcd.files import replacing
from ctcd.model.scorer import Scorer
from ctcd.progress import Progress, silent
from ctcd.store.conversion import convert, trim
from ctcd.store.engine import transaction
from ctcd.store.sources import SUFFIXES, Source
from ctcd.store.tables import build_tables


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """Result of scoring a file or a table.

    Args:
        source: path of the file, or name of the table.
        out: path of the output file.
        rows: number of rows scored.
        shares: share of the rows, 0 to 1, by predicted class.
        model_version: version of the model.
        seconds: wall time.
    """

    source: str
    out: str
    rows: int
    shares: dict[str, float]
    model_version: str
    seconds: float


@dataclass(frozen=True)
class BatchScorer:
    """Scores rows with one version of a model.

    Each row of the output has the keys of the input, `prediction`, `confidence`, `probability_<class>` for each class, and
    `model_version`.

    Args:
        scorer: the model.
        version: version of the model.
        contract: the contract in force; every row must meet it.
        chunk_rows: number of rows in memory at once.
        progress: called with the number of rows scored so far.
    """

    scorer: Scorer
    version: str
    contract: Contract
    chunk_rows: int
    progress: Progress = silent

    def score_file(self, source: Path, out: Path) -> BatchReport:
        """Score a CSV, CSV.gz or Parquet file with a header; columns that the model does not use are ignored.

        Raises:
            UsageError: the file does not exist, or the format of input or output is not supported.
            DataRefused: the file cannot be read, lacks a column, or a row breaks the contract; nothing is written.
        """
        if not source.is_file():
            raise UsageError("there is no such file", where=str(source), hint="correct the path")
        _check_suffix(source)
        file = Source("", source)
        return self._score(str(source), self._file_frames(file), file.rows, out)

    def score_table(self, engine: Engine, table: str, out: Path) -> BatchReport:
        """Score all rows of the feature table or the snapshot table.

        Raises:
            UsageError: it is another table.
            DataRefused: the table is empty, or a row breaks the contract; nothing is written.
            Unreachable: the store does not answer.
        """
        tables = build_tables(self.contract)
        known = {each.name: each for each in (tables.features, tables.snapshot)}
        if table not in known:
            raise UsageError(f"{table!r} is neither a file nor one of {', '.join(known)}", where="predict")
        wanted = [column for column in known[table].c if column.name in self._kept(list(known[table].c.keys()))]
        with transaction(engine) as connection:
            total = connection.scalar(select(func.count()).select_from(known[table]))
            rows = connection.execution_options(yield_per=self.chunk_rows).execute(
                select(*wanted).order_by(*known[table].primary_key)
            )
            columns = [column.name for column in wanted]
            frames = (pd.DataFrame.from_records(part, columns=columns) for part in rows.partitions())
            return self._score(table, frames, total, out)

    def _kept(self, given: list[str]) -> list[str]:
        """Return the columns to read: keys and model inputs, never personal ones."""
        keys = [self.contract.snapshot_date, *names(self.contract.keys)]
        return [name for name in given if name in (*keys, *names(self.contract.model_inputs))]

    def _file_frames(self, file: Source) -> Iterator[pd.DataFrame]:
        columns = (self.contract.group, *self.contract.model_inputs)
        missing = [name for name in names(columns) if name not in file.columns]
        if missing:
            raise DataRefused(
                f"missing columns: {', '.join(missing)}",
                where=str(file.path),
                hint=f"the columns are {', '.join(names(columns))}",
            )
        others = tuple(key for key in self.contract.keys if key not in columns and key.name in file.columns)
        for chunk in file.chunks(self.chunk_rows):
            if chunk.malformed:
                raise DataRefused(
                    f"line {chunk.malformed[0].first} has {len(chunk.malformed[0].cells)} fields instead of "
                    f"{len(file.columns)}",
                    where=str(file.path),
                    hint="correct the row; nothing was written",
                )
            cells = trim(chunk.cells)
            frame, failures = convert(cells, (*others, *columns))
            if failures:
                first = failures[0]
                raise DataRefused(
                    f"{first.text} in {len(first.rows)} rows (first: line {chunk.lines[first.rows[0]]})",
                    where=str(file.path),
                    hint="correct the rows; nothing was written",
                )
            yield frame

    def _score(self, source: str, frames: Iterator[pd.DataFrame], total: int | None, out: Path) -> BatchReport:
        began = time.monotonic()
        counts = Counter[str]()
        schema = batch_schema(self.contract)
        done = 0
        with _writer(out) as write:
            for frame in frames:
                validate(frame, schema, self.contract, where=f"{source}, rows {done + 1:,} to {done + len(frame):,}")
                predictions = self.scorer.predict(frame)
                keys = frame[[name for name in frame if name not in names(self.contract.model_inputs)]]
                result = keys.join(predictions.to_frame(frame.index)).assign(model_version=self.version)
                write(pa.Table.from_pandas(result, preserve_index=False))
                counts.update(predictions.classes)
                done += len(frame)
                self.progress(f"predict {source}", done, total)
            if not done:
                raise DataRefused("there are no rows", where=source, hint="give rows to score")
        return BatchReport(
            source=source,
            out=str(out),
            rows=done,
            shares={name: counts[name] / done for name in self.scorer.classes},
            model_version=self.version,
            seconds=time.monotonic() - began,
        )


def _check_suffix(path: Path) -> None:
    if not path.name.endswith(SUFFIXES):
        raise UsageError(f"the name ends in none of {', '.join(SUFFIXES)}", where=str(path), hint="rename it")


@contextmanager
def _writer(out: Path) -> Iterator[Any]:
    """Yield a function that appends a table; the file appears under its name once everything is written."""
    _check_suffix(out)
    opened: list[Any] = []

    def write(table: pa.Table) -> None:
        if not opened:
            opened.append(_open(unfinished, out.name, table.schema))
        opened[0].write_table(table)

    try:
        with replacing(out) as unfinished:
            yield write
            for each in opened:
                each.close()
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or shown(error)}", where=str(out)) from error


def _open(path: Path, name: str, schema: pa.Schema) -> Any:
    if name.endswith(".parquet"):
        return pq.ParquetWriter(path, schema)
    compression = "gzip" if name.endswith(".gz") else None
    return csv.CSVWriter(pa.output_stream(path, compression=compression), schema)
