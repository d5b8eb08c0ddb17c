"""Files of rows to be scored: divided into parts on disk, which the workers answer like asynchronous requests."""

import errno
import gzip
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from csv import writer
from http import HTTPStatus
from io import TextIOWrapper
from pathlib import Path
from threading import Lock
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv
from pydantic_core import from_json, to_json

from ctcd.contract.payload import FileState, request_rows
from ctcd.contract.schemas import rows_schema
from ctcd.contract.spec import Contract, names
from ctcd.errors import DataRefused
from ctcd.files import claim, locked, replacing, sync
from ctcd.model.scorer import PREDICTION
from ctcd.scoring.files import Part, Rejected
from ctcd.serving.batch_body import PIECE_ROWS
from ctcd.serving.batch_predictor import BatchPredictor
from ctcd.serving.http import problems
from ctcd.serving.http.problems import SHOWN_CHARACTERS, Problem, Violation
from ctcd.serving.http.routes import BY_NAME
from ctcd.serving.requests.queue import Answer, PartQueue, QueueFull, Result, Taken
from ctcd.settings import Settings
from ctcd.store.rows import check, malformed, merged_keys, valid_rows
from ctcd.store.sources import Chunk, Source

PART_ROWS = 10_000
"""Maximum number of rows of a part: as many as a batch request may have."""
LOCK = "lock"
"""File in the folder of a file that is claimed while it is being uploaded."""
RESULT, REJECTED = "result", "rejected"
"""The two files that a client gets."""


