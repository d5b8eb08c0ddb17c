"""Whether processes still run."""

import time
from collections.abc import Iterable

import psutil


def runs(process: psutil.Process) -> bool:
    """Whether a process runs: one that ended and whose exit code nobody asks for, as in a container, does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def still_running(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end for at most so many seconds, and return those that did not."""
    deadline = time.monotonic() + seconds
    while left := [each for each in processes if runs(each)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left
