"""Threads: those that must live as long as their process, and those that are left behind."""

import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread, local

logger = logging.getLogger(__name__)

RESTART_SECONDS = 5.0
"""Pause before what ended is started again, so that what cannot run does not use up the machine."""


class Loop:
    """A thread whose work goes on until it is stopped, whatever it raises.

    Everything in the service that must not end runs in one; no other module starts a `Thread`. The work is a function that
    gets an event, and returns soon after that is set:

        def work(stop: Event) -> None:
            while not stop.wait(CHECK_SECONDS):
                check()

        loop = Loop("follower", work, ended=metrics.restarted)
        loop.start()
        ...
        loop.stop()

    It needs no `except` of its own for what it cannot handle: if it raises anything, or returns although nobody stopped it,
    that is logged and counted (`ctcd_restarts_total`, which has an alert), and it is called again after `RESTART_SECONDS`.
    The thread is a daemon, so that one that hangs does not keep its process from ending.

    Args:
        name: name of the thread, for log and metric.
        work: the work; may be called several times, one after the other.
        ended: called with the name each time it ended too early.
    """

    def __init__(self, name: str, work: Callable[[Event], None], *, ended: Callable[[str], None]) -> None:
        self.name = name
        self._work, self._ended = work, ended
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> bool:
        """Ask the work to return and wait for that, at most `seconds` if given; return whether the thread has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            # Not even what ends a process, such as SystemExit, may end this thread, nor a log or a metric that fails.
            with suppress(BaseException):
                self._once()
            self._stop.wait(RESTART_SECONDS)

    def _once(self) -> None:
        try:
            self._work(self._stop)
        except BaseException:
            logger.exception("the thread %s failed and is started again", self.name)
        else:
            if self._stop.is_set():
                return
            logger.error("the thread %s ended and is started again", self.name)
        self._ended(self.name)


class Aside:
    """Runs work in a thread of its own, which the caller leaves behind if it takes too long.

    Until that thread has ended, no more work of the same caller (the thread that calls) is begun, so that work that hangs
    uses up neither time nor threads. It is a daemon, as that of a `Loop` is.
    """

    def __init__(self) -> None:
        self._last = local()

    def run(self, work: Callable[[], object], seconds: float) -> None:
        """Run the work, and return when it has ended, or after some seconds, or at once while the work before goes on.

        Raises:
            RuntimeError: no thread can be started.
        """
        ended = getattr(self._last, "ended", None)
        if ended is not None and not ended.is_set():
            return
        ended = Event()

        def run() -> None:
            try:
                work()
            finally:
                ended.set()

        Thread(target=run, name="aside", daemon=True).start()
        self._last.ended = ended
        ended.wait(seconds)
