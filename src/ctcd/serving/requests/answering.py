"""The thread of a worker that answers the requests in the queue."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

from ctcd.contract.instance import Instance
from ctcd.errors import Unreachable, shown
from ctcd.serving.batch_predictor import BatchPredictor
from ctcd.serving.http import problems
from ctcd.serving.http.problems import Problem
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.requests.queue import MOST_ATTEMPTS, Answer, RequestQueue, Result, Taken
from ctcd.settings import Settings

if TYPE_CHECKING:
    from ctcd.serving.requests.files import Files

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Pause between two checks for requests that other workers have accepted, or whose lease has expired."""
REST_SECONDS = 5.0
"""Pause after a failure to write to the queue or the outbox."""
SHOW_SECONDS = 1.0
"""Time between two updates of the metrics while the queue is never empty."""
SWEEP_SECONDS = 30.0
"""Time between two deletions of expired answers."""


class Answering:
    """Answers the requests of a queue like `/predict_batch`, one after the other, oldest first.

    The answer is a problem document if the contract has changed since the request was accepted and now refuses it, if
    the model fails on it, or if it was taken too often. Parts of files have their turn while there are no requests, and
    while half of the outbox is free for other predictions.
    """

    def __init__(
        self,
        queue: RequestQueue,
        batches: BatchPredictor,
        outbox: Outbox,
        metrics: Metrics,
        *,
        files: "Files | None" = None,
    ) -> None:
        self.queue, self.files = queue, files
        self._batches, self._outbox, self._metrics = batches, outbox, metrics
        self._added = Event()
        self._shown = self._swept = 0.0
        self._loop = Loop("requests", self._work, ended=metrics.restarted)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Stop after the current request; the others stay on disk."""
        self._added.set()
        self._loop.stop()
        self.queue.close()
        if self.files:
            self.files.queue.close()

    def add(self, request_id: str, body: bytes) -> None:
        """Commit a request, and wake the thread up.

        Raises:
            QueueFull: the request was not accepted.
        """
        self.queue.add(request_id, body)
        self._added.set()

    def _work(self, stop: Event) -> None:
        while not stop.is_set():
            self._added.clear()
            try:
                while not stop.is_set() and self.step():
                    self._sweep(SHOW_SECONDS)
                self._sweep(0)
            except Unreachable as error:
                logger.error("requests cannot be answered now, will retry: %s", shown(error))  # noqa: TRY400 - one line
                stop.wait(REST_SECONDS)
            self._added.wait(POLL_SECONDS)

    def step(self) -> bool:
        """Answer one request, or log the answer of a worker that was killed; return whether there was one.

        Raises:
            Unreachable: queue or outbox cannot be written; the request is taken again when its lease has expired.
        """
        if not self._outbox.usable():
            return False
        if self._step(self.queue, self._score):
            return True
        files = self.files
        if files is None or not self._outbox.room_for(files.room):
            return False
        return self._step(files.queue, files.answer, files.finished)

    def _step(
        self,
        queue: RequestQueue,
        answer: Callable[[Taken], Answer],
        finished: Callable[[Taken], None] = lambda _taken: None,
    ) -> bool:
        taken = queue.take()
        if taken is None:
            return False
        if not taken.answered:
            try:
                result, records, predictions = self._answer(taken, answer)
                first = queue.finish(taken, result, records)
            except Unreachable:
                queue.give_back(taken)
                raise
            if not first:
                logger.warning("request %s took longer than its lease, and another worker was first", taken.id)
                return True
            finished(taken)
            for (prediction, version, variant), rows in predictions.items():
                self._metrics.predicted(prediction, version, variant, rows)
        if records := queue.records(taken):
            self._outbox.append([body for body, _ in records], [rows for _, rows in records])
            queue.logged(taken)
        return True

    def _answer(self, taken: Taken, answer: Callable[[Taken], Answer]) -> Answer:
        if taken.attempts > MOST_ATTEMPTS:
            logger.error("request %s is given up: %d attempts to answer it did not end", taken.id, MOST_ATTEMPTS)
            return _refusal(problems.of_status(500)), [], Counter()
        try:
            return answer(taken)
        except Unreachable:
            raise
        except Problem as problem:
            return _refusal(problem), [], Counter()
        except Exception as error:  # noqa: BLE001 - the error is the answer to this request; the next one has to be processed
            logger.error("request %s failed: %s", taken.id, shown(error))  # noqa: TRY400 - an error's text may hold values
            return _refusal(problems.of_status(500)), [], Counter()

    def _score(self, taken: Taken) -> Answer:
        started = time.perf_counter() - taken.waited
        scored, answer = self._batches.score(taken.body, request_id=taken.id, started=started)
        result = Result(status=200, body=answer.body, model_version=answer.model_version, variant=answer.variant)
        return result, list(zip(scored.records, scored.rows, strict=True)), answer.predictions

    def _sweep(self, seconds: float) -> None:
        """Update the metrics if the last update is at least `seconds` ago, and delete expired answers from time to time."""
        now = time.monotonic()
        if now - self._shown >= seconds:
            self._shown = now
            self._metrics.requests_waiting(*self.queue.waiting())
        if now - self._swept > SWEEP_SECONDS:
            self._swept = now
            self.queue.expire()
            if self.files:
                self.files.sweep()


def _refusal(problem: Problem) -> Result:
    return Result(status=problem.status, body=problem.body())


def answering(
    settings: Settings, instance: Instance, batches: BatchPredictor, outbox: Outbox, metrics: Metrics
) -> Answering:
    """Return the object that answers the requests of the queue configured in the settings, and files."""
    # Imported here, so that a service without asynchronous requests loads nothing of it.
    from ctcd.serving.requests.files import Files

    queue = RequestQueue(
        settings.requests,
        most=settings.requests_max,
        most_bytes=settings.requests_max_bytes,
        keep_seconds=settings.requests_keep_seconds,
        lease_seconds=settings.requests_lease_seconds,
    )
    return Answering(queue, batches, outbox, metrics, files=Files(settings, instance.contract, batches))
