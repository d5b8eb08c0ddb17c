"""The challenger as a shadow: it scores logged requests again, and its answers are logged but not returned.

It runs where predictions are shipped, on rows that the store has accepted: it adds nothing to the request path, and
shipping does not wait for it.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from math import isfinite
from pathlib import Path
from threading import Event
from typing import Literal

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Mode, Variant, chosen
from ctcd.model.scorer import Predictions
from ctcd.serving.champion.challenger import ChallengerFollower, Running
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log.idle import lower_priority
from ctcd.serving.traffic import PATIENCE
from ctcd.store.prediction_log import LoggedPrediction, shadow_id

logger = logging.getLogger(__name__)

WAITING_ROWS = 10_000
"""Rows that may be queued; further rows are dropped and counted."""
BATCH_ROWS = 128
CHECK_SECONDS = 0.2
"""Pause between two checks of the experiment and of the queued rows."""
END_SECONDS = 1.0
"""Timeout for a batch in progress when the thread is stopped."""

Append = Callable[[Sequence[LoggedPrediction]], None]


class Shadow:
    """A thread at idle priority that scores a share of the requests that the champion has answered.

    Either all rows of a request are chosen or none. Each has its `shadow_id`, so a row shipped twice is logged once.

    Args:
        home: folder of the models that the poller fetches.
        append: writes rows to the log.
    """

    def __init__(self, home: Path, contract: Contract, append: Append, metrics: Metrics) -> None:
        self._contract, self._append, self._metrics = contract, append, metrics
        self._waiting: deque[LoggedPrediction] = deque()
        self._running: Running | None = None
        # The workers count refusals.
        self._challenger = ChallengerFollower(home, contract, metrics=Metrics(), change=self._to, modes=(Mode.SHADOW,))
        self._loop = Loop("shadow", self._run, ended=metrics.restarted)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Stop the thread; rows that are still queued are dropped."""
        self._loop.stop(END_SECONDS)
        self._drop(len(self._waiting))

    def offer(self, logged: Sequence[LoggedPrediction]) -> None:
        """Queue the chosen ones of the rows that the store has accepted; does not block."""
        running = self._running
        if running is None:
            return
        experiment = running.experiment
        rows = [
            row
            for row in logged
            if row.variant == Variant.CHAMPION
            and row.created_at >= experiment.begins
            and chosen(experiment.id, row.request_id[:32], experiment.share)
        ]
        room = max(0, WAITING_ROWS - len(self._waiting))
        self._waiting.extend(rows[:room])
        self._drop(len(rows) - len(rows[:room]))

    def _to(self, running: Running | None) -> None:
        self._running = running

    def _drop(self, rows: int) -> None:
        if rows:
            self._metrics.shadowed("dropped", rows)

    def _run(self, stop: Event) -> None:
        lower_priority()
        # Rows may come faster than the challenger scores them; its end is noticed even then, after each batch.
        while not stop.wait(0 if self._waiting else CHECK_SECONDS):
            self._challenger.check()
            rows = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_ROWS))]
            if rows and self._running:
                self._log(rows, self._running)

    def _log(self, rows: Sequence[LoggedPrediction], running: Running) -> None:
        """Score rows and log the answers, or of a row that cannot be scored that the challenger failed."""
        outcome: Literal["logged", "failed", "dropped"] = "logged"
        try:
            answers = _answers(rows, running)
        except BaseException as error:  # noqa: BLE001 - a challenger may raise anything
            if len(rows) > 1:  # bisect, to find the row that fails
                middle = len(rows) // 2
                self._log(rows[:middle], running)
                self._log(rows[middle:], running)
                return
            # The text of an error may contain values of a row.
            logger.warning("the challenger cannot score a row in the shadow: %s", type(error).__name__)
            outcome, answers = "failed", [_failure(rows[0])]
        try:
            self._append(answers)
        except Exception as error:  # noqa: BLE001 - whatever the store has, it is no failure of the challenger
            logger.warning("rows of the shadow are not logged: %s", type(error).__name__)
            outcome = "dropped"
        self._metrics.shadowed(outcome, len(answers))


def _answers(rows: Sequence[LoggedPrediction], running: Running) -> list[LoggedPrediction]:
    """Return the challenger's answers to rows.

    Raises:
        TimeoutError: even one row at a time, they would time out in a canary. Only processor time counts, as the thread
            may be suspended for long.
        ValueError: a probability is not finite.
        Exception: whatever the challenger raises.
    """
    began, cpu = time.perf_counter(), time.thread_time()
    found = running.served.scorer.predict([row.features for row in rows])
    seconds = time.perf_counter() - began
    if time.thread_time() - cpu > PATIENCE * len(rows):
        raise TimeoutError
    if not all(map(isfinite, chain.from_iterable(found.probabilities))):
        raise ValueError("a probability is not finite")
    return [_answer(row, found, place, running, seconds) for place, row in enumerate(rows)]


def _failure(row: LoggedPrediction) -> LoggedPrediction:
    """Return the row of the log that says that the challenger failed; as a `FALLBACK`, it has the champion's answer."""
    return replace(row, request_id=shadow_id(row.request_id), variant=Variant.SHADOW_FAILED)


def _answer(
    row: LoggedPrediction, found: Predictions, place: int, running: Running, seconds: float
) -> LoggedPrediction:
    """Return the challenger's answer to a row as a row of the log; its time is that of the batch."""
    origin = running.served.origin(row.served_by)
    return replace(
        row,
        **{**vars(origin), "variant": Variant.SHADOW},
        request_id=shadow_id(row.request_id),
        prediction=found.classes[place],
        confidence=found.confidences[place],
        probabilities=dict(zip(found.class_order, found.probabilities[place], strict=True)),
        elapsed_ms=seconds * 1_000,
    )
