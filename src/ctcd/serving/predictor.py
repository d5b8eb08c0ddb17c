"""Scores requests in micro-batches and commits the predictions to the outbox."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ctcd.contract.spec import Contract, names
from ctcd.model.served import Served
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.traffic import Models, Part

MAX_BATCH = 128
MAX_WAIT = 0.005
"""Maximum wait of a request for others to share its batch, seconds."""
TURNAROUND = 0.0001
"""Approximate time to send an answer and to receive the next request of the same client, seconds."""


@dataclass(kw_only=True, slots=True)
class Answer:
    """The answer to one row, which has been scored and logged."""

    prediction: str
    confidence: float
    probabilities: dict[str, float]
    model_version: str
    variant: str


@dataclass(frozen=True)
class Waiting:
    """A row that waits for its answer."""

    row: Mapping[str, Any]
    request_id: str
    started: float
    answer: asyncio.Future[Answer]


class Predictor:
    """Answers a request after its prediction is committed to the outbox.

    All waiting rows are scored with one call and committed with one transaction, in a separate thread; meanwhile new
    requests accumulate, so the load determines the size of a batch. After a batch, the next one starts as soon as as
    many requests wait as were in progress before, but no later than half the duration of the last batch plus the time
    to send its answers: that halves the number of commits, and a single client never waits for others. `on_batch`
    is called after each commit, in that thread, with the number of rows. `served_by` is logged; see `Origin`.
    """

    def __init__(
        self,
        served: Served,
        outbox: Outbox,
        contract: Contract,
        *,
        on_batch: Callable[[int], None],
        served_by: str | None = None,
    ) -> None:
        self.models = Models(served)
        """Score the next batch; may be replaced at any time, as a batch in progress keeps its own."""
        self._outbox, self._served_by = outbox, served_by
        self._group = records.group_name(contract)
        self._columns = tuple(names(contract.request_columns))
        self._values = records.values_of(self._columns)
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predictor")
        # Start the thread now, so that a failure to start it does not lose the first batch.
        self._thread.submit(int).result()
        self._waiting: list[Waiting] = []
        self._busy = False
        self._expected = 1
        self._wait = 0.0
        self._timer: asyncio.Handle | None = None

    async def predict(self, row: Mapping[str, Any], *, request_id: str, started: float) -> Answer:
        """Score a row, by column name, that satisfies the payload contract.

        `started` is when its request arrived, by `time.perf_counter`.

        Raises:
            OutboxFull: the prediction cannot be logged, so there is no answer.
        """
        if not self._outbox.room_for(len(self._waiting) + 1):
            raise OutboxFull("too many predictions wait for the store", where=str(self._outbox.path))
        loop = asyncio.get_running_loop()
        waiting = Waiting(row, request_id, started, loop.create_future())
        self._waiting.append(waiting)
        if not self._busy:
            self._schedule(loop)
        return await waiting.answer

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._waiting) >= self._expected:
            if self._timer is not None:
                self._timer.cancel()
            self._expected = MAX_BATCH + 1  # so that it is scheduled only once
            # Not immediately: requests that the loop has already read join the batch.
            self._timer = loop.call_soon(self._next)
        elif self._timer is None:
            self._timer = loop.call_later(self._wait, self._next)

    def close(self) -> None:
        """End the thread after its current batch."""
        self._thread.shutdown()

    def _next(self) -> None:
        self._timer = None
        if self._busy or not self._waiting:
            return
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        self._busy = True
        loop = asyncio.get_running_loop()
        self._thread.submit(self._work, batch, self.models, loop)

    def _work(self, batch: list[Waiting], models: Models, loop: asyncio.AbstractEventLoop) -> None:
        outcome: Mapping[int, Answer] | Exception
        began = time.perf_counter()
        try:
            outcome = self._score_and_log(batch, models)
        except BaseException as error:  # noqa: BLE001 - every request of the batch raises it, and the next batch follows
            # A future refuses to hold a StopIteration, and a SystemExit in it would end the event loop.
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                outcome = error
            else:
                outcome = RuntimeError(f"scoring raised {type(error).__name__}")
        loop.call_soon_threadsafe(self._resolve, batch, outcome, time.perf_counter() - began)

    def _score_and_log(self, batch: list[Waiting], models: Models) -> dict[int, Answer]:
        parts = models.parts([waiting.row for waiting in batch], lambda place: batch[place].request_id)
        # One record for all rows of a model: it is smaller than one for each row, and every request waits for it.
        self._outbox.append([self._record(batch, part) for part in parts], [len(part.places) for part in parts])
        self._on_batch(len(batch))
        return {place: answer for part in parts for place, answer in zip(part.places, _answers(part), strict=True)}

    def _record(self, batch: list[Waiting], part: Part) -> bytes:
        these = batch if len(part.places) == len(batch) else [batch[place] for place in part.places]
        return records.encode(
            [self._values(waiting.row) for waiting in these],
            columns=self._columns,
            group=self._group,
            request_ids=[waiting.request_id for waiting in these],
            predictions=part.predictions,
            elapsed_ms=[(part.at - waiting.started) * 1_000 for waiting in these],
            origin=part.served.origin(self._served_by),
            created_at=datetime.now(UTC),
        )

    def _resolve(self, batch: list[Waiting], outcome: Mapping[int, Answer] | Exception, seconds: float) -> None:
        for index, waiting in enumerate(batch):
            if waiting.answer.done():  # its client has disconnected
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome[index])
        self._busy = False
        self._expected = min(len(batch) + len(self._waiting), MAX_BATCH)
        self._wait = min(seconds / 2 + len(batch) * TURNAROUND, MAX_WAIT)
        if self._waiting:
            self._schedule(asyncio.get_running_loop())


def _answers(part: Part) -> list[Answer]:
    found = part.predictions
    classes, version, variant = found.class_order, part.served.version, part.served.variant.value
    return [
        Answer(
            prediction=prediction,
            confidence=confidence,
            probabilities=dict(zip(classes, probabilities, strict=True)),
            model_version=version,
            variant=variant,
        )
        for prediction, confidence, probabilities in zip(
            found.classes, found.confidences, found.probabilities, strict=True
        )
    ]
