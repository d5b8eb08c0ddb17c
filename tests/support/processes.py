"""Which processes still run."""

import time
from collections.abc import Iterable

import psutil


def runs(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie, whose exit code nobody asks for, does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def still_running(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait up to `seconds` for processes to end, and return those that did not."""
    deadline = time.monotonic() + seconds
    while left := [each for each in processes if runs(each)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left
