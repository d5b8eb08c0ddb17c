"""Child processes that run as long as their worker, and workers that end with their supervisor."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event

from ctcd.serving.loops import RESTART_SECONDS

logger = logging.getLogger(__name__)

PARENT_SECONDS = 0.25
"""Pause between two checks for the supervisor."""
_LEFT_TO_THE_WORKER = (signal.SIGTERM, signal.SIGINT)


class Child:
    """A process that ends once its standard input is closed, which also happens when the worker dies.

    `ended` is called each time it ended without being stopped.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, name: str, ended: Callable[[], None]
    ) -> None:
        self._command, self._environment, self._name, self._ended = command, environment, name, ended
        self._start_after = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        """The process; None before it is started and until it is restarted."""

    def keep_running(self) -> None:
        """Start the process if it does not run; called regularly, as one that ended is started again after a pause.

        Raises:
            OSError: the system cannot start a process.
        """
        if self.process is not None and self.process.poll() is not None:
            logger.warning("%s ended with code %s and will be restarted", self._name, self.process.returncode)
            self.end(0)
            self._start_after = time.monotonic() + RESTART_SECONDS
            self._ended()
        if self.process is None and time.monotonic() >= self._start_after:
            self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        # Ctrl-C at a terminal and BentoML's supervisor signal every process of the service. Children must outlive that
        # to finish the worker's business, so these signals are blocked from their first instruction on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_WORKER)
        try:
            return subprocess.Popen(self._command, env=self._environment, stdin=subprocess.PIPE)  # noqa: S603 - our own command
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self, seconds: float) -> None:
        """Close the process's standard input, wait for it for up to `seconds`, then kill it."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_without(supervisor: int, seconds: float, stop: Event) -> None:
    """Wait until `stop` is set, because this process shuts down, or until its supervisor is gone.

    In the second case, shut this process down as SIGTERM does; it has `seconds` to finish requests.
    """
    while os.getppid() == supervisor:
        if stop.wait(PARENT_SECONDS):
            return
    logger.error("the supervisor of this worker is gone, so it shuts down")
    os.kill(os.getpid(), signal.SIGTERM)
    if not stop.wait(seconds):
        os._exit(1)
