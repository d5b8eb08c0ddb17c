"""Scores many rows of one request, a chunk at a time, and puts all of them on disk before any is given."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json, to_json

from credit_score.contract.payload import Payload
from credit_score.contract.spec import Contract
from credit_score.serving import records
from credit_score.serving.outbox import Outbox

if TYPE_CHECKING:
    from credit_score.serving.model import Served

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
        self._outbox = outbox
        self._served = served
        self._rows = TypeAdapter(list[payload.row])  # type: ignore[name-defined] # made at run time
        # The rows themselves are checked in chunks.
        outside: type[BaseModel] = create_model(
            payload.batch_request.__name__,
            __config__=ConfigDict(extra="forbid", strict=True),
            data=(list[Any], Field(min_length=1, max_length=payload.max_rows)),
        )
        self._outside = outside.__pydantic_validator__
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")

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

    def _predict(self, body: bytes, request_id: str, started: float) -> BatchAnswer:
        given = self._read(body)
        served = self._served()
        prefix = UUID(request_id).hex
        now = datetime.now(UTC)
        bodies: list[bytes] = []
        told: list[bytes] = []
        predictions: Counter[str] = Counter()
        for start in range(0, len(given), CHUNK_ROWS):
            models = self._check(given[start : start + CHUNK_ROWS], start)
            given[start : start + CHUNK_ROWS] = [None] * len(models)  # not needed any more
            rows = [model.__dict__ for model in models]
            ids = [f"{prefix}{index:04d}" for index in range(start, start + len(rows))]
            probabilities = served.scorer.probabilities_of(rows)
            chosen = [served.scorer.classes[index] for index in probabilities.argmax(axis=1).tolist()]
            confidences = probabilities.max(axis=1).tolist()
            bodies.append(
                records.encode_many(
                    self._rows.dump_json(models),
                    group=self._group,
                    request_ids=ids,
                    predictions=chosen,
                    confidences=confidences,
                    model_version=served.version,
                    elapsed_ms=(time.perf_counter() - started) * 1_000,
                    created_at=now,
                )
            )
            columns = zip(rows, chosen, confidences, probabilities.tolist(), ids, strict=True)
            told.append(
                to_json(
                    [
                        {
                            self._group: row[self._group],
                            "predict": prediction,
                            "confidence": confidence,
                            "probabilities": dict(zip(served.scorer.classes, each, strict=True)),
                            "request_id": row_id,
                        }
                        for row, prediction, confidence, each, row_id in columns
                    ]
                )[1:-1]
            )
            predictions.update(chosen)
        sizes = [min(CHUNK_ROWS, len(given) - start) for start in range(0, len(given), CHUNK_ROWS)]
        self._outbox.append(bodies, sizes)
        end = to_json({"model_version": served.version, "request_id": request_id})
        content = b'{"predictions":[' + b",".join(told) + b"]," + end[1:]
        return BatchAnswer(body=content, model_version=served.version, predictions=predictions)

    def _read(self, body: bytes) -> list[Any]:
        try:
            content = from_json(body)
        except ValueError:
            # The same error that any body gets which is not JSON.
            content = self._outside.validate_json(body)
        rows: list[Any] = self._outside.validate_python(content).data
        return rows

    def _check(self, rows: list[Any], start: int) -> list[BaseModel]:
        try:
            checked: list[BaseModel] = self._rows.validate_python(rows)
        except ValidationError as error:
            raise RowsRefused(error, start) from error
        return checked
