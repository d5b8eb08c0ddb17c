"""Background threads: loops that are restarted when they fail, and work with a timeout."""

import logging
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread, local

logger = logging.getLogger(__name__)

RESTART_SECONDS = 5.0
"""Pause before a restart, so that work that fails at once does not use up the processor."""


class Loop:
    """A thread that repeats its work until it is stopped, even if the work raises.

    All background work of the service runs in one; no other module starts a `Thread`. The work is a function that takes
    an event and returns soon after the event is set:

        def work(stop: Event) -> None:
            while not stop.wait(CHECK_SECONDS):
                check()

        loop = Loop("follower", work, ended=metrics.restarted)
        loop.start()
        ...
        loop.stop()

    The work needs no catch-all `except`: if it raises, or returns without being stopped, that is logged and counted
    (`ctcd_restarts_total`, which has an alert), and the work is called again after `RESTART_SECONDS`. The thread is a
    daemon, so a thread that hangs does not keep its process from exiting.

    Args:
        name: name of the thread, for log and metric.
        work: the work; called again each time it ends too early.
        ended: called with the name each time the work ended too early.
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
            # Nothing may end this thread: not SystemExit, and not an error of the logger or of a metric.
            with suppress(BaseException):
                self._once()
            self._stop.wait(RESTART_SECONDS)

    def _once(self) -> None:
        try:
            self._work(self._stop)
        except BaseException:
            logger.exception("the thread %s failed and will be restarted", self.name)
        else:
            if self._stop.is_set():
                return
            logger.error("the thread %s ended and will be restarted", self.name)
        self._ended(self.name)


class TimeoutRunner:
    """Runs work in a second thread, with a timeout after which the caller continues without it.

    Each calling thread has a second one, which is kept for its next work, as starting one takes longer than to score a
    few rows. While work that timed out is still running, further work of the same calling thread is skipped, so that
    work that hangs uses up neither time nor threads. The threads are daemons, like that of a `Loop`.
    """

    def __init__(self) -> None:
        self._of_caller = local()

    def start(self, work: Callable[[], object]) -> Callable[[float], None]:
        """Start the work; return a function that waits until it has ended, for at most the given seconds.

        If earlier work is still running, this work is skipped, and the function returns at once. What the work raises is
        lost: it has to report its own failures.

        Raises:
            RuntimeError: no thread can be started.
        """
        if not hasattr(self._of_caller, "thread"):
            self._of_caller.thread = _SecondThread()
        wait: Callable[[float], None] = self._of_caller.thread.start(work)
        return wait


class _SecondThread:
    """The second thread of a caller; it ends when this object is dropped, by the end of its caller or of the runner."""

    def __init__(self) -> None:
        self._given: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._running = False
        Thread(target=_run_each, args=(self._given, self._ended), name="timeout-runner", daemon=True).start()

    def start(self, work: Callable[[], object]) -> Callable[[float], None]:
        with suppress(Empty):
            if self._running:
                self._ended.get_nowait()
            self._running = True
            self._given.put(work)
            return self._wait
        return lambda _seconds: None

    def _wait(self, seconds: float) -> None:
        with suppress(Empty):
            self._ended.get(timeout=seconds)
            self._running = False

    def __del__(self) -> None:
        self._given.put(None)


def _run_each(given: "SimpleQueue[Callable[[], object] | None]", ended: "SimpleQueue[None]") -> None:
    while work := given.get():
        with suppress(BaseException):
            work()
        del work  # it refers to rows and models
        ended.put(None)
