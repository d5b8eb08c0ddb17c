"""Sending at idle priority: it uses the processor only while nothing else wants it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ctcd.serving.prediction_log.shipper import Send


class IdleSender:
    """Sends in a thread with the scheduling policy SCHED_IDLE, or in the caller's thread if it is urgent.

    A process that competes with requests, even a little, determines their 99th percentile. It takes a thread of its own
    because a thread that has lowered its priority may not raise it again. `send` must hold nothing that others wait for,
    as it may be kept waiting itself. Where the system has no such policy (it is not Linux), the thread is like any other.

    Args:
        send: sends a batch.
        urgent: whether a batch cannot wait; asked for each.
    """

    def __init__(self, send: Send, *, urgent: Callable[[], bool]) -> None:
        self._send = send
        self._urgent = urgent
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="idle", initializer=_lower_priority)

    def __call__(self, bodies: list[bytes]) -> None:
        """Send a batch and wait until it is sent; whatever `send` raises is raised."""
        if self._urgent():
            self._send(bodies)
        else:
            self._thread.submit(self._send, bodies).result()


def _lower_priority() -> None:
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
