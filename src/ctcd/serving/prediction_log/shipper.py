"""Sends the predictions of the outbox to the store, in the background and for as long as it takes."""

import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from ctcd.errors import CtcdError, number_of, shown
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.prediction_log.outbox_files import DeadLetter, damaged, moved_aside
from ctcd.serving.prediction_log.records import Unreadable
from ctcd.store.prediction_log import TooLarge

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Pause after the outbox was emptied, so that batches are not too small; also the pause after the first failure."""
BATCH_PAUSE = 0.005
"""Pause in seconds between two batches while few predictions are pending, so that requests are not slowed down."""
MAX_BACKOFF = 10.0
"""Maximum pause between two attempts while the store is unreachable, seconds."""
ADOPT_SECONDS = 30.0
"""Time between two searches for outboxes that dead processes left."""
CHECKPOINT_SECONDS = 5.0
"""Time between two checkpoints of the outbox: while one writes to the disk, commits of predictions wait for it."""
RETRY_SECONDS = 30.0
"""Pause before dead letters are sent again; it doubles while the store accepts none of them ..."""
MAX_RETRY_SECONDS = 900.0
"""... up to this."""
RETRY_LETTERS = 100
"""Dead letters that are retried between two checks of the outbox."""
BACKLOG_BATCHES = 20
"""With a backlog of more batches than this, batches grow to this fraction of the backlog ..."""
MAX_GROWTH = 40
"""... but to no more than this multiple of their usual size."""
REFUSED = "refused by the store"
"""Prefix of the reason of a dead letter that the store may accept later."""

Send = Callable[[list[bytes]], None]
"""Commits the predictions of some records to the store, all or none; one that the store has already is left unchanged.

