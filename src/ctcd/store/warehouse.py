"""Copies of the prediction log for a data warehouse: a Parquet file a day, and the SQL that loads a prediction once.

A day is exported at least once: it is written again as a whole when predictions of it have arrived late. The statement
`MERGE` on the request id makes that exactly once in the warehouse.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pydantic_core import to_json
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Double,
    Engine,
    Integer,
    func,
    select,
)

from ctcd.contract.spec import Contract
from ctcd.errors import Unreachable, UsageError, number_of
from ctcd.progress import Progress, silent
from ctcd.store.engine import reading
from ctcd.store.prediction_log import given
from ctcd.store.tables import UtcDateTime, build_tables

_NAME = re.compile(r"(\d+)-(\d+)\.parquet")
"""Name of a file: its number of predictions, and the highest id of them."""
_PART = ".part"
"""Ends the name of a file that is not complete."""
_LEFT = timedelta(days=1)
"""Age from which on such a file is taken to be left by an export that was killed."""


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
        earlier: paths of files of earlier exports that stay, as they have predictions that the log has lost.
        loaded: whether BigQuery loaded something of it now, False if it had all of it; None if it is not asked to.
    """

    day: str
    rows: int
    file: str
    written: bool
    earlier: tuple[str, ...] = ()
    loaded: bool | None = None


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
    """Write the predictions of some days, shadows aside: `<folder>/<log>/day=<day>/<rows>-<highest id>.parquet`.

    A file that is there is complete, and is not written again; when predictions have come since, the day is written
    anew and the file before it is removed. One with predictions that the log has lost stays. Days begin and
    end in the given time zone. Memory is bounded by `chunk_rows`.

    The folder is a local one, or a URL of pyarrow's: `s3://bucket/path`, `gs://bucket/path`. Credentials are found
    where the cloud's own tools look for them.

    Raises:
        UsageError: the folder is no such URL.
        Unreachable: the store or the folder does not answer; what was written before is complete.
    """
    files, root = _open(folder)
    log = build_tables(contract).predictions
    found = []
    for done, day in enumerate(days):
        progress("days exported", done, len(days))
        with reading(engine) as connection, _translated(folder):
            begin, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
            of_day = (log.c.created_at >= begin, log.c.created_at < end, given(log))
            rows, last = connection.execute(select(func.count(), func.max(log.c.id)).where(*of_day)).one()
            if not rows:
                continue
            place, name = f"{root}/{log.name}/day={day}", f"{rows}-{last}.parquet"
            present = {
                each.base_name: each for each in files.get_file_info(fs.FileSelector(place, allow_not_found=True))
            }
            complete = _complete(present, rows, last)
            if complete is None:
                query = select(*_columns(contract)).where(*of_day, log.c.id <= last).order_by(log.c.id)
                chunks = connection.execution_options(yield_per=chunk_rows).execute(query).partitions()
                if isinstance(files, fs.LocalFileSystem):
                    files.create_dir(place)
                _write(files, f"{place}/{name}", contract, chunks)
                held_until = partial(_count, connection, log.c.id, of_day)
                for other in [each for each in present.values() if _is_outdated(each, last, held_until)]:
                    del present[other.base_name]
                    with suppress(FileNotFoundError):  # another export was first
                        files.delete_file(other.path)
            held, name = complete or (rows, name)
            others = sorted(each for each in present if each != name and _NAME.fullmatch(each))
            file, *earlier = (f"{log.name}/day={day}/{each}" for each in (name, *others))
            found.append(
                ExportedDay(day=str(day), rows=held, file=file, written=complete is None, earlier=tuple(earlier))
            )
    progress("days exported", len(days), len(days))
    return ExportReport(folder=folder, days=tuple(found))


def require_exported(engine: Engine, contract: Contract, before: datetime, folder: str, *, zone: ZoneInfo) -> None:
    """Require that each day with predictions from before a time, shadows aside, is in the warehouse as a whole.

    Raises:
        UsageError: a day is not, or the folder is no such URL.
        Unreachable: the store or the folder does not answer.
    """
    files, root = _open(folder)
    log = build_tables(contract).predictions
    end = before
    while True:
        with reading(engine) as connection, _translated(folder):
            latest = connection.scalar(select(func.max(log.c.created_at)).where(log.c.created_at < end, given(log)))
            if latest is None:
                return
            day = latest.astimezone(zone).date()
            end, until = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
            of_day = (log.c.created_at >= end, log.c.created_at < until, given(log))
            rows, last = connection.execute(select(func.count(), func.max(log.c.id)).where(*of_day)).one()
            place = fs.FileSelector(f"{root}/{log.name}/day={day}", allow_not_found=True)
            present = {each.base_name: each for each in files.get_file_info(place)}
        if _complete(present, rows, last) is None:
            raise UsageError(
                f"not in the warehouse: {number_of(rows, 'prediction')} of {day}; nothing is deleted",
                where=folder,
                hint=f"copy them first: ctcd export --base-dt {day + timedelta(days=1)} --days 1, or more days before it",
            )


