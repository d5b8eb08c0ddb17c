"""Copies of the prediction log for a data warehouse: a Parquet file for each day, and the SQL that loads a prediction once.

A day is exported at least once: it is written again as a whole when predictions of it have arrived late. The statement
`MERGE` on the request id makes that exactly once in the warehouse.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pydantic_core import to_json
from sqlalchemy import JSON, BigInteger, Boolean, Column, Date, Double, Engine, Integer, func, select

from ctcd.contract.spec import Contract
from ctcd.errors import Unreachable, UsageError
from ctcd.progress import Progress, silent
from ctcd.store.engine import reading
from ctcd.store.tables import UtcDateTime, build_tables

_PART = ".part"
"""Ends the name of a file that is not complete."""


class Dialect(StrEnum):
    """SQL of a warehouse."""

    DUCKDB = "duckdb"
    BIGQUERY = "bigquery"


@dataclass(frozen=True, kw_only=True)
class ExportedDay:
    """A day of the prediction log in the warehouse's folder.

    Args:
        day: ISO 8601.
        rows: its predictions.
        file: its path in the folder.
        written: whether it was written now; otherwise it was there.
    """

    day: str
    rows: int
    file: str
    written: bool


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The days that have predictions, oldest first."""

    folder: str
    days: tuple[ExportedDay, ...]


def export_log(
    engine: Engine,
    contract: Contract,
    days: Sequence[date],
    folder: str,
    *,
    zone: ZoneInfo,
    chunk_rows: int,
    progress: Progress = silent,
) -> ExportReport:
    """Write the predictions of some days as `<folder>/day=<day>/<rows>-<highest id>.parquet`.

    A file that is there is complete, and is not written again; when predictions have come since, the day is written
    anew and the file before it is removed. Days begin and end in the given time zone. Memory is bounded by `chunk_rows`.

    The folder is a local one, or a URL of pyarrow's: `s3://bucket/path`, `gs://bucket/path`. Credentials are found where the
    cloud's own tools look for them.

    Raises:
        UsageError: the folder is no such URL.
        Unreachable: the store or the folder does not answer; what was written before is complete.
    """
    files, root = _open(folder)
    found = []
    for done, day in enumerate(days):
        progress("days exported", done, len(days))
        with reading(engine) as connection, _translated(folder):
            log = build_tables(contract).predictions
            begin, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
            of_day = (log.c.created_at >= begin, log.c.created_at < end)
            rows, last = connection.execute(select(func.count(), func.max(log.c.id)).where(*of_day)).one()
            if not rows:
                continue
            place = f"{root}/day={day}"
            present = {each.base_name for each in files.get_file_info(fs.FileSelector(place, allow_not_found=True))}
            name = f"{rows}-{last}.parquet"
            if name not in present:
                query = select(*_columns(contract)).where(*of_day, log.c.id <= last).order_by(log.c.id)
                chunks = connection.execution_options(yield_per=chunk_rows).execute(query).partitions()
                if isinstance(files, fs.LocalFileSystem):
                    files.create_dir(place)
                _write(files, f"{place}/{name}", contract, chunks)
                for other in present:
                    files.delete_file(f"{place}/{other}")
            found.append(ExportedDay(day=str(day), rows=rows, file=f"day={day}/{name}", written=name not in present))
    progress("days exported", len(days), len(days))
    return ExportReport(folder=folder, days=tuple(found))


def _open(folder: str) -> tuple[fs.FileSystem, str]:
    text = folder if "://" in folder else str(Path(folder).resolve())
    try:
        with _translated(folder):
            files, root = fs.FileSystem.from_uri(text)
    except (ValueError, TypeError):
        raise UsageError(
            "not a folder or URL of a kind that is known", where=folder, hint="such as s3://bucket/predictions"
        ) from None
    return files, root.rstrip("/")