A `CtcdError` means that the store is unreachable. Any other exception may be due to the content of the records.
"""


class Shipper:
    """A thread that empties an outbox into the store, oldest first.

    A batch is deleted after the store has committed it: if the process is killed in between, it is sent again, and the
    store drops the duplicates. Outboxes that dead processes left are emptied too.

    What cannot be sent does not hold up the rest: a record that cannot be read, and a prediction that the store refuses
    while it accepts another one of the same batch, become dead letters. They are sent again from time to time, because
    the cause may be gone. If the store accepts none, the fault is taken to be the store's, and all of them wait.

    Args:
        batch: predictions in a batch: few, so that the store is never busy with one for long. A backlog makes it grow.
        damaged: called when the outbox is found to be damaged, or not in its place; default: the outbox is renewed.
    """

    def __init__(
        self, outbox: Outbox, send: Send, *, batch: int, metrics: Metrics, damaged: Callable[[], None] | None = None
    ) -> None:
        self._damaged = damaged or outbox.check
        self._outbox = outbox
        self._send = send
        self._batch = batch
        self._metrics = metrics
        self._folder: Path = outbox.path.parent
        self._stop = Event()
        self._deadline = float("inf")
        self._checkpointed = 0.0
        self._accepted_at = time.monotonic()
        self._retries = _Retries()
        # A store that hangs does not keep the process from ending; its records stay on disk.
        self._loop = Loop("shipper", self._run, ended=metrics.restarted)

    def start(self) -> None:
        """Start the thread."""
        self._count_faults()
        self._loop.start()

    def stop(self, drain_seconds: float) -> bool:
        """Send what is left for up to `drain_seconds`, then end; return whether the thread has ended."""
        self._deadline = time.monotonic() + drain_seconds
        return self._loop.stop(drain_seconds + 1)

    def _run(self, stop: Event) -> None:
        self._stop = stop
        pause = POLL_SECONDS
        searched = 0.0
        while True:
            stopping = self._stop.wait(pause)
            try:
                self._ship(self._outbox)
                if stopping:
                    return
                if time.monotonic() - searched > ADOPT_SECONDS:
                    searched = time.monotonic()
                    self._ship_abandoned()
                    self._count_faults()
                self._retry_dead_letters()
                pause = POLL_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever the store does, the records stay and are retried
                if isinstance(error, OutboxFull | sqlite3.Error) or damaged(error):
                    logger.error("the outbox cannot be emptied, will retry: %s", shown(error))  # noqa: TRY400 - one line
                    if damaged(error):
                        self._renew()
                else:
                    # The text of a driver's error may contain values of a row: only its type is logged.
                    logger.warning("the store does not accept predictions, will retry: %s", type(error).__name__)
                    self._metrics.ship_failed()
                self._metrics.waiting(self._age())
                if time.monotonic() >= self._deadline:
                    return
                if stopping:
                    time.sleep(POLL_SECONDS)
                    continue
                self._checkpoint(self._outbox)
                pause = min(pause * 2, MAX_BACKOFF)

    def _renew(self) -> None:
        try:
            self._damaged()
        except OutboxFull as error:
            logger.error("%s", error)  # noqa: TRY400 - one line

    def _count_faults(self) -> None:
        self._metrics.dead_lettered(self._outbox.dead_letters)
        self._metrics.moved_aside(len(moved_aside(self._folder)))

    def _age(self) -> float:
        """Return how long the oldest prediction has been waiting, seconds, also if it cannot be read or the clock was set back."""
        # The time since something was accepted, by a clock that nobody sets; or longer, if the process is younger.
        ages = [time.monotonic() - self._accepted_at]
        try:
            oldest = self._outbox.oldest(self._batch)
        except sqlite3.Error:
            oldest = []
        for _, body in oldest:
            try:
                ages += [(datetime.now(UTC) - each.created_at).total_seconds() for each in records.decode(body)[:1]]
            except Unreadable:
                continue
            break
        return max(ages)

    def _checkpoint(self, outbox: Outbox) -> None:
        self._checkpointed = time.monotonic()
        outbox.checkpoint()

    def _ship_abandoned(self) -> None:
        for left in Outbox.abandoned(self._folder):
            try:
                self._ship(left)
                while letters := left.letters():
                    self._outbox.keep(letters)
                    left.forget(letters)
            except CtcdError as error:
                if not isinstance(error, OutboxFull):
                    raise
                logger.error("%s", error)  # noqa: TRY400 - has no values
            except Exception as error:  # noqa: BLE001 - the others may be in order
                logger.error(  # noqa: TRY400 - as in _run
                    "%s cannot be emptied, will retry: %s", left.path, type(error).__name__
                )
            finally:
                left.close()

    def _ship(self, outbox: Outbox) -> None:
        """Send what waits, until the time to drain is over."""
        while rows := outbox.oldest(self._size(outbox)):
            try:
                self._send([body for _, body in rows])
            except CtcdError:
                raise
            except Exception as error:
                logger.warning("the store refuses something in a batch: %s", type(error).__name__)
                if not self._isolate(outbox, rows):
                    raise
                continue
            sent = outbox.delete(through=rows[-1][0])
            self._accepted(sent)
            if time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
                self._checkpoint(outbox)
            if sent < self._batch and not self._stop.is_set():
                break
            if outbox.depth < self._batch * BACKLOG_BATCHES:
                self._stop.wait(BATCH_PAUSE)
            if time.monotonic() >= self._deadline:
                break
        if not rows:
            self._accepted_at = time.monotonic()
        outbox.settle()

    def _accepted(self, predictions: int) -> None:
        self._accepted_at = time.monotonic()
        self._metrics.shipped(predictions)
        self._metrics.waiting(0)

    def _size(self, outbox: Outbox) -> int:
        return max(self._batch, min(outbox.depth // BACKLOG_BATCHES, self._batch * MAX_GROWTH))

    def _isolate(self, outbox: Outbox, rows: list[tuple[int, bytes]]) -> bool:
        """Send the predictions of a batch one by one, dead-letter what cannot be sent, and return whether that let any pass."""
        dead: list[DeadLetter] = []
        letters: list[DeadLetter] = []
        for seq, record in rows:
            try:
                letters += [DeadLetter(seq, body, "") for body in records.split(record)]
            except Unreadable as error:
                dead.append(DeadLetter(seq, record, f"unreadable: {error}"))
        accepted, left = resend(letters, self._send)
        refused = [each for each in left if each.reason.startswith(REFUSED)]
        if refused and not accepted:
            return False
        dead += [each for each in left if each not in refused]
        outbox.delete(rows[-1][0], [*dead, *refused])
        logger.error(
            "dead-lettered %d unreadable or too large, and %d that the store refuses, in %s",
            len(dead),
            len(refused),
            outbox.path,
        )
        self._metrics.dead_lettered(self._outbox.dead_letters)
        self._accepted(len(accepted))
        return True

    def _retry_dead_letters(self) -> None:
        """Send some of the dead letters again, if it is time to."""
        retries = self._retries
        if time.monotonic() < retries.due:
            return
        letters = self._outbox.letters(retries.after, RETRY_LETTERS)
        sent, _ = resend(letters, self._send)
        if sent:
            # If the disk does not accept this, they will be sent once more, which is harmless.
            self._outbox.forget(sent)
            self._metrics.shipped(len(sent))
            self._metrics.dead_lettered(self._outbox.dead_letters)
            logger.info("the store has accepted %s", number_of(len(sent), "dead letter"))
        retries.proceed(letters, accepted=bool(sent))


class _Retries:
    """Which dead letters are sent again next, and when."""

    def __init__(self) -> None:
        self.due = 0.0
        self.after = 0
        self._pause = RETRY_SECONDS
        self._accepted = False

    def proceed(self, letters: list[DeadLetter], *, accepted: bool) -> None:
        """Go on to the next letters, or, after the last one, to the next round."""
        self._accepted |= accepted
        if len(letters) == RETRY_LETTERS:
            self.after = letters[-1].seq
            return
        if self._accepted or not (letters or self.after):
            self._pause = RETRY_SECONDS
        self.due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, MAX_RETRY_SECONDS)
        self.after, self._accepted = 0, False


def resend(letters: list[DeadLetter], send: Send) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """Send dead letters again, one by one; return those that the store has now, and the others with their reasons.

    Raises:
        CtcdError: the store is unreachable.
    """
    sent, left = [], []
    for letter in letters:
        try:
            send([letter.body])
            sent.append(letter)
        except TooLarge as error:
            left.append(letter._replace(reason=str(error)))
        except Unreadable as error:
            left.append(letter._replace(reason=f"unreadable: {error}"))
        except CtcdError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the store says about this one
            left.append(letter._replace(reason=f"{REFUSED}: {type(error).__name__}"))
    return sent, left
