"""Scoring of a file or a table of the store in chunks; the output file is written atomically."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from csv import DictWriter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv
from sqlalchemy import ColumnElement, Connection, Engine, Table, func, select

from ctcd.contract.schemas import batch_schema
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import Failure, failures
from ctcd.errors import DataRefused, UsageError
from ctcd.files import replacing, writing_to
from ctcd.model.scorer import PREDICTION, Scorer
from ctcd.model.served import Origin
from ctcd.progress import Progress, silent
from ctcd.store.engine import transaction
from ctcd.store.rows import Reasons, check, malformed, merged_keys, valid_rows
from ctcd.store.sources import GZIPPED, PARQUET, SUFFIXES, Source, suffix_of
from ctcd.store.tables import build_tables


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """Result of scoring a file or a table.

    Args:
        source: path of the file, or name of the table.
        rows: number of rows that were read.
        rejected: number of those that broke the contract and were not scored.
        shares: share of the scored rows, 0 to 1, by predicted class.
        seconds: wall time.
    """

    source: str
    out: str
    rows: int
    rejected: int = 0
    shares: dict[str, float]
    model_version: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows of the source.

    Args:
        lines: where they are in the source, from 1.
        given: their keys and model inputs as the source has them.
        inputs: their typed model inputs; meaningless in rows with a failure.
        malformed: line and reason of records that cannot be read as rows.
        total: number of rows of all parts; an estimate until the last part of a CSV file.
    """

    lines: NDArray[np.int64]
    given: pa.Table
    inputs: pd.DataFrame
    found: list[Failure]
    malformed: list[tuple[int, str]]
    total: int


@dataclass(frozen=True)
class BatchScorer:
    """Scores rows with one version of a model.

    Each row of the output has the keys of the input as they were given, `prediction`, `confidence`,
    `probability_<class>` for each class, and where they come from (see `Origin`). If any row breaks the contract,
    nothing is scored: all such rows are written to `<out>.rejected.csv` with their line and reasons.

    Args:
        contract: the contract in force; the model inputs of every row must meet it.
    """

    scorer: Scorer
    origin: Origin
    contract: Contract
    chunk_rows: int
    progress: Progress = silent

    def score_file(self, source: Path, out: Path) -> BatchReport:
        """Score a CSV, CSV.gz or Parquet file with a header.

        Columns that the model does not read are not judged, except for whole-number keys that were rounded.

        Raises:
            UsageError: the file does not exist or would be overwritten, or a format is not supported.
            DataRefused: the file cannot be read, lacks a column, or rows break the contract.
        """
        check_files(source, out)
        file = Source("", source)
        return self._score(str(source), self.parts_of_file(file), out)

    def score_table(self, engine: Engine, table: str, out: Path) -> BatchReport:
        """Score all rows of the feature table or the snapshot table.

        Raises:
            UsageError: it is another table.
            DataRefused: the table is empty, or rows break the contract.
            Unreachable: the store does not answer.
        """
        tables = build_tables(self.contract)
        known = {each.name: each for each in (tables.features, tables.snapshot)}
        if table not in known:
            raise UsageError(f"{table!r} is neither a file nor one of {', '.join(known)}", where="predict")
        with transaction(engine) as connection:
            total = connection.scalar(select(func.count()).select_from(known[table])) or 0
            return self._score(table, self.parts_of_table(connection, known[table], total), out)

    def _kept(self, given: list[str]) -> list[str]:
        """Return the columns to read: keys and model inputs, never personal ones."""
        keys = [self.contract.snapshot_date, *names(self.contract.keys)]
        return [name for name in given if name in (*keys, *names(self.contract.model_inputs))]

    def parts_of_file(self, file: Source) -> Iterator[Part]:
        """Yield the rows of a file, checked.

        Raises:
            DataRefused: the file cannot be read, or lacks a column.
        """
        inputs = self.contract.model_inputs
        missing = [name for name in names(inputs) if name not in file.columns]
        if missing:
            raise DataRefused(
                f"missing columns: {', '.join(missing)}",
                where=str(file.path),
                hint=f"the columns are {', '.join(names(inputs))}",
            )
        schema = batch_schema(self.contract)
        for chunk in file.chunks(self.chunk_rows, self._kept(file.columns)):
            frame, found = check(chunk.cells.select(names(inputs)), inputs, schema, self.contract)
            found += merged_keys(chunk.cells, self.contract)
            bad = [(record.first, malformed(record, len(file.columns))) for record in chunk.malformed]
            yield Part(
                lines=chunk.lines, given=chunk.cells, inputs=frame, found=found, malformed=bad, total=chunk.total
            )

    def parts_of_table(
        self, connection: Connection, table: Table, total: int, *within: ColumnElement[bool], before: int = 0
    ) -> Iterator[Part]:
        """Yield the rows of a table in the order of its primary key, checked; `before` is the number of those left out."""
        schema = batch_schema(self.contract)
        wanted = self._kept(list(table.c.keys()))
        rows = connection.execution_options(yield_per=self.chunk_rows).execute(
            select(*(table.c[name] for name in wanted)).where(*within).order_by(*table.primary_key)
        )
        done = before
        for some in rows.partitions():
            frame = pd.DataFrame.from_records(some, columns=wanted)
            lines = np.arange(done + 1, done + 1 + len(frame), dtype=np.int64)
            inputs = frame[names(self.contract.model_inputs)]
            given = pa.Table.from_pandas(frame, preserve_index=False)
            found = failures(inputs, schema, self.contract)
            yield Part(lines=lines, given=given, inputs=inputs, found=found, malformed=[], total=total)
            done += len(frame)

    def scored(self, part: Part) -> pa.Table:
        """Return the keys, predictions and origin of those rows of a part that break nothing, in their order."""
        good = valid_rows(len(part.inputs), part.found)
        inputs, given = part.inputs, part.given
        if len(good) < len(inputs):
            inputs, given = inputs.iloc[good], given.take(pa.array(good))
        result = self.scorer.predict(inputs).to_frame(inputs.index).assign(**vars(self.origin))
        keys = given.drop_columns(names(self.contract.model_inputs))
        predicted = pa.Table.from_pandas(result, preserve_index=False)
        return pa.table([*keys.columns, *predicted.columns], names=[*keys.column_names, *predicted.column_names])

    def _score(self, source: str, parts: Iterable[Part], out: Path) -> BatchReport:
        began = time.monotonic()
        counts = Counter[str]()
        done = 0
        with writer(out) as write, _rejections(rejected_file(out)) as rejected:
            for part in parts:
                rejected.add(part)
                # Once a row is rejected there will be no output, but the user gets to know all of them.
                if not rejected.rows:
                    result = self.scored(part)
                    write(result)
                    counts.update(result[PREDICTION].to_pylist())
                done += len(part.lines) + len(part.malformed)
                self.progress(f"predict {source}", done, part.total)
            if not done:
                raise DataRefused("there are no rows", where=source, hint="give rows to score")
            if rejected.rows:
                raise DataRefused(
                    f"{rejected.rows:,} of {done:,} rows break the contract: {rejected.reasons}",
                    where=source,
                    hint=f"nothing was scored; correct the rows, which are in {rejected_file(out)}",
                )
        return BatchReport(
            source=source,
            out=str(out),
            rows=done,
            shares={name: counts[name] / done for name in self.scorer.classes},
            model_version=self.origin.model_version,
            seconds=time.monotonic() - began,
        )


