"""Sending at idle priority: it uses the processor only while nothing else wants it."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

from ctcd.serving.prediction_log.shipper import Send

IDLE_SECONDS = 10.0
"""How long a batch may take at idle priority; then it is sent again at the caller's."""
BUSY_SECONDS = 60.0
"""After that happened, nothing is sent at idle priority for so long: the machine has no time for it."""


class IdleSender:
    """Sends in a thread with the scheduling policy SCHED_IDLE, or in the caller's thread if it is urgent.

    A process that competes with requests, even a little, determines their 99th percentile. It takes a thread of its own
    because a thread that has lowered its priority may not raise it again. `send` must hold nothing that others wait for,
    as it may be kept waiting itself. Where the system has no such policy (it is not Linux), the thread is like any other.

    On a machine that is never idle the thread may get no time for minutes. A batch that is not sent in time is therefore
    sent a second time by the caller, without waiting for the first. The first batch is sent by the caller too, because it
    takes a hundred times as long as the others: it connects and imports.

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
    """Give this thread the priority idle, for good, where the system has one."""
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
