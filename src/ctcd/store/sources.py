"""Reading raw tables from CSV, CSV.gz and Parquet files as text, in chunks, with the line number of each row."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ctcd.contract.columns import column_name
from ctcd.errors import DataRefused, UsageError, number_of, shown

CSV, GZIPPED, PARQUET = SUFFIXES = (".csv", ".csv.gz", ".parquet")
"""Formats that are read and written, by the end of a file's name; see `suffix_of`."""
HEADER_CHARACTERS = 65_536
"""Maximum length of the header of a CSV file of unknown origin."""
WHOLE_LIMIT = 2.0**53
"""Below it, every integer has an exact representation as a double."""


def suffix_of(path: Path) -> str:
    """Return which one of `SUFFIXES` a file's name ends in, in upper or lower case; empty if in none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


class Record(NamedTuple):
    """One record of a CSV file: its first and last line, and its cells."""

    first: int
    last: int
    cells: list[str]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some rows of a file.

    Args:
        lines: first line of each row of a CSV file, whose header is line 1; number of the row, from 1, of a Parquet
            file.
        numbers: number of each row in the file, from 1; malformed records count too.
        cells: the rows, with all columns as text; null where a Parquet file has null.
        malformed: records whose number of fields is not that of the header.
        total: number of rows of the file; for a CSV file, until its last chunk, an estimate from the bytes read so far.
    """

    lines: NDArray[np.int64]
    numbers: NDArray[np.int64]
    cells: pa.Table
    malformed: tuple[Record, ...] = ()
    total: int


