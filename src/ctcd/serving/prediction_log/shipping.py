"""Who empties a worker's outbox into the store: a process of its own, or a thread of the worker."""

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import Engine, make_url

from ctcd.contract.spec import Contract
from ctcd.serving import logs
from ctcd.serving.children import end_child, start_child
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.deferring import Deferring
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipper import Shipper
from ctcd.settings import Settings
from ctcd.store import prediction_log
from ctcd.store.engine import connect

logger = logging.getLogger(__name__)

STORE_SECONDS = 30
"""Longest wait for the store's answer to one statement."""
LOOK_SECONDS = 0.2
"""Pause between two looks at the outbox and at the process that empties it."""
END_SECONDS = 3.0
"""Beyond draining, how long the process may take to end."""
HURRY_SHARE = 10
"""With more than one part in so many of what the outbox may hold, shipping no longer gives way to others."""
RESTART_LOOKS = 25
"""Looks before a process that ended is started again."""


class ShippingThread:
    """A thread that ships: what a process of its own runs, and tests in theirs.

    Args:
        settings: names the store.
        contract: names the log's table.
        outbox: is emptied.
        metrics: told what happens.
    """

    def __init__(self, settings: Settings, contract: Contract, outbox: Outbox, metrics: Metrics) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._store = _Store(settings.store_url, contract, metrics)
        self._shipper = Shipper(outbox, self._store.send, records.split, batch=settings.outbox_batch, observer=metrics)
        self._depth = _Depth(outbox, metrics)

    def start(self) -> None:
        """Begin."""
        self._shipper.start()
        self._depth.start()

    def stop(self, drain_seconds: float) -> bool:
        """Ship what is left for at most so many seconds, then end; return whether the thread has ended."""
        ended = self._shipper.stop(drain_seconds)
        self._depth.stop()
        if ended:
            self._store.close()
        return ended


class ShippingProcess:
    """A process that ships, so that what it does is not taken from the time of requests; it ends with its worker.

    Args:
        settings: handed on to the process.
        contract: not needed here: the process knows its own.
        outbox: is emptied.
        metrics: told how much the outbox holds; the rest the process counts itself, in the folder of all workers.
    """

    def __init__(self, settings: Settings, contract: Contract, outbox: Outbox, metrics: Metrics) -> None:
        del contract
        self._command = [sys.executable, "-m", "ctcd.serving.prediction_log.shipping", str(outbox.path)]
        self._environment = settings.child_environment()
        self._depth = _Depth(outbox, metrics, also=self._keep_up)
        self._child: subprocess.Popen[bytes] | None = None
        self._looks_to_wait = 0

    def start(self) -> None:
        """Begin."""
        self._keep_up()
        self._depth.start()

    def stop(self, drain_seconds: float) -> bool:
        """Let the process ship what is left for at most so many seconds, then end it."""
        self._depth.stop()
        if self._child is not None:
            # It sees that its input is closed, ships what is left, and ends.
            end_child(self._child, drain_seconds + END_SECONDS)
        return True

    def _keep_up(self) -> None:
        if self._looks_to_wait:
            self._looks_to_wait -= 1
        elif self._child is None:
            self._child = start_child(self._command, self._environment)
        elif self._child.poll() is not None:
            logger.warning("the process that ships predictions ended with code %s", self._child.returncode)
            self._child, self._looks_to_wait = None, RESTART_LOOKS


class _Depth:
    """A thread that looks how much an outbox holds, because it is emptied elsewhere."""

    def __init__(self, outbox: Outbox, metrics: Metrics, also: Callable[[], None] | None = None) -> None:
        self._outbox, self._metrics, self._also = outbox, metrics, also
        self._stop = Event()
        self._thread = Thread(target=self._run, name="depth", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._metrics.depth(self._outbox.refresh())
                if self._also:
                    self._also()
            except (OSError, sqlite3.Error) as error:
                # Such as a full disk or process table: requests go on, and this is tried again.
                logger.warning("the outbox cannot be looked after now: %s", type(error).__name__)


class _Store:
    """The feature store, connected to when it is first needed: the service starts without it."""

    def __init__(self, url: str, contract: Contract, metrics: Metrics) -> None:
        self._url = _bounded(url)
        self._contract = contract
        self._metrics = metrics

    @cached_property
    def _engine(self) -> Engine:
        return connect(self._url, many_texts=True)

    def send(self, bodies: list[bytes]) -> None:
        logged = [prediction for body in bodies for prediction in records.decode(body)]
        try:
            prediction_log.append(self._engine, self._contract, logged)
        except Exception:
            self._metrics.waiting((datetime.now(UTC) - logged[0].created_at).total_seconds())
            raise
        self._metrics.waiting(0)

    def close(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()


def _bounded(url: str) -> str:
    """Return a URL with which a server that hangs is given up on, and tried again."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    seconds = str(STORE_SECONDS)
    bounded = parsed.update_query_dict({"read_timeout": seconds, "write_timeout": seconds})
    return bounded.render_as_string(hide_password=False)


def main(path: Path) -> None:
    """Ship the predictions of an outbox until standard input is closed, which happens when the worker stops or dies."""
    from ctcd.contract.instance import load_instance
    from ctcd.settings import load_settings

    settings = load_settings()
    contract = load_instance(settings.contracts).contract
    logs.configure(settings.log_level)
    outbox = Outbox.attach(path)
    metrics = Metrics(settings.metrics_folder)
    store = _Store(settings.store_url, contract, metrics)
    stopping = Event()
    most = settings.outbox_max_records // HURRY_SHARE
    send = Deferring(store.send, hurry=lambda: stopping.is_set() or outbox.refresh() > most)
    shipper = Shipper(outbox, send, records.split, batch=settings.outbox_batch, observer=metrics)
    shipper.start()
    os.read(sys.stdin.fileno(), 1)
    stopping.set()
    if not shipper.stop(settings.drain_seconds):
        os._exit(
            0
        )  # the interpreter would wait for the thread that waits for a store that hangs; what it sends stays on disk
    store.close()
    outbox.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
