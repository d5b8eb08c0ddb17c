"""Sends the predictions of the outbox to the store, in the background and for as long as it takes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from ctcd.errors import CtcdError
from ctcd.serving.prediction_log.outbox import Outbox

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Pause after the outbox was emptied, so that a batch is worth a transaction; also the pause after the first failure."""
BATCH_PAUSE = 0.005
"""Pause between two batches while few predictions wait, so that requests are not slowed down for long, seconds."""
MAX_BACKOFF = 10.0
"""Longest pause between two attempts while the store is unreachable, seconds."""
ADOPT_SECONDS = 30.0
"""Time between two searches for outboxes that dead processes left."""
CHECKPOINT_SECONDS = 5.0
"""Time between two checkpoints of the outbox: while one writes to the disk, commits of predictions wait for it."""
BACKLOG_BATCHES = 20
"""With more batches than this waiting, batches grow, to this fraction of the backlog each ..."""
MAX_GROWTH = 40
"""... but to no more than this multiple of their usual size."""

Send = Callable[[list[bytes]], None]
"""Commits the predictions of some records to the store, all or none; one that the store has already is left unchanged.

A `CtcdError` means that the store is unreachable. Any other exception may be due to the content of the records.
"""
Split = Callable[[bytes], list[bytes]]
"""Returns each prediction of a record as a record of its own."""


class ShipperObserver(Protocol):
    """Is notified of what happens to the predictions."""

    def shipped(self, predictions: int) -> None:
        """So many more predictions are in the store."""

    def ship_failed(self) -> None:
        """The store did not accept a batch; it will be retried."""

    def dead_lettered(self, predictions: int) -> None:
        """So many predictions are dead letters in total: the store refuses them while it accepts others."""


class Shipper:
    """A thread that empties an outbox into the store, oldest first.

    A batch is deleted after the store has committed it: if the process is killed in between, it is sent again, and the
    store drops the duplicates. Outboxes that dead processes left are emptied too. A prediction that the store refuses
    while it accepts another one of the same batch becomes a dead letter, so that it does not block the others; if the
    store accepts none, the fault is taken to be the store's, and all of them wait.

    Args:
        outbox: the outbox of this process.
        send: commits a batch to the store.
        split: splits a record.
        batch: predictions in a batch; small, so that the store is never busy with one for long. A backlog makes it grow.
        observer: is notified of every batch.
    """

    def __init__(self, outbox: Outbox, send: Send, split: Split, *, batch: int, observer: ShipperObserver) -> None:
        self._outbox = outbox
        self._send = send
        self._split = split
        self._batch = batch
        self._observer = observer
        self._folder: Path = outbox.path.parent
        self._stop = Event()
        self._deadline = float("inf")
        self._checkpointed = 0.0
        # A daemon: a store that hangs does not keep the process from ending; its records stay on disk.
        self._thread = Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._observer.dead_lettered(self._outbox.dead_letters)
        self._thread.start()

    def stop(self, drain_seconds: float) -> bool:
        """Send what is left for up to `drain_seconds`, then end; return whether the thread has ended."""
        self._deadline = time.monotonic() + drain_seconds
        self._stop.set()
        self._thread.join(drain_seconds + 1)
        return not self._thread.is_alive()

    def _run(self) -> None:
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
                pause = POLL_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever the store does, the records stay and are retried
                # The text of a driver's error may contain values of a row: only its type is logged.
                logger.warning("the store does not accept predictions, will retry: %s", type(error).__name__)
                self._observer.ship_failed()
                if time.monotonic() >= self._deadline:
                    return
                if stopping:
                    time.sleep(POLL_SECONDS)
                    continue
                self._checkpoint(self._outbox)
                pause = min(pause * 2, MAX_BACKOFF)

    def _checkpoint(self, outbox: Outbox) -> None:
        self._checkpointed = time.monotonic()
        outbox.checkpoint()

    def _ship_abandoned(self) -> None:
        for outbox in Outbox.abandoned(self._folder):
            try:
                self._ship(outbox)
            finally:
                outbox.close()

    def _ship(self, outbox: Outbox) -> None:
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
            self._observer.shipped(sent)
            if time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
                self._checkpoint(outbox)
            if sent < self._batch and not self._stop.is_set():
                return
            if outbox.depth < self._batch * BACKLOG_BATCHES:
                self._stop.wait(BATCH_PAUSE)
            if time.monotonic() >= self._deadline:
                return

    def _size(self, outbox: Outbox) -> int:
        return max(self._batch, min(outbox.depth // BACKLOG_BATCHES, self._batch * MAX_GROWTH))

    def _isolate(self, outbox: Outbox, rows: list[tuple[int, bytes]]) -> bool:
        """Send the predictions of a batch one by one, dead-letter the refused ones, and return whether any was accepted."""
        refused: dict[int, list[tuple[bytes, str]]] = {}
        accepted = 0
        for seq, record in rows:
            for body in self._split(record):
                try:
                    self._send([body])
                    accepted += 1
                except CtcdError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever the store says about this one
                    refused.setdefault(seq, []).append((body, type(error).__name__))
        if not accepted:
            return False
        for seq, bodies in refused.items():
            outbox.dead_letter(seq, bodies)
            logger.error("dead-lettered %d predictions that the store refuses, in %s", len(bodies), outbox.path)
        self._observer.dead_lettered(outbox.dead_letters)
        # The others are in the store.
        outbox.delete(through=rows[-1][0])
        self._observer.shipped(accepted)
        return True
