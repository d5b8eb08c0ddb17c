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

FIRST_PAUSE = 0.2
"""Seconds after the outbox was emptied, so that a batch is worth a transaction, and after the first failure."""
BREATH = 0.005
"""Seconds between two batches while few predictions wait, so that requests are not slowed down for long at a stretch."""
LONGEST_PAUSE = 10.0
"""Seconds between two attempts at most, while the store is away."""
LOOK_AROUND = 30.0
"""Seconds between two looks for outboxes that dead processes left."""

TIDY_SECONDS = 5.0
"""Seconds between two times that the outbox is tidied: while that writes to the disk, commits of predictions wait for it."""

BEHIND = 20
"""Batches that wait before they grow: each is then one part in so many of what waits, ..."""
LARGEST = 40
"""... but at most so many times as large as it is usually."""

Send = Callable[[list[bytes]], None]
"""Commits the predictions of some records to the store, all or none; one that is there already is left as it is.

A `CtcdError` means that the store is away. Any other exception may be about what the records hold.
"""
Split = Callable[[bytes], list[bytes]]
"""Gives each prediction of a record as a record of its own."""


class ShipperObserver(Protocol):
    """Told what becomes of the predictions."""

    def shipped(self, records: int) -> None:
        """So many more are in the store."""

    def ship_failed(self) -> None:
        """The store did not take a batch; it will be tried again."""

    def put_aside(self, records: int) -> None:
        """So many predictions are put aside in all, because the store refuses them while it takes others."""


class Shipper:
    """A thread that empties an outbox into the store, oldest first.

    A batch is deleted after the store has committed it: killed in between, it is sent again, and the store drops the
    doubles. An outbox that a dead process left is emptied too. A prediction that the store refuses while it takes another
    one of the same batch is put aside, so that it does not keep back the others; if it takes none, the fault is taken to
    be the store's, and all of them wait.

    Args:
        outbox: the outbox of this process.
        send: commits a batch to the store.
        split: takes a record apart.
        batch: predictions in a batch; small, so that the store does not work on one for long; more when many wait.
        observer: told of every batch.
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
        self._tidied = 0.0
        # A daemon: a store that hangs does not keep the process from ending; its records stay on disk.
        self._thread = Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._observer.put_aside(self._outbox.put_aside)
        self._thread.start()

    def stop(self, drain_seconds: float) -> bool:
        """Send what is left for at most so many seconds, then end; return whether the thread has ended."""
        self._deadline = time.monotonic() + drain_seconds
        self._stop.set()
        self._thread.join(drain_seconds + 1)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        looked = 0.0
        while True:
            stopping = self._stop.wait(pause)
            try:
                self._empty(self._outbox)
                if stopping:
                    return
                if time.monotonic() - looked > LOOK_AROUND:
                    looked = time.monotonic()
                    self._adopt()
                pause = FIRST_PAUSE
            except Exception as error:  # noqa: BLE001 - whatever the store does, the records stay and are tried again
                # The text of a driver's error may hold values of a row: only its type goes to the log.
                logger.warning("the store does not take predictions, will try again: %s", type(error).__name__)
                self._observer.ship_failed()
                if time.monotonic() >= self._deadline:
                    return
                if stopping:
                    time.sleep(FIRST_PAUSE)
                    continue
                self._tidy(self._outbox)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _tidy(self, outbox: Outbox) -> None:
        self._tidied = time.monotonic()
        outbox.tidy()

    def _adopt(self) -> None:
        for outbox in Outbox.abandoned(self._folder):
            try:
                self._empty(outbox)
            finally:
                outbox.close()

    def _empty(self, outbox: Outbox) -> None:
        while rows := outbox.oldest(self._size(outbox)):
            try:
                self._send([body for _, body in rows])
            except CtcdError:
                raise
            except Exception as error:
                logger.warning("the store refuses something of a batch: %s", type(error).__name__)
                if not self._isolate(outbox, rows):
                    raise
                continue
            sent = outbox.delete(through=rows[-1][0])
            self._observer.shipped(sent)
            if time.monotonic() - self._tidied > TIDY_SECONDS:
                self._tidy(outbox)
            if sent < self._batch and not self._stop.is_set():
                return
            if outbox.depth < self._batch * BEHIND:
                self._stop.wait(BREATH)
            if time.monotonic() >= self._deadline:
                return

    def _size(self, outbox: Outbox) -> int:
        return max(self._batch, min(outbox.depth // BEHIND, self._batch * LARGEST))

    def _isolate(self, outbox: Outbox, rows: list[tuple[int, bytes]]) -> bool:
        """Send the predictions of a batch one by one, put aside those that are refused, and return whether any was taken."""
        refused: dict[int, list[tuple[bytes, str]]] = {}
        taken = 0
        for seq, record in rows:
            for body in self._split(record):
                try:
                    self._send([body])
                    taken += 1
                except CtcdError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever the store says about this one
                    refused.setdefault(seq, []).append((body, type(error).__name__))
        if not taken:
            return False
        for seq, bodies in refused.items():
            outbox.refuse(seq, bodies)
            logger.error("put aside %d predictions that the store refuses, in %s", len(bodies), outbox.path)
        self._observer.put_aside(outbox.put_aside)
        # The others are in the store.
        outbox.delete(through=rows[-1][0])
        self._observer.shipped(taken)
        return True
