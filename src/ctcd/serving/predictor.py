"""Scores requests and puts the predictions on disk, many at a time."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from ctcd.contract.spec import Contract, names
from ctcd.model.served import Served
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull

MAX_BATCH = 128
LONGEST_PATIENCE = 0.005
"""Seconds that a request waits at most for others to come along."""
HAND_OUT = 0.0001
"""About the seconds in which an answer is handed out and the next request of its client taken in."""


@dataclass(kw_only=True, slots=True)
class Answer:
    """What is known about one row after it was scored and logged."""

    prediction: str
    confidence: float
    probabilities: dict[str, float]
    model_version: str


@dataclass(frozen=True)
class Waiting:
    """A row that waits for its answer."""

    row: Mapping[str, Any]
    request_id: str
    started: float
    answer: asyncio.Future[Answer]


class Predictor:
    """Answers a request after its prediction is committed to the outbox.

    All that waits is scored with one call and committed with one transaction, in a thread of its own; meanwhile the next
    requests gather. So a batch is as large as the load makes it. When a batch is done, the next one begins as soon as as
    many requests wait as there were under way, but at the latest after half the time that the last one took and the time
    to hand out its answers: that halves the number of commits, and a lone request waits for nobody.

    Args:
        served: the model to begin with.
        outbox: where predictions are committed.
        contract: names the features and the group.
        on_batch: called in the thread after each commit, with the number of rows.
    """

    def __init__(self, served: Served, outbox: Outbox, contract: Contract, *, on_batch: Callable[[int], None]) -> None:
        self.served = served
        """Scores the next batch; may be replaced at any time, a batch that is under way keeps its own."""
        self._outbox = outbox
        self._group = contract.group.name
        self._columns = (self._group, *names(contract.model_inputs))
        self._values = itemgetter(*self._columns)
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predictor")
        self._waiting: list[Waiting] = []
        self._busy = False
        self._expected = 1
        self._patience = 0.0
        self._timer: asyncio.Handle | None = None

    async def predict(self, row: Mapping[str, Any], *, request_id: str, started: float) -> Answer:
        """Score a row that keeps the payload contract.

        Args:
            row: group and features by name.
            request_id: identifies the answer in the prediction log.
            started: when the request came in, as `time.perf_counter` gives it.

        Raises:
            OutboxFull: the prediction cannot be logged, so it is not given.
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
            self._expected = MAX_BATCH + 1  # once is enough
            # Not at once: requests that the loop has already read come along.
            self._timer = loop.call_soon(self._next)
        elif self._timer is None:
            self._timer = loop.call_later(self._patience, self._next)

    def close(self) -> None:
        """End the thread after the batch that it works on."""
        self._thread.shutdown()

    def _next(self) -> None:
        self._timer = None
        if self._busy or not self._waiting:
            return
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        self._busy = True
        loop = asyncio.get_running_loop()
        self._thread.submit(self._work, batch, self.served, loop)

    def _work(self, batch: list[Waiting], served: Served, loop: asyncio.AbstractEventLoop) -> None:
        outcome: Sequence[Answer] | Exception
        began = time.perf_counter()
        try:
            outcome = self._score_and_log(batch, served)
        except Exception as error:  # noqa: BLE001 - it is raised again in each request of the batch
            outcome = error
        loop.call_soon_threadsafe(self._resolve, batch, outcome, time.perf_counter() - began)

    def _score_and_log(self, batch: list[Waiting], served: Served) -> list[Answer]:
        predictions = served.scorer.predict([waiting.row for waiting in batch])
        clock = time.perf_counter()
        # One record for all of them: less to write than one for each, and it is what everybody waits for.
        record = records.encode(
            [self._values(waiting.row) for waiting in batch],
            columns=self._columns,
            group=self._group,
            request_ids=[waiting.request_id for waiting in batch],
            predictions=predictions.classes,
            confidences=predictions.confidences,
            elapsed_ms=[(clock - waiting.started) * 1_000 for waiting in batch],
            model_version=served.version,
            created_at=datetime.now(UTC),
        )
        self._outbox.append([record], [len(batch)])
        self._on_batch(len(batch))
        classes, version = predictions.class_order, served.version
        return [
            Answer(
                prediction=prediction,
                confidence=confidence,
                probabilities=dict(zip(classes, probabilities, strict=True)),
                model_version=version,
            )
            for prediction, confidence, probabilities in zip(
                predictions.classes, predictions.confidences, predictions.probabilities, strict=True
            )
        ]

    def _resolve(self, batch: list[Waiting], outcome: Sequence[Answer] | Exception, seconds: float) -> None:
        for index, waiting in enumerate(batch):
            if waiting.answer.done():  # its client gave up
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome[index])
        self._busy = False
        self._expected = min(len(batch) + len(self._waiting), MAX_BATCH)
        self._patience = min(seconds / 2 + len(batch) * HAND_OUT, LONGEST_PATIENCE)
        if self._waiting:
            self._schedule(asyncio.get_running_loop())
