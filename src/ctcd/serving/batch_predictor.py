"""Scores the many rows of one request in chunks, and commits all of them to the outbox before it answers."""

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
"""Rows that are validated, scored and encoded together; other requests get their turn in between."""


@dataclass(frozen=True, kw_only=True)
class BatchAnswer:
    """The answer to a batch request.

    Args:
        body: body of the response, JSON.
        model_version: version of the model that answered.
        predictions: number of rows by predicted class.
    """

    body: bytes
    model_version: str
    predictions: Counter[str]


class RowsRefused(Exception):
    """Rows that violate the payload contract.

    Args:
        error: the errors that pydantic found in a chunk of rows.
        start: index of the chunk's first row in the body.
    """

    def __init__(self, error: ValidationError, start: int) -> None:
        super().__init__(f"rows from {start} on are refused")
        self.error, self.start = error, start


class BatchPredictor:
    """Answers batch requests one after the other in a thread of its own.

    The memory of a batch is bounded by its body: the parsed rows, and one record for each chunk. The records are committed
    in one transaction, so that a batch is logged completely or not at all; one model answers all of it.

    Args:
        contract: names the features and the group.
        payload: the bodies that are accepted.
        outbox: where predictions are committed.
        served: returns the model that answers now.
    """

    def __init__(self, contract: Contract, payload: Payload, outbox: Outbox, served: "Callable[[], Served]") -> None:
        self._group = contract.group.name
        self._columns = tuple(payload.row.model_fields)
        self._values = itemgetter(*self._columns)
        self._outbox = outbox
        self._served = served
        self._rows = TypeAdapter(list[plain(payload.row)]).validator  # type: ignore[arg-type, misc] # made at run time
        self._models = TypeAdapter(list[payload.row]).validator  # type: ignore[name-defined] # made at run time
        # Validates everything but the rows, which are validated in chunks.
        envelope: type[BaseModel] = create_model(
            payload.batch_request.__name__,
            __config__=ConfigDict(extra="forbid", strict=True),
            data=(list[Any], Field(min_length=1, max_length=payload.max_rows)),
        )
        self._envelope = envelope.__pydantic_validator__
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch-disk")

    async def predict(self, body: bytes, *, request_id: str, started: float) -> BatchAnswer:
        """Score the rows of a body.

        Args:
            body: body of the request, JSON.
            request_id: identifies the request, a UUID; the ids of the rows are derived from it.
            started: when the request arrived, by `time.perf_counter`.

        Raises:
            ValidationError: the body is not a batch.
            RowsRefused: a row violates the payload contract; nothing is logged.
            OutboxFull: the predictions cannot be logged, so there is no answer.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._predict, body, request_id, started)

    def close(self) -> None:
        """End the threads after their current batch."""
        self._thread.shutdown(cancel_futures=True)
        self._disk.shutdown()

    def _predict(self, body: bytes, request_id: str, started: float) -> BatchAnswer:
        rows = self._parse(body)
        served = self._served()
        prefix = UUID(request_id).hex
        now = datetime.now(UTC)
        chunks: list[_Chunk] = []
        bodies: list[bytes] = []
        for start in range(0, len(rows), CHUNK_ROWS):
            checked = self._check(rows[start : start + CHUNK_ROWS], start)
            rows[start : start + CHUNK_ROWS] = [None] * len(checked)  # frees the memory
            chunk = self._score(
                checked, served, [f"{prefix}{index:04d}" for index in range(start, start + len(checked))]
            )
            chunks.append(chunk)
            bodies.append(
                records.encode(
                    [self._values(row) for row in checked],
                    columns=self._columns,
                    group=self._group,
                    request_ids=chunk.ids,
                    predictions=chunk.classes,
                    confidences=chunk.confidences,
                    model_version=served.version,
                    run_id=served.info.run_id,
                    elapsed_ms=[(time.perf_counter() - started) * 1_000] * len(checked),
                    created_at=now,
                )
            )
        # The answer is serialised while the disk writes; it is sent only after the commit.
        logged = self._disk.submit(self._outbox.append, bodies, [len(chunk.ids) for chunk in chunks])
        answers = [self._to_json(chunk, served.scorer.classes) for chunk in chunks]
        end = to_json({"model_version": served.version, "request_id": request_id})
        content = b'{"predictions":[' + b",".join(answers) + b"]," + end[1:]
        predictions = Counter[str]()
        for chunk in chunks:
            predictions.update(chunk.classes)
        logged.result()
        return BatchAnswer(body=content, model_version=served.version, predictions=predictions)

    def _parse(self, body: bytes) -> list[Any]:
        try:
            content = from_json(body)
        except ValueError:
            # Raises the same error as any other body that is not JSON.
            content = self._envelope.validate_json(body)
        rows: list[Any] = self._envelope.validate_python(content).data
        return rows

    def _check(self, rows: list[Any], start: int) -> list[dict[str, Any]]:
        try:
            return [row.__dict__ for row in self._rows.validate_python(rows)]
        except ValidationError:
            pass
        try:
            # Raises the same errors as a request for one row.
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

    def _to_json(self, chunk: "_Chunk", classes: tuple[str, ...]) -> bytes:
        """Return the answers to the rows of a chunk: a JSON array without its brackets."""
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
    """Rows that were scored together; one entry per row."""

    groups: list[int]
    ids: list[str]
    classes: list[str]
    confidences: list[float]
    probabilities: list[list[float]]


def plain(row: type[BaseModel]) -> type[Any]:
    """Return a dataclass that accepts the same rows as a pydantic model, at half the cost: it does not record the fields set."""
    fields = [
        (name, Annotated[info.annotation, info])
        if info.is_required()
        else (name, Annotated[info.annotation, info], field(default=info.default))
        for name, info in row.model_fields.items()
    ]
    plain: type[Any] = make_dataclass(row.__name__, fields, kw_only=True)
    plain.__pydantic_config__ = ConfigDict(extra="forbid")
    return plain