@contextmanager
def _translated(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What the cloud says may contain request ids and keys, so that only its kind is repeated.
        reason = error.strerror or type(error).__name__
        raise Unreachable(
            f"the warehouse's folder does not answer: {reason}",
            where=folder,
            hint="check its name and the credentials, then export again: nothing is lost",
        ) from error


def _write(files: fs.FileSystem, path: str, contract: Contract, chunks: Any) -> None:
    columns = _columns(contract)
    schema = pa.schema([pa.field(column.name, _of(column).arrow, nullable=column.nullable) for column in columns])
    # Under a name of its own, so that a file that has its name is complete, and two exports at once do no harm.
    part = f"{path}.{secrets.token_hex(4)}{_PART}"
    with files.open_output_stream(part) as stream, pq.ParquetWriter(stream, schema) as writer:
        for chunk in chunks:
            arrays = [
                pa.array(list(map(_of(column).value, values)), field.type)
                for column, field, values in zip(columns, schema, zip(*chunk, strict=True), strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    files.move(part, path)


def _columns(contract: Contract) -> list[Column[Any]]:
    """Return the columns of the log, without the number that only the store knows."""
    return [column for column in build_tables(contract).predictions.columns if column.name != "id"]


@dataclass(frozen=True)
class _Type:
    """A type of a column: in Arrow, in the SQL of DuckDB and of BigQuery, and how its value is written."""

    arrow: pa.DataType
    duckdb: str
    bigquery: str
    value: Callable[[Any], Any] = lambda value: value


_TEXT = _Type(pa.string(), "VARCHAR", "STRING")
_TYPES: tuple[tuple[Any, _Type], ...] = (
    (JSON, _Type(pa.string(), "VARCHAR", "STRING", lambda value: None if value is None else to_json(value).decode())),
    (Boolean, _Type(pa.bool_(), "BOOLEAN", "BOOL")),
    (BigInteger | Integer, _Type(pa.int64(), "BIGINT", "INT64")),
    (Double, _Type(pa.float64(), "DOUBLE", "FLOAT64")),
    (UtcDateTime, _Type(pa.timestamp("us", "UTC"), "TIMESTAMPTZ", "TIMESTAMP")),
    (Date, _Type(pa.date32(), "DATE", "DATE")),
)


def _of(column: Column[Any]) -> _Type:
    return next((known for kind, known in _TYPES if isinstance(column.type, kind)), _TEXT)


def load_statements(contract: Contract, folder: str, table: str, dialect: Dialect) -> str:
    """Return the SQL that creates a table, for BigQuery with its data set, and loads all that was exported into it.

    It may be run any number of times: each prediction is loaded once.

    Raises:
        UsageError: the name of the table has other characters than letters, digits, `_`, `-` and dots.
    """
    if not re.fullmatch(r"[\w.-]+", table):
        raise UsageError("not a name of a table", where=table, hint="give it as data_set.table")
    folder = folder.partition("?")[0].rstrip("/") if "://" in folder else str(Path(folder).resolve())
    folder = folder.replace("'", "''")
    mark = "`" if dialect is Dialect.BIGQUERY else '"'
    types = {f"{mark}{column.name}{mark}": getattr(_of(column), dialect.value) for column in _columns(contract)}
    declared = ",\n".join(f"  {name} {kind}" for name, kind in types.items())
    target = ".".join(f"{mark}{part}{mark}" for part in table.split("."))
    create = f"CREATE TABLE IF NOT EXISTS {target} (\n{declared}\n)"
    if dialect is Dialect.BIGQUERY:
        source = f"{target[:-1]}_loading`"
        # BigQuery allows one asterisk, which stands for folders, too.
        load = f"{create}\nPARTITION BY DATE(created_at);\n\nLOAD DATA OVERWRITE {source} (\n{declared}\n)\n"
        load += f"FROM FILES (format = 'PARQUET', uris = ['{folder}/day=*.parquet']);"
    else:
        # A file from before a column was added to the log does not have it.
        source = f"read_parquet('{folder}/day=*/*.parquet', union_by_name = true, hive_partitioning = false)"
        load = f"{create};"
    names = ", ".join(types)
    return f"""{load}

MERGE INTO {target} AS logged
USING (
  SELECT {names}
  FROM {source}
  WHERE true
  QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY created_at) = 1
) AS exported
ON logged.request_id = exported.request_id
WHEN NOT MATCHED THEN INSERT ({names})
VALUES ({names});
"""  # noqa: S608 - the names are the contract's and a table's that was checked
