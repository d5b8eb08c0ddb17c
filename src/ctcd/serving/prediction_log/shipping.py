"""Ships a worker's outbox to the store: in a child process, or in a thread of the worker."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Event

from sqlalchemy import Engine, make_url

from ctcd.contract.instance import Instance
from ctcd.contract.spec import Contract
from ctcd.errors import show_only_our_messages
from ctcd.serving import logs
from ctcd.serving.children import Child
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.idle import IdleSender
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipper import Shipper
from ctcd.settings import ModelSource, Settings
from ctcd.store import prediction_log
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction

STORE_SECONDS = 30
"""Timeout of a statement of the store."""
CHECK_SECONDS = 0.2
"""Pause between two checks of the outbox's depth and of the shipping process."""
END_SECONDS = 3.0
"""Time for the shipping process to end, in addition to draining."""
URGENT_SHARE = 10
"""If the outbox is filled to more than 1 / `URGENT_SHARE`, shipping no longer runs at idle priority."""


class ShippingThread:
    """Ships in a thread of this process, whose metrics then count what is shipped."""

    def __init__(self, settings: Settings, instance: Instance, outbox: Outbox, metrics: Metrics) -> None:
        self._store = Store(settings.store_url, instance.contract)
        self._end_shadow = begin_shadow(settings, instance, self._store, metrics)
        self._shipper = Shipper(outbox, self._store.send, batch=settings.outbox_batch, metrics=metrics)
        self._monitor = _depth_monitor(outbox, metrics)

    def start(self) -> None:
        """Start shipping."""
        self._shipper.start()
        self._monitor.start()

    def stop(self, drain_seconds: float) -> bool:
        """Ship what is left for up to `drain_seconds`, then end; return whether the thread has ended."""
        ended = self._shipper.stop(drain_seconds)
        self._monitor.stop()
        self._end_shadow()
        if ended:
            self._store.close()
        return ended


class ShippingProcess:
    """Ships in a child process, so that shipping takes no time from requests; it ends with its worker.

    Args:
        instance: not used: the process loads its own.
        metrics: records the depth of the outbox; the process counts the rest, in the folder that all workers share.
    """

    def __init__(self, settings: Settings, instance: Instance, outbox: Outbox, metrics: Metrics) -> None:
        del instance
        command = [sys.executable, "-m", "ctcd.serving.prediction_log.shipping", str(outbox.path)]
        self._child = Child(
            command, settings.child_environment(), name="the process that ships predictions", ended=self._ended
        )
        self._outbox, self._metrics = outbox, metrics
        self._monitor = _depth_monitor(outbox, metrics, also=self._child.keep_running)

    def start(self) -> None:
        """Start the process."""
        self._child.keep_running()
        self._monitor.start()

    def stop(self, drain_seconds: float) -> bool:
        """Let the process ship what is left for up to `drain_seconds`, then end it; return True."""
        self._monitor.stop()
        # The process notices that its input is closed, ships what is left, and ends.
        self._child.end(drain_seconds + END_SECONDS)
        return True

    def _ended(self) -> None:
        self._metrics.restarted("shipping")
        self._outbox.check()  # if it is damaged, the process has ended, and is restarted with a new one


def _depth_monitor(outbox: Outbox, metrics: Metrics, also: Callable[[], None] = lambda: None) -> Loop:
    """Return a thread that records the depth of an outbox, which another thread or process empties."""

    def work(stop: Event) -> None:
        while not stop.wait(CHECK_SECONDS):
            also()
            metrics.depth(outbox.refresh())

    return Loop("outbox-depth", work, ended=metrics.restarted)


class Store:
    """The feature store; connected to on first use, so that the service starts without it."""

    def __init__(self, url: str, contract: Contract) -> None:
        self._url = _with_timeouts(url)
        self._contract = contract
        self.accepted: Callable[[Sequence[LoggedPrediction]], None] = lambda _logged: None
        """Called with the predictions that `send` has written."""

    @cached_property
    def _engine(self) -> Engine:
        return connect(self._url, shipping=True)

    def send(self, bodies: list[bytes]) -> None:
        """Write the predictions of some records to the log; see `shipper.Send`."""
        logged = [prediction for body in bodies for prediction in records.decode(body)]
        self.append(logged)
        self.accepted(logged)

    def append(self, logged: Sequence[LoggedPrediction]) -> None:
        """Write predictions to the log; see `prediction_log.append`."""
        prediction_log.append(self._engine, self._contract, logged)

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()


def begin_shadow(settings: Settings, instance: Instance, store: Store, metrics: Metrics) -> Callable[[], None]:
    """Start a shadow for the predictions that the store accepts, if there may be one; return the function that stops it."""
    if settings.model_source is not ModelSource.REGISTRY or instance.traffic is None or instance.traffic.shadow is None:
        return lambda: None
    # Imported here, because it imports everything that a model needs.
    from ctcd.serving.prediction_log.shadow import Shadow

    shadow = Shadow(settings.champions, instance.contract, store.append, metrics)
    store.accepted = shadow.offer
    shadow.start()
    return shadow.stop


def _with_timeouts(url: str) -> str:
    """Return a URL with timeouts, so that a server that hangs is retried."""
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

    show_only_our_messages()
    settings = load_settings()
    instance = load_instance(settings.contracts)
    logs.configure(settings.log_level)
    outbox = Outbox.attach(path)
    metrics = Metrics(settings.metrics_folder)
    store = Store(settings.store_url, instance.contract)
    end_shadow = begin_shadow(settings, instance, store, metrics)
    stopping = Event()
    most = settings.outbox_max_records // URGENT_SHARE
    send = IdleSender(store.send, urgent=lambda: stopping.is_set() or outbox.refresh() > most)
    shipper = Shipper(
        outbox,
        send,
        batch=settings.outbox_batch,
        metrics=metrics,
        # Only the worker may open a new outbox: it checks this one when this process has ended.
        damaged=lambda: os._exit(1),
    )
    shipper.start()
    os.read(sys.stdin.fileno(), 1)
    stopping.set()
    if shipper.stop(settings.drain_seconds):
        end_shadow()
        store.close()
        outbox.close()
    # A normal exit would wait for threads that hang: ours with the store, whose predictions stay on disk, and those that
    # a challenger has started.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