def check_files(source: Path, out: Path) -> None:
    """Check that a file can be scored into another one, as far as their paths and suffixes show.

    Raises:
        UsageError: the source does not exist or would be overwritten, or the format of either is not supported.
    """
    if not source.is_file():
        what = "it is not a regular file" if source.exists() else "there is no such file"
        raise UsageError(what, where=str(source), hint="correct the path")
    for path in (source, out):
        _check_suffix(path)
    for written in (out, rejected_file(out)):
        if written.exists() and written.samefile(source):
            raise UsageError(f"{written} would overwrite the source", where="--out", hint="give another name")


def rejected_file(out: Path) -> Path:
    """Return the path of the rows that prevent an output file from being written."""
    return out.with_name(f"{out.name}.rejected.csv")


def refused_file(out: Path) -> Path:
    """Return the path of the rows for which a folder of predictions was not written; what is in its place stays."""
    return out.with_name(f"{out.name}.refused.csv")


class Rejected:
    """Writes rows that break the contract, with the line and the reasons, after a header unless there is one."""

    def __init__(self, stream: IO[str], *, header: bool = True) -> None:
        self._stream, self._header = stream, header
        self.reasons, self.rows = Reasons(), 0

    def add(self, part: Part) -> None:
        """Write the bad rows of a part."""
        reasons: dict[int, list[str]] = {}
        for failure in part.found:
            self.reasons.add(failure.text, part.lines[failure.rows].tolist())
            for row in failure.rows.tolist():
                reasons.setdefault(row, []).append(failure.text)
        for line, reason in part.malformed:
            self.reasons.add(reason, [line])
        bad = sorted(reasons)
        if bad or part.malformed:
            records = part.given.take(pa.array(bad, pa.int64())).to_pylist()
            rows = [
                {"line": part.lines[row], "reasons": "; ".join(reasons[row]), **record}
                for row, record in zip(bad, records, strict=True)
            ]
            rows += [{"line": line, "reasons": reason} for line, reason in part.malformed]
            writer = DictWriter(self._stream, ["line", "reasons", *part.given.column_names], lineterminator="\n")
            if self._header and not self.rows:
                writer.writeheader()
            writer.writerows(rows)
            self.rows += len(rows)


@contextmanager
def _rejections(path: Path) -> Iterator[Rejected]:
    """Yield the writer of bad rows; the file appears if they were refused, and an older one goes if there are none."""
    refused: DataRefused | None = None
    with writing_to(path), replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        rejected = Rejected(stream)
        try:
            yield rejected
        except DataRefused as error:
            if not rejected.rows:
                raise
            refused = error
    if refused:
        raise refused
    path.resolve().unlink()


def _check_suffix(path: Path) -> None:
    if not suffix_of(path):
        raise UsageError(f"the name must end in one of {', '.join(SUFFIXES)}", where=str(path), hint="rename it")


@contextmanager
def writer(out: Path) -> Iterator[Any]:
    """Yield a function that appends a table; the file appears under its name once everything is written."""
    _check_suffix(out)
    opened: list[Any] = []

    def write(table: pa.Table) -> None:
        if not opened:
            opened.append(_open(unfinished, suffix_of(out), table.schema))
        opened[0].write_table(table)

    with writing_to(out), replacing(out) as unfinished:
        yield write
        for each in opened:
            each.close()


def _open(path: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == PARQUET:
        return pq.ParquetWriter(path, schema)
    compression = "gzip" if suffix == GZIPPED else None
    return csv.CSVWriter(pa.output_stream(path, compression=compression), schema)
