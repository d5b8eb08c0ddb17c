"""Scores the many rows of one request in chunks, and commits all of them to the outbox before it answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import pandas as pd
from pydantic import BaseModel, ConfigDict, FailFast, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from ctcd.contract.payload import Payload, field_names, row_reader
from ctcd.contract.spec import Contract
from ctcd.model.scorer import prediction_columns
from ctcd.model.served import Origin
from ctcd.serving.batch_body import BatchBody
from ctcd.serving.http.problems import Invalid
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox

if TYPE_CHECKING:
    from ctcd.serving.traffic import Models, Part

SHOWN_ERRORS = 50
"""Number of errors after which no further row of a batch is validated."""


@dataclass(frozen=True, kw_only=True)
class BatchAnswer:
    """The answer to a batch request: its body, JSON, and the number of rows by predicted class, version and variant."""

    body: bytes
    model_version: str
    predictions: Counter[tuple[str, str, str]]

    @property
    def variant(self) -> str:
        """The variants of the models that answered."""
        return ", ".join(sorted({variant for _, _, variant in self.predictions}))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scored rows of a batch.

    Args:
        chunks: what was predicted.
        records: for the outbox, one for each part of a chunk.
        rows: number of rows of each.
    """

    request_id: str
    model_version: str
    chunks: "list[_Chunk]"
    records: list[bytes]
    rows: list[int]