def _complete(present: dict[str, fs.FileInfo], rows: int, last: int) -> tuple[int, str] | None:
    """Return rows and name of a file of a day that holds so many predictions or more, up to this id; None if none does."""
    named = map(_NAME.fullmatch, present)
    return max(
        ((int(each[1]), each[0]) for each in named if each and int(each[1]) >= rows and int(each[2]) >= last),
        default=None,
    )


def _is_outdated(file: fs.FileInfo, last: int, held_until: Callable[[int], int]) -> bool:
    """Return whether a file is one of an earlier export of which the log still has all, or what a killed one has left."""
    if re.fullmatch(rf"\d+-\d+\.parquet\.\w+{_PART}", file.base_name):
        return bool(file.mtime < datetime.now(UTC) - _LEFT)
    named = _NAME.fullmatch(file.base_name)
    return named is not None and int(named[2]) < last and int(named[1]) <= held_until(int(named[2]))


def _count(connection: Connection, number: Column[Any], of_day: Sequence[ColumnElement[bool]], last: int) -> int:
    """Return how many predictions of a day the log has, up to an id."""
    return connection.scalar(select(func.count()).where(*of_day, number <= last)) or 0


def _open(folder: str) -> tuple[fs.FileSystem, str]:
    text = folder if "://" in folder else str(Path(folder).resolve())
    try:
        with _translated(folder):
            files, root = fs.FileSystem.from_uri(text)
    except (ValueError, TypeError):
        raise UsageError(
            "not a folder or URL of a kind that is known", where=folder, hint="such as s3://bucket/predictions"
        ) from None
    if not (root := root.rstrip("/")):
        raise UsageError("names no bucket and no folder", where=folder, hint="such as s3://bucket/predictions")
    return files, root


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
    try:
        with files.open_output_stream(part) as stream, pq.ParquetWriter(stream, schema) as writer:
            for chunk in chunks:
                arrays = [
                    pa.array(list(map(_of(column).value, values)), field.type)
                    for column, field, values in zip(columns, schema, zip(*chunk, strict=True), strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        files.move(part, path)
    except BaseException:
        with suppress(OSError):  # a later export removes it
            files.delete_file(part)
        raise


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
        UsageError: the name of the table has other characters than letters, digits, `_`, `-` and dots, or lacks the
            data set; or BigQuery takes no column of such a name.
    """
    bigquery, log = dialect is Dialect.BIGQUERY, build_tables(contract).predictions
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+" if bigquery else r"[\w.-]+", table):
        raise UsageError("not a name of a table", where=table, hint="give it as data_set.table (--into)")
    if bigquery:
        bigquery_columns(contract)
    root = address(folder) if "://" in folder else str(Path(folder).resolve())
    if bigquery:
        root = root.replace("\\", "\\\\").replace("'", "\\'")
    else:
        root = re.sub(r"([*?\[])", r"[\1]", root).replace("'", "''")
    mark = "`" if bigquery else '"'
    types = {
        f"{mark}{column.name.replace(mark, mark * 2)}{mark}": getattr(_of(column), dialect.value)
        for column in _columns(contract)
    }
    declared = ",\n".join(f"  {name} {kind}" for name, kind in types.items())
    target = ".".join(f"{mark}{part}{mark}" for part in table.split("."))
    create = f"CREATE TABLE IF NOT EXISTS {target} (\n{declared}\n)"
    if bigquery:
        source = f"{target[:-1]}_loading`"
        # BigQuery allows one asterisk, which stands for folders, too.
        load = f"{create}\nPARTITION BY DATE(created_at);\n\nLOAD DATA OVERWRITE {source} (\n{declared}\n)\n"
        load += f"FROM FILES (format = 'PARQUET', uris = ['{root}/{log.name}/day=*.parquet']);"
    else:
        # A file from before a column was added to the log does not have it.
        source = f"read_parquet('{root}/{log.name}/day=*/*.parquet', union_by_name = true, hive_partitioning = false)"
        load = f"{create};"
    return f"{load}\n\n{merge_statement(list(types), target, source)}"


def address(url: str) -> str:
    """Return the address of a folder as warehouses take it: that of a URL without user, escapes and options."""
    scheme, _, place = url.partition("?")[0].partition("://")
    return f"{scheme}://{unquote(re.sub('^[^/]*@', '', place)).rstrip('/')}"


def bigquery_columns(contract: Contract) -> dict[str, str]:
    """Return the columns of a table of BigQuery for the log: name and type in its SQL.

    Raises:
        UsageError: BigQuery takes no column of such a name.
    """
    columns = _columns(contract)
    for column in columns:
        if not re.fullmatch(r"[A-Za-z_]\w*", column.name, re.ASCII):
            raise UsageError("BigQuery has no columns of such a name", where=column.name, hint="give it an alias")
    return {column.name: _of(column).bigquery for column in columns}


def merge_statement(columns: Sequence[str], target: str, source: str) -> str:
    """Return the SQL that adds to one table the predictions of another that it lacks; all names are quoted."""
    names = ", ".join(columns)
    return f"""MERGE INTO {target} AS logged
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
