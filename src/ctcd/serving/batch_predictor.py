"""Scores many rows of one request, a chunk at a time, and puts all of them on disk before any is given."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json, to_json

from ctcd.contract.payload import Payload
from ctcd.contract.spec import Contract
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox

if TYPE_CHECKING:
    from ctcd.model.served import Served

CHUNK_ROWS = 500
"""Rows checked, scored and encoded in one go: other requests get their turn in between."""


@dataclass(frozen=True, kw_only=True)
class BatchAnswer:
    """The answer to a batch, and what is counted of it."""

    body: bytes
    model_version: str
    predictions: Counter[str]


class RowsRefused(Exception):
    """Rows that do not keep the payload contract.

    Args:
        error: what pydantic found in a chunk of rows.
        start: index of the chunk's first row in the body.
    """

    def __init__(self, error: ValidationError, start: int) -> None:
        super().__init__(f"rows from {start} on are refused")
        self.error, self.start = error, start


class BatchPredictor:
    """Answers batches one after the other in a thread of its own.

    What a batch needs at once is bounded by its body: the rows as read, and their records, one for each chunk. They are
    committed in one transaction, so that a batch is logged as a whole or not at all, and one model answers all of it.

    Args:
        contract: names the features and the group.
        payload: the rows that are accepted.
        outbox: where predictions are committed.
        served: gives the model that answers.
    """

    def __init__(self, contract: Contract, payload: Payload, outbox: Outbox, served: "Callable[[], Served]") -> None:
        self._group = contract.group.name
        self._columns = tuple(payload.row.model_fields)
        self._values = itemgetter(*self._columns)
        self._outbox = outbox
        self._served = served
        self._rows = TypeAdapter(list[plain(payload.row)]).validator  # type: ignore[arg-type, misc] # made at run time
        self._models = TypeAdapter(list[payload.row]).validator  # type: ignore[name-defined] # made at run time
        # The rows themselves are checked in chunks.
        outside: type[BaseModel] = create_model(
            payload.batch_request.__name__,
            __config__=ConfigDict(extra="forbid", strict=True),
            data=(list[Any], Field(min_length=1, max_length=payload.max_rows)),
        )
        self._outside = outside.__pydantic_validator__
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch-disk")

    async def predict(self, body: bytes, *, request_id: str, started: float) -> BatchAnswer:
        """Score the rows of a body.

        Args:
            body: the request's body.
            request_id: identifies the request; each row's id is made from it.
            started: when the request came in, as `time.perf_counter` gives it.

        Raises:
            ValidationError: the body is no batch.
            RowsRefused: a row does not keep the payload contract; nothing is logged.
            OutboxFull: the predictions cannot be logged, so none is given.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._predict, body, request_id, started)

    def close(self) -> None:
        """End the thread after the batch that it works on."""
        self._thread.shutdown(cancel_futures=True)
        self._disk.shutdown()

    def _predict(self, body: bytes, request_id: str, started: float) -> BatchAnswer:
        given = self._read(body)
        served = self._served()
        prefix = UUID(request_id).hex
        now = datetime.now(UTC)
        chunks: list[_Chunk] = []
        bodies: list[bytes] = []
        for start in range(0, len(given), CHUNK_ROWS):
            rows = self._check(given[start : start + CHUNK_ROWS], start)
            given[start : start + CHUNK_ROWS] = [None] * len(rows)  # not needed any more
            chunk = self._score(rows, served, [f"{prefix}{index:04d}" for index in range(start, start + len(rows))])
            chunks.append(chunk)
            bodies.append(
                records.encode(
                    [self._values(row) for row in rows],
                    columns=self._columns,
                    group=self._group,
                    request_ids=chunk.ids,
                    predictions=chunk.classes,
                    confidences=chunk.confidences,
                    model_version=served.version,
                    elapsed_ms=[(time.perf_counter() - started) * 1_000] * len(rows),
                    created_at=now,
                )
            )
        # While the disk works, the answer is written; it goes out only once the disk has all of it.
        logged = self._disk.submit(self._outbox.append, bodies, [len(chunk.ids) for chunk in chunks])
        told = [self._tell(chunk, served.scorer.classes) for chunk in chunks]
        end = to_json({"model_version": served.version, "request_id": request_id})
        content = b'{"predictions":[' + b",".join(told) + b"]," + end[1:]
        predictions = Counter[str]()
        for chunk in chunks:
            predictions.update(chunk.classes)
        logged.result()
        return BatchAnswer(body=content, model_version=served.version, predictions=predictions)

    def _read(self, body: bytes) -> list[Any]:
        try:
            content = from_json(body)
        except ValueError:
            # The same error that any body gets which is not JSON.
            content = self._outside.validate_json(body)
        rows: list[Any] = self._outside.validate_python(content).data
        return rows

    def _check(self, rows: list[Any], start: int) -> list[dict[str, Any]]:
        try:
            return [row.__dict__ for row in self._rows.validate_python(rows)]
        except ValidationError:
            pass
        try:
            # Says what is wrong in the words that one row gets.
            return [row.__dict__ for row in self._models.validate_python(rows)]
        except ValidationError as error:
            raise RowsRefused(error, start) from error

    def _score(self, rows: list[dict[str, Any]], served: "Served", ids: list[str]) -> "_Chunk":
        predictions = served.scorer.predict(rows)
        return _Chunk(
            groups=[row[self._group] for row in rows],
            ids=ids,
            classes=predictions.classes,
            confidences=predictions.confidences,
            probabilities=predictions.probabilities,
        )

    def _tell(self, chunk: "_Chunk", classes: tuple[str, ...]) -> bytes:
        """Return the answers to some rows, as JSON without the brackets around them."""
        columns = zip(chunk.groups, chunk.classes, chunk.confidences, chunk.probabilities, chunk.ids, strict=True)
        return to_json(
            [
                {
                    self._group: group,
                    "predict": prediction,
                    "confidence": confidence,
                    "probabilities": dict(zip(classes, each, strict=True)),
                    "request_id": row_id,
                }
                for group, prediction, confidence, each, row_id in columns
            ]
        )[1:-1]


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """What is known about rows that were scored together; one entry a row."""

    groups: list[int]
    ids: list[str]
    classes: list[str]
    confidences: list[float]
    probabilities: list[list[float]]


def plain(row: type[BaseModel]) -> type[Any]:
    """Return a dataclass that takes and refuses what a model does: it does not note which fields were given, and costs half."""
    fields = [
        (name, Annotated[info.annotation, info])
        if info.is_required()
        else (name, Annotated[info.annotation, info], field(default=info.default))
        for name, info in row.model_fields.items()
    ]
    plain: type[Any] = make_dataclass(row.__name__, fields, kw_only=True)
    plain.__pydantic_config__ = ConfigDict(extra="forbid")
    return plain