class Files:
    """The files of a machine, each in a folder of its own; all workers share them.

    A folder counts once the queue has the parts in it. Until then it belongs to the upload that has claimed it; any
    other one is deleted, so that nothing stays of an upload that broke off, or of a file that has expired.
    """

    def __init__(self, settings: Settings, contract: Contract, batches: BatchPredictor) -> None:
        self.queue = PartQueue(
            settings.requests.with_name("files.db"),
            most=settings.requests_max,
            most_bytes=settings.requests_max_bytes,
            keep_seconds=settings.requests_keep_seconds,
            lease_seconds=settings.requests_lease_seconds,
        )
        self.limits, self.folder = settings, settings.requests.with_name("files")
        self.part_rows = min(PART_ROWS, max(settings.outbox_max_records // 4, 1))
        self.required = names(contract.request_columns)
        self.copied = [contract.snapshot_date, *names(contract.keys)]
        self._contract, self._schema = contract, rows_schema(contract, contract.request_columns)
        self._inputs, self._batches = names(contract.model_inputs), batches

    @property
    def room(self) -> int:
        """Predictions for which an outbox needs room before a part is scored: the half for other requests, and the part."""
        return self.limits.outbox_max_records // 2 + self.part_rows

    def begin(self, file: str, suffix: str) -> "Upload":
        """Return an upload, which the caller has to close; `suffix` is that of the file's format.

        Raises:
            QueueFull: there is no room for another file.
            Problem: nothing can be written now.
        """
        self.queue.require_room()
        return Upload(self, file, suffix)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from beginning or deleting a file: between the two steps of a beginning, its folder looks like a left one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder.with_suffix(".lock")):
            yield

    def state(self, file: str) -> FileState | Problem | None:
        """Return how far a file is, the problem if it cannot be scored, or None if it does not exist or has expired.

        Raises:
            QueueFull: the queue cannot be read.
        """
        parts = self.queue.parts(file)
        counts = Counter[str]()
        for part in parts:
            if part.status not in (0, HTTPStatus.OK):
                detail = from_json(part.body)["detail"]
                return Problem(part.status, f"some of the file's rows could not be scored: {detail}")
            counts.update({name: value for name, value in from_json(part.body).items() if name != "attempt"})
        links = {name: BY_NAME[f"{name}_of_file"].path.format(request_id=file) for name in (RESULT, REJECTED)}
        return FileState(request_id=file, **{"predicted": 0, "refused": 0} | counts, **links) if parts else None

    def results(self, file: str, what: str) -> list[Path]:
        """Return the files, in their order, that together are the result of a file or its rejected rows.

        Raises:
            QueueFull: the queue cannot be read.
        """
        attempts = (from_json(part.body)["attempt"] for part in self.queue.parts(file))
        return [self._path(f"{file}/{number:06d}", attempt, what) for number, attempt in enumerate(attempts)]

    def _path(self, part: str, attempt: int, what: str) -> Path:
        # Each attempt has a file of its own, so that the one that counts is that of the attempt whose records count.
        return self.folder / f"{part}.{attempt}.{what}.csv.gz"

    def answer(self, taken: Taken) -> Answer:
        """Score a part and write its result; return the answer, the records for the log, and the number of predictions.

        Raises:
            Problem: the contract has changed, and the file no longer fits.
            QueueFull: the result cannot be written now.
        """
        with _using(self.folder):
            return self._answer(taken)

    def _answer(self, taken: Taken) -> Answer:
        started = time.perf_counter() - taken.waited
        part, numbers = self._read(self.folder / f"{taken.id}.arrow")
        good = valid_rows(len(part.inputs), part.found)
        file, _, number = taken.id.partition("/")
        ids = [f"{UUID(file).hex[:28]}{numbers[place]:08d}" for place in good]
        rows = request_rows(part.inputs.iloc[good], self._contract)
        frames: list[pd.DataFrame] = []
        records: list[tuple[bytes, int]] = []
        for start in range(0, len(rows), PIECE_ROWS):
            some = slice(start, start + PIECE_ROWS)
            frame, bodies, sizes = self._batches.score_rows(rows[some], ids[some], started=started)
            frames.append(frame)
            records += zip(bodies, sizes, strict=True)
        keys = part.given.drop_columns(self._inputs).take(pa.array(good))
        paths = {what: self._path(taken.id, taken.attempts, what) for what in (RESULT, REJECTED)}
        _write(paths[RESULT], keys, frames, self._batches.columns, first=int(number) == 0)
        refused = _write_rejected(paths[REJECTED], part, first=int(number) == 0)
        body = {"rows": len(rows) + refused, "predicted": len(rows), "refused": refused, "attempt": taken.attempts}
        found = Counter(
            each for frame in frames for each in zip(frame[PREDICTION], frame.model_version, frame.variant, strict=True)
        )
        size = sum(path.stat().st_size for path in paths.values())
        return Result(status=HTTPStatus.OK, body=to_json(body), files=size), records, found

    def _read(self, path: Path) -> tuple[Part, list[int]]:
        """Return a part, its rows typed and checked, and their numbers in the file."""
        with pa.OSFile(str(path)) as stream:
            cells = pa.ipc.open_file(stream).read_all()
        if missing := [name for name in self.required if name not in cells.column_names]:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the contract has changed: {', '.join(missing)} is missing")
        about = from_json(cells.schema.metadata[b"about"])
        columns = self._contract.request_columns
        frame, found = check(cells.select(self.required), columns, self._schema, self._contract)
        found += merged_keys(cells.drop_columns(self.required), self._contract)
        bad = [(line, reason) for line, reason in about["malformed"]]
        return Part(
            lines=np.array(about["lines"], dtype=np.int64),
            given=cells.replace_schema_metadata(),
            inputs=frame,
            found=found,
            malformed=bad,
            total=len(frame) + len(bad),
        ), about["numbers"]

    def finished(self, taken: Taken) -> None:
        """Delete the rows of a part that has an answer."""
        (self.folder / f"{taken.id}.arrow").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what has expired, and what is left of uploads that broke off.

        Raises:
            QueueFull: the queue cannot be written.
        """
        self.queue.expire()
        known = self.queue.files()
        with _using(self.folder):
            for folder in self.folder.iterdir() if self.folder.exists() else ():
                if folder.name not in known and folder.is_dir():
                    self._delete(folder)

    def _delete(self, folder: Path) -> None:
        """Delete a folder, unless it is being uploaded, or was accepted meanwhile."""
        with self.alone(), suppress(FileNotFoundError):  # another worker was first
            lock = claim(folder / LOCK)
            if lock is not None:
                try:
                    if folder.name not in self.queue.files():
                        shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


class Upload:
    """A file that is being uploaded; nothing of it stays unless it is accepted.

    Raises:
        Problem: it cannot be written now.
    """

    def __init__(self, files: Files, file: str, suffix: str) -> None:
        self._files, self._id = files, file
        self._folder = files.folder / file
        self._path = self._folder / f"upload{suffix}"
        self._accepted, self._busy = False, Lock()
        with _writing(), files.alone():
            self._folder.mkdir()
            self._lock = claim(self._folder / LOCK)
            self._stream = self._path.open("wb")

    def write(self, piece: bytes) -> None:
        """Append some bytes.

        Raises:
            Problem: they cannot be written now.
        """
        with self._busy, _writing():
            self._stream.write(piece)

    def accept(self) -> int:
        """Divide the file into parts and commit them durably; return the number of rows.

        Raises:
            Problem: it cannot be read or written now, lacks a column or has another one, or has no rows or too many.
            QueueFull: there is no room for its parts.
        """
        with self._busy, _writing():
            self._stream.close()
            try:
                parts = self._divide(Source("", self._path, most_text=self._files.limits.batch_max_bytes))
            except DataRefused as error:
                hint = f" ({error.hint})" if error.hint else ""
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error.what}{hint}") from error
            self._path.unlink()
            sync(self._files.folder)
            self._files.queue.add_parts(self._id, [(size, to_json({"rows": rows})) for size, rows in parts])
            self._accepted = True
            return sum(rows for _, rows in parts)

    def _divide(self, source: Source) -> list[tuple[int, int]]:
        """Write the parts of a file; return size and number of rows of each."""
        self._check_columns(source.columns)
        if source.rows is not None:
            self._check_rows(source.rows)
            groups = pq.read_metadata(source.path)
            self._check_size(sum(groups.row_group(each).total_byte_size for each in range(groups.num_row_groups)))
        parts: list[tuple[int, int]] = []
        rows = text = 0
        for chunk in source.chunks(self._files.part_rows):
            rows += len(chunk.lines) + len(chunk.malformed)
            self._check_rows(rows)
            # What the file says of its size may be wrong, and a text of it that is repeated is many in its parts.
            text += sum(pc.sum(pc.binary_length(cells)).as_py() or 0 for cells in chunk.cells.columns)
            self._check_size(text)
            path = self._folder / f"{len(parts):06d}.arrow"
            _save(path, chunk, len(source.columns))
            parts.append((path.stat().st_size, len(chunk.lines) + len(chunk.malformed)))
            self._check_parts(len(parts), sum(size for size, _ in parts))
        if not rows:
            raise DataRefused("the file has no rows")
        return parts

    def _check_columns(self, columns: list[str]) -> None:
        required, known = self._files.required, {*self._files.required, *self._files.copied}
        given = set(columns)
        missing = [name for name in required if name not in given]
        unknown = [place for place, name in enumerate(columns, 1) if name not in known][: problems.SHOWN_VIOLATIONS]
        errors = [Violation(field=name, rule="the column is missing") for name in missing]
        # The name of such a column may be anything, so the log does not get it.
        errors += [Violation(field="", rule=f"column {place} is not in the contract") for place in unknown]
        if errors:
            shown = [f"missing columns: {', '.join(missing)}"] if missing else []
            others = ", ".join(columns[place - 1][:SHOWN_CHARACTERS] for place in unknown)
            shown += [f"columns that are not in the contract: {others}"] if unknown else []
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(shown), errors=errors[: problems.SHOWN_VIOLATIONS])

    def _check_rows(self, rows: int) -> None:
        if rows > (most := self._files.limits.upload_max_rows):
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the file may have at most {most} rows, not {rows} or more"
            )

    def _check_size(self, size: int) -> None:
        """Refuse a Parquet file that is small only because it is compressed."""
        if size > (most := self._files.limits.upload_max_bytes):
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file may have at most {most} bytes once it is decompressed, not {size} or more",
            )

    def _check_parts(self, number: int, size: int) -> None:
        """Refuse a file that would not fit if it were the only one, before more of it fills the disk."""
        limits = self._files.limits
        if number > limits.requests_max or size > limits.requests_max_bytes:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a file may have at most {limits.requests_max} parts and {limits.requests_max_bytes} bytes in them,"
                f" compressed, not {number} and {size} or more",
            )

    def close(self) -> None:
        """End the upload."""
        with self._busy:
            self._stream.close()
            if self._lock is not None:
                os.close(self._lock)
            if not self._accepted:
                shutil.rmtree(self._folder, ignore_errors=True)


def _save(path: Path, chunk: Chunk, width: int) -> None:
    """Write the cells of a part, with where its rows are in the file."""
    bad = [(record.first, malformed(record, width)) for record in chunk.malformed]
    about = {"lines": chunk.lines.tolist(), "numbers": chunk.numbers.tolist(), "malformed": bad}
    table = chunk.cells.replace_schema_metadata({"about": to_json(about)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        replacing(path, synced=True) as unfinished,
        pa.OSFile(str(unfinished), "wb") as stream,
        pa.ipc.new_file(stream, table.schema, options=options) as file,
    ):
        file.write_table(table)


@contextmanager
def _compressed(path: Path) -> Iterator[gzip.GzipFile]:
    """Write a file that is complete or absent; without a name in it, which tools would give to what a client gets."""
    with (
        replacing(path, synced=True) as unfinished,
        unfinished.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file) as stream,
    ):
        yield stream


def _write(path: Path, keys: pa.Table, frames: list[pd.DataFrame], columns: list[str], *, first: bool) -> None:
    """Write the predictions of a part; those of the first one begin with the header."""
    with _compressed(path) as stream:
        if first:
            csv.write_csv(
                pa.table({name: pa.array([], pa.string()) for name in [*keys.column_names, *columns]}), stream
            )
        if frames:
            found = pa.Table.from_pandas(pd.concat(frames)[columns], preserve_index=False)
            table = pa.table([*keys.columns, *found.columns], names=[*keys.column_names, *columns])
            csv.write_csv(table, stream, csv.WriteOptions(include_header=False))


def _write_rejected(path: Path, part: Part, *, first: bool) -> int:
    """Write the rows of a part that break the contract, as `ctcd predict` does; return their number."""
    with _compressed(path) as file, TextIOWrapper(file, encoding="utf-8", newline="") as stream:
        if first:
            writer(stream, lineterminator="\n").writerow(["line", "reasons", *part.given.column_names])
        rejected = Rejected(stream, header=False)
        rejected.add(part)
        return rejected.rows


@contextmanager
def _using(folder: Path) -> Iterator[None]:
    """Translate an error of the disk while parts are scored or deleted; it is tried again."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise QueueFull(f"files cannot be scored: {name}", where=str(folder), hint="free its disk") from error


@contextmanager
def _writing() -> Iterator[None]:
    """Translate an error of the disk while a file is uploaded."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(HTTPStatus.INSUFFICIENT_STORAGE, "there is no space for the file; try again later") from error
        raise problems.unavailable("the file cannot be stored now; try again later") from error