@dataclass(frozen=True)
class Source:
    """A file with rows of one table.

    Args:
        groups: of a Parquet file, the row groups to read; None: all.
        most_text: bounds what is in memory, for files of unknown origin: characters (bytes, of a Parquet file) from
            which on no row is added to a chunk, and that one row may have at most; None: there is no limit.
    """

    table: str
    path: Path
    groups: range | None = None
    most_text: int | None = None

    @cached_property
    def columns(self) -> list[str]:
        """Names of the file's columns, as `column_name` gives them to a contract.

        Raises:
            DataRefused: the file is empty or cannot be read.
        """
        return list(map(column_name, self.header))

    @cached_property
    def header(self) -> list[str]:
        """Names of the columns as they are in the file.

        Raises:
            DataRefused: the file is empty or cannot be read.
        """
        if self._is_parquet:
            with self._readable():
                columns = list(pq.read_schema(self.path).names)
        else:
            with self._open() as file:
                header = next(self._records(file), None)
            # Tools that write an index leave its cell of the header empty.
            cells = header.cells if header else []
            columns = [cell.strip() or f"unnamed_{number}" for number, cell in enumerate(cells, 1)]
        if not columns:
            raise DataRefused("the file is empty", where=str(self.path), hint="give a file with a header and rows")
        return columns

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file as it is, in hexadecimal digits.

        Raises:
            DataRefused: the file cannot be read.
        """
        with self._open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary file will do

    @cached_property
    def rows(self) -> int | None:
        """Number of rows, if it is known without reading the file (Parquet); otherwise None."""
        if not self._is_parquet:
            return None
        with self._readable():
            return int(pq.read_metadata(self.path).num_rows)

    def chunks(self, size: int, wanted: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield the rows in chunks of at most `size`, with some columns or all of them.

        Raises:
            DataRefused: the file cannot be read completely, or has two columns of the same name.
        """
        wanted = self.columns if wanted is None else wanted
        for name in wanted:
            if (count := self.columns.count(name)) > 1:
                raise DataRefused(
                    f"the header has column {name!r} {count} times", where=str(self.path), hint="keep one of them"
                )
        return self._parquet_chunks(size, wanted) if self._is_parquet else self._csv_chunks(size, wanted)

    @property
    def _is_parquet(self) -> bool:
        return suffix_of(self.path) == PARQUET

    def _csv_chunks(self, size: int, wanted: Sequence[str]) -> Iterator[Chunk]:
        width = len(self.columns)
        positions = [self.columns.index(name) for name in wanted]
        with self._open() as file:
            file_size = self.path.stat().st_size
            records = self._records(file)
            next(records)
            done, following = 0, next(records, None)
            while following is not None:
                batch = [following, *self._fitting(following, islice(records, size - 1))]
                first, done, following = done + 1, done + len(batch), next(records, None)
                rows = [record for record in batch if len(record.cells) == width]
                malformed = tuple(record for record in batch if len(record.cells) != width)
                self._refuse_open_quotes(malformed, width)
                cells: Sequence[Sequence[str]] = list(zip(*(row.cells for row in rows), strict=True)) or [()] * width
                yield Chunk(
                    lines=np.array([row.first for row in rows], dtype=np.int64),
                    numbers=first + np.flatnonzero([len(record.cells) == width for record in batch]),
                    cells=pa.table([pa.array(cells[each], pa.string()) for each in positions], names=list(wanted)),
                    malformed=malformed,
                    total=done if following is None else max(done + 1, done * file_size // file.tell()),
                )

    def _records(self, file: IO[bytes]) -> Iterator[Record]:
        whole = gzip.GzipFile(fileobj=file) if suffix_of(self.path) == GZIPPED else file
        with self._readable(), TextIOWrapper(whole, encoding="utf-8-sig", newline="") as stream:
            # Of the header less is read, as each of its cells is a column.
            bound = None if self.most_text is None else min(self.most_text, HEADER_CHARACTERS)
            lines = stream if bound is None else _BoundedLines(stream, bound)
            reader = csv.reader(lines, strict=True)
            last = 0
            try:
                for cells in reader:
                    if cells:  # skip blank lines
                        yield Record(last + 1, reader.line_num, cells)
                    last = reader.line_num
                    if isinstance(lines, _BoundedLines):
                        lines.most = lines.left = self.most_text or 0
            except csv.Error as error:
                raise DataRefused(
                    f"line {last + 1}: not valid CSV: {error}",
                    where=str(self.path),
                    hint="correct the quotes, or shorten the row",
                ) from error

    def _fitting(self, first: Record, others: Iterator[Record]) -> Iterator[Record]:
        """Yield the records that fit into a chunk with the first one."""
        if self.most_text is None:
            yield from others
            return
        text = len(first.cells) + sum(map(len, first.cells))
        while text < self.most_text and (record := next(others, None)) is not None:
            text += len(record.cells) + sum(map(len, record.cells))  # an empty cell takes memory, too
            yield record

    def _refuse_open_quotes(self, malformed: tuple[Record, ...], width: int) -> None:
        # An open quote swallows all rows up to the next quote; quarantining the record would silently lose them.
        for record in malformed:
            if record.first != record.last:
                raise DataRefused(
                    f"lines {record.first} to {record.last}: "
                    f"one row with {number_of(len(record.cells), 'field')} instead of {width}",
                    where=str(self.path),
                    hint="close the quote that was opened there",
                )

    def _open(self) -> IO[bytes]:
        with self._readable():
            return self.path.open("rb")

    def _parquet_chunks(self, size: int, wanted: Sequence[str]) -> Iterator[Chunk]:
        bounded: dict[str, Any] = {}
        if self.most_text is not None:
            self._require_plain(wanted)
            # Read page by page, and a text that is repeated is in memory once.
            bounded = {"pre_buffer": False, "buffer_size": 1 << 20, "read_dictionary": self._dictionaries()}
        with self._readable(), pq.ParquetFile(self.path, **bounded) as file:
            groups = range(file.num_row_groups) if self.groups is None else self.groups
            done = sum(file.metadata.row_group(each).num_rows for each in range(groups.start))
            headers = [self.header[self.columns.index(name)] for name in wanted]
            for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=headers):
                for some in self._divided(batch, done):
                    cells = pa.table([self._as_text(some.column(name), name) for name in headers], names=list(wanted))
                    lines = np.arange(done + 1, done + 1 + len(cells), dtype=np.int64)
                    done += len(cells)
                    yield Chunk(lines=lines, numbers=lines, cells=cells, total=file.metadata.num_rows)

    def _dictionaries(self) -> list[str]:
        """Return the columns that can be read without writing repeated texts out.

        Raises:
            DataRefused: a column has an encoding in which a text may be large and its file small.
        """
        groups, found = pq.read_metadata(self.path), list(self.header)
        for group in range(groups.num_row_groups):
            for place in range(groups.num_columns):
                chunk = groups.row_group(group).column(place)
                if "DELTA_BYTE_ARRAY" in chunk.encodings:
                    raise DataRefused(
                        f"column {chunk.path_in_schema} is encoded as DELTA_BYTE_ARRAY",
                        where=str(self.path),
                        hint="write it with a dictionary, or plainly",
                    )
                if "DELTA_LENGTH_BYTE_ARRAY" in chunk.encodings and chunk.path_in_schema in found:
                    found.remove(chunk.path_in_schema)
        return found

    def _require_plain(self, wanted: Sequence[str]) -> None:
        """Refuse columns with values of any size before they are read."""
        with self._readable():
            schema = pq.read_schema(self.path)
        for name in (self.header[self.columns.index(each)] for each in wanted):
            kind = schema.field(name).type
            if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
                raise _not_plain(name, kind, self.path)

    def _divided(self, batch: pa.RecordBatch, done: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a batch, halved until they have no more text than is allowed."""
        if self.most_text is None or _text_of(batch) <= self.most_text:
            yield batch
        elif len(batch) == 1:
            raise DataRefused(f"row {done + 1} has more than {self.most_text} bytes", where=str(self.path))
        else:
            half = len(batch) // 2
            yield from self._divided(batch.slice(0, half), done)
            yield from self._divided(batch.slice(half), done + half)

    def _as_text(self, column: pa.Array, name: str) -> pa.Array:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
            # Arrow would write a whole number from 1e15 on with an exponent, which no key may have.
            whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), WHOLE_LIMIT))
            if pc.all(whole, skip_nulls=True).as_py():
                column = column.cast(pa.int64())
        try:
            text = column.cast(pa.string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise _not_plain(name, column.type, self.path) from error
        try:
            text.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DataRefused(
                f"column {name} is not UTF-8 text", where=str(self.path), hint="save it as UTF-8"
            ) from error
        return text

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataRefused("truncated or not a gzip file", where=str(self.path), hint="fetch it again") from error
        except UnicodeDecodeError as error:
            raise DataRefused("not UTF-8 text", where=str(self.path), hint="save it as UTF-8") from error
        except pa.ArrowException as error:
            raise DataRefused("truncated or not a Parquet file", where=str(self.path), hint="fetch it again") from error
        except OSError as error:
            if error.errno is None and self._is_parquet:  # as Arrow raises it for a damaged page
                raise DataRefused("a damaged Parquet file", where=str(self.path), hint="fetch it again") from error
            raise DataRefused(
                f"cannot be read: {error.strerror or shown(error)}", where=str(self.path), hint="check its permissions"
            ) from error


class _BoundedLines:
    """The lines of a stream; it is an error if more characters are read than are `left`."""

    def __init__(self, stream: TextIO, most: int) -> None:
        self._stream = stream
        self.most = self.left = most

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise csv.Error(f"the header or a row has more than {self.most} characters")
        if not line:
            raise StopIteration
        return line


def _not_plain(name: str, kind: pa.DataType, path: Path) -> DataRefused:
    return DataRefused(f"column {name} holds {kind}, not plain values", where=str(path), hint="flatten it")


def _text_of(batch: pa.RecordBatch) -> int:
    """Return the bytes of a batch once a repeated text is written out."""
    return sum(
        pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
        if pa.types.is_dictionary(column.type)
        else column.nbytes
        for column in batch.columns
    )


def find_sources(path: Path, required: Sequence[str], optional: Sequence[str]) -> list[Source]:
    """Return the files to read: the files in a folder that have the name of a table, or the single file given.

    A folder has to contain the `required` tables, which are read in this order, and may contain the `optional` ones. A
    single file may have any name if only one table is required.

    Raises:
        UsageError: the path does not exist, a folder lacks a table or has it twice, a table is no regular file, or a
            file's name does not match a table.
        OSError: a folder may not be read.
    """
    tables = [*required, *optional]
    if path.is_dir():
        there = sorted(path.iterdir())  # for `glob`, a folder that may not be read is empty
        found = []
        for table in tables:
            files = [file for file in there if _is_of(file, table)]
            if len(files) > 1:
                raise UsageError(
                    f"{files[0].name} and {files[1].name} are the same table", where=str(path), hint="keep one"
                )
            if not files and table in required:
                raise UsageError(
                    f"there is no {_wanted(table)}", where=str(path), hint="add it, or give one table's file instead"
                )
            found += [Source(table, regular(file)) for file in files]
        return found
    if not path.exists():
        raise UsageError("there is no such file or folder", where=str(path), hint="correct the path")
    file = regular(path)
    for table in tables:
        if _is_of(path, table):
            return [Source(table, file)]
    if len(required) == 1 and suffix_of(path):  # it can only be that one
        return [Source(required[0], file)]
    raise UsageError(
        "the file name does not match a table",
        where=str(path),
        hint=f"name it {' or '.join(_wanted(table) for table in required)}",
    )


def regular(path: Path) -> Path:
    """Return the absolute path of a file that can be read to its end, and more than once.

    Raises:
        UsageError: it is a pipe, a device, a folder, or a link that leads nowhere.
    """
    if not path.is_file():
        raise UsageError("it is not a regular file", where=str(path), hint="write its content to a file")
    return path.resolve()


def _is_of(path: Path, table: str) -> bool:
    """Whether a file's name is that of a table, in one of the formats."""
    suffix = suffix_of(path)
    return bool(suffix) and path.name[: -len(suffix)] == table


def _wanted(table: str) -> str:
    return f"{table}({'|'.join(SUFFIXES)})"
