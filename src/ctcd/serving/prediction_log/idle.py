"""Sending at idle priority, which uses the processor only while nothing else needs it."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

from ctcd.serving.prediction_log.shipper import Send

IDLE_SECONDS = 10.0
"""Timeout of a batch at idle priority, after which it is sent again with the caller's priority."""
BUSY_SECONDS = 60.0
"""Time after such a timeout in which nothing is sent at idle priority, because the machine is too busy."""


class IdleSender:
    """Sends in a thread with the scheduling policy SCHED_IDLE, or in the caller's thread if it is urgent.

    Even a little competition with requests determines their 99th percentile. A separate thread is needed because a
    thread that has lowered its priority may not raise it again. `send` must not hold a lock that others need, because
    it may be suspended for long. On systems without this policy (other than Linux), the thread has normal priority.

    On a machine that is never idle, the thread may get no processor time for minutes. A batch that is not sent in time
    is therefore sent a second time by the caller, without waiting for the first attempt. The very first batch is also
    sent by the caller, because connecting and importing make it take a hundred times as long as the others.

    Args:
        send: sends a batch; may be called by two threads, and with the same batch twice.
        urgent: whether a batch cannot wait; asked for each.
    """

    def __init__(self, send: Send, *, urgent: Callable[[], bool]) -> None:
        self._send = send
        self._urgent = urgent
        self._idle_from: float | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="idle", initializer=lower_priority)

    def __call__(self, bodies: list[bytes]) -> None:
        """Send a batch and wait until it is sent; whatever `send` raises is raised."""
        if self._idle_from is None or time.monotonic() < self._idle_from or self._urgent():
            self._send(bodies)
            self._idle_from = self._idle_from or 0.0
            return
        sent = self._thread.submit(self._send, bodies)
        if sent in wait([sent], IDLE_SECONDS).done:
            sent.result()
            return
        sent.cancel()  # if it has not begun
        self._idle_from = time.monotonic() + BUSY_SECONDS
        self._send(bodies)


def lower_priority() -> None:
    """Permanently give this thread idle priority, if the system supports that."""
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
