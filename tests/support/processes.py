"""Which processes still run, and one that stands in for a service."""

import subprocess
import time
from collections.abc import Iterable

import psutil

from ctcd.settings import Settings


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


def workers(supervisor: int) -> list[psutil.Process]:
    """Return the processes that answer requests: not those that ship, which have a parent of their own."""
    children: list[psutil.Process] = psutil.Process(supervisor).children()
    return [each for each in children if runs(each) and any("worker" in part for part in each.cmdline())]


def start_cat(settings: Settings) -> "subprocess.Popen[bytes]":
    """Start `cat` in the place of a service, with the environment of one; it ends when it is told to."""
    process = subprocess.Popen(
        ["cat"],  # noqa: S607 - cat on the PATH
        env=settings.child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    process.stdout.readline()  # before it has started, the system does not tell its environment
    return process
