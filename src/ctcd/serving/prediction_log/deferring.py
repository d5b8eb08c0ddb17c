"""Work that gives way to everything else on the machine, as long as it can wait."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ctcd.serving.prediction_log.shipper import Send


class Deferring:
    """Does its work in a thread that has the processor only while nobody else wants it, or at once if there is a hurry.

    A process that is always in the way of requests, even a little, is what their slowest hundredth waits for. A thread of
    its own, because one that has stepped back may not step forward again. The work must hold nothing that others wait
    for, as it may be kept waiting itself. Where the system knows no such threads (it is not Linux), it is like any other.

    Args:
        work: what is done.
        hurry: whether it cannot wait; asked each time.
    """

    def __init__(self, work: Send, *, hurry: Callable[[], bool]) -> None:
        self._work = work
        self._hurry = hurry
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="deferred", initializer=_step_back)

    def __call__(self, bodies: list[bytes]) -> None:
        """Do the work, and wait for it; what it raises is raised."""
        if self._hurry():
            self._work(bodies)
        else:
            self._thread.submit(self._work, bodies).result()


def _step_back() -> None:
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