class BatchPredictor:
    """Answers batch requests one after the other in a separate thread, each with the models that `models` returns then.

    The memory of a batch is bounded by its body: the parsed rows, and one or two records for each chunk. The records
    are committed in one transaction, so that a batch is logged completely or not at all. One model answers all rows
    except those that an experiment assigns to another one.
    """

    def __init__(
        self,
        contract: Contract,
        payload: Payload,
        outbox: Outbox,
        models: "Callable[[], Models]",
        *,
        served_by: str | None = None,
    ) -> None:
        self._group = records.group_name(contract)
        self._columns = field_names(payload.row)
        self._values = records.values_of(self._columns)
        self._read = row_reader(payload.row)
        self._outbox, self._served_by = outbox, served_by
        self._models = models
        self._body = BatchBody(payload)
        # The first invalid row ends it.
        fast: Any = Annotated[list[plain(payload.row)], FailFast()]  # type: ignore[misc] # made at run time
        self._rows = TypeAdapter[list[Any]](fast).validator
        self._row = payload.row.__pydantic_validator__
        self.columns = [*prediction_columns(contract.classes), *(each.name for each in fields(Origin)), "request_id"]
        """Of what `score_rows` returns: prediction, origin and request id."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch-disk")

    async def predict(self, body: bytes, *, request_id: str, started: float, seconds: float) -> BatchAnswer:
        """Score the rows of a body.

        Args:
            body: body of the request, JSON.
            request_id: identifies the request, a UUID; the ids of the rows are derived from it.
            started: when the request arrived, by `time.perf_counter`.
            seconds: how long it may take from now on.

        Raises:
            NotJson: the body is not JSON.
            Invalid: it is not a batch, or a row violates the payload contract; nothing is logged.
            OutboxFull: the predictions cannot be logged, so there is no answer.
            TimeoutError: it takes too long.
        """
        loop = asyncio.get_running_loop()
        deadline = time.perf_counter() + seconds
        async with asyncio.timeout(seconds):
            return await loop.run_in_executor(self._thread, self._predict, body, request_id, started, deadline)

    async def check(self, body: bytes, *, seconds: float) -> int:
        """Return the number of rows of a body that is a valid batch; nothing is scored.

        Raises:
            NotJson: the body is not JSON.
            Invalid: it is not a batch, or a row violates the payload contract.
            TimeoutError: it takes too long.
        """
        deadline = time.perf_counter() + seconds
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._count, body, deadline)

    def _count(self, body: bytes, deadline: float) -> int:
        count = 0
        for rows in self._body.rows(body):
            _require_time(deadline)
            count += len(self._check(rows, count))
        return count

    def score(self, body: bytes, *, request_id: str, started: float) -> tuple[Scored, BatchAnswer]:
        """Score the rows of a body; the caller has to log the records. Blocks; for `started` see `predict`.

        Raises:
            NotJson: the body is not JSON.
            Invalid: it is not a batch, or a row violates the payload contract.
        """

        def work() -> tuple[Scored, BatchAnswer]:
            done = self._score(body, request_id, started, float("inf"))
            return done, self._answer(done)

        return self._thread.submit(work).result()

    def close(self) -> None:
        """End the threads after their current batch."""
        self._thread.shutdown(cancel_futures=True)
        self._disk.shutdown()

    def _predict(self, body: bytes, request_id: str, started: float, deadline: float) -> BatchAnswer:
        done = self._score(body, request_id, started, deadline)
        # The answer is serialised while the disk writes; it is sent only after the commit.
        logged = self._disk.submit(self._outbox.append, done.records, done.rows)
        answer = self._answer(done)
        logged.result()
        return answer

    def _score(self, body: bytes, request_id: str, started: float, deadline: float) -> Scored:
        models = self._models()
        prefix = UUID(request_id).hex
        now = datetime.now(UTC)
        chunks: list[_Chunk] = []
        bodies: list[bytes] = []
        sizes: list[int] = []
        start = 0
        for rows in self._body.rows(body):
            _require_time(deadline)
            checked = self._check(rows, start)
            ids = [f"{prefix}{index:04d}" for index in range(start, start + len(checked))]
            start += len(checked)
            chunk, more = self._chunk(models, checked, ids, started, now)
            chunks.append(chunk)
            bodies += more
            sizes += [len(part.places) for part in chunk.parts]
        return Scored(
            request_id=request_id, model_version=models.champion.version, chunks=chunks, records=bodies, rows=sizes
        )

    def _chunk(
        self, models: "Models", rows: list[dict[str, Any]], ids: list[str], started: float, now: datetime
    ) -> "tuple[_Chunk, list[bytes]]":
        """Score rows; return them with the record of each part."""
        groups = [row[self._group] for row in rows] if self._group else [None] * len(rows)
        chunk = _Chunk(groups=groups, ids=ids, parts=models.parts(rows, ids.__getitem__))
        return chunk, [
            records.encode(
                [self._values(rows[place]) for place in part.places],
                columns=self._columns,
                group=self._group,
                request_ids=[ids[place] for place in part.places],
                predictions=part.predictions,
                origin=part.served.origin(self._served_by),
                elapsed_ms=[(part.at - started) * 1_000] * len(part.places),
                created_at=now,
            )
            for part in chunk.parts
        ]

    def score_rows(
        self, rows: list[dict[str, Any]], ids: list[str], *, started: float
    ) -> tuple[pd.DataFrame, list[bytes], list[int]]:
        """Score valid rows with request ids, at most `PIECE_ROWS`; other batches get their turn before the next.

        Blocks; the caller has to log the records.

        Returns:
            The `columns` of each row, in their order; and the records, and the number of rows of each.
        """
        now = datetime.now(UTC)
        chunk, bodies = self._thread.submit(lambda: self._chunk(self._models(), rows, ids, started, now)).result()
        found = [
            part.predictions.to_frame(pd.Index(part.places)).assign(**vars(part.served.origin(self._served_by)))
            for part in chunk.parts
        ]
        return pd.concat(found).sort_index().assign(request_id=ids), bodies, [len(part.places) for part in chunk.parts]

    def _answer(self, done: Scored) -> BatchAnswer:
        answers = [self._to_json(chunk, done.model_version) for chunk in done.chunks]
        end = to_json({"model_version": done.model_version, "request_id": done.request_id})
        # Added to the parts instead of the whole, to avoid copies.
        answers[0] = b'{"predictions":[' + answers[0]
        answers[-1] += b"]," + end[1:]
        content = b",".join(answers)
        predictions = Counter[tuple[str, str, str]]()
        for part in (part for chunk in done.chunks for part in chunk.parts):
            for prediction, count in Counter(part.predictions.classes).items():
                predictions[prediction, part.served.version, part.served.variant] += count
        return BatchAnswer(body=content, model_version=done.model_version, predictions=predictions)

    def _check(self, rows: list[Any], start: int) -> list[dict[str, Any]]:
        try:
            return [self._read(row) for row in self._rows.validate_python(rows)]
        except ValidationError:
            errors = self._errors(rows, start)
        raise Invalid(errors, frozenset(self._columns), complete=len(errors) < SHOWN_ERRORS)

    def _errors(self, rows: list[Any], start: int) -> list[ErrorDetails]:
        """Return the first errors of rows, the same as in requests for one row."""
        errors: list[ErrorDetails] = []
        for index, row in enumerate(rows, start):
            try:
                self._row.validate_python(row)
            except ValidationError as error:
                found = error.errors(include_url=False, include_context=False)
                errors += [ErrorDetails(**detail | {"loc": ("data", index, *detail["loc"])}) for detail in found]
            if len(errors) >= SHOWN_ERRORS:
                break
        return errors

    def _to_json(self, chunk: "_Chunk", version: str) -> bytes:
        """Return the answers to the rows of a chunk, a JSON array without its brackets; `version` is that of the batch."""
        answers: list[dict[str, Any]] = [{}] * len(chunk.ids)
        for part in chunk.parts:
            found, other = part.predictions, part.served.version
            named = {} if other == version else {"model_version": other}
            columns = zip(part.places, found.classes, found.confidences, found.probabilities, strict=True)
            for place, prediction, confidence, each in columns:
                answers[place] = (
                    ({self._group: chunk.groups[place]} if self._group else {})
                    | {
                        "predict": prediction,
                        "confidence": confidence,
                        "probabilities": dict(zip(found.class_order, each, strict=True)),
                        "request_id": chunk.ids[place],
                    }
                    | named
                )
        return to_json(answers)[1:-1]


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Rows that were checked together; one entry per row."""

    groups: list[Any]
    ids: list[str]
    parts: "list[Part]"


def _require_time(deadline: float) -> None:
    if time.perf_counter() > deadline:  # the client no longer waits
        raise TimeoutError


def plain(row: type[BaseModel]) -> type[Any]:
    """Return a dataclass that accepts the same rows as a pydantic model, at half the cost: it does not record the fields set."""
    columns = [
        (name, Annotated[info.annotation, info])
        if info.is_required()
        else (name, Annotated[info.annotation, info], field(default=info.default))
        for name, info in row.model_fields.items()
    ]
    plain: type[Any] = make_dataclass(row.__name__, columns, kw_only=True)
    plain.__pydantic_config__ = ConfigDict(extra="forbid")
    return plain
