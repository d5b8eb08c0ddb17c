"""Processes that work for a worker: they end when it does, and only then."""

import signal
import subprocess
from collections.abc import Mapping, Sequence

_LEFT_TO_THE_WORKER = (signal.SIGTERM, signal.SIGINT)


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a process that ends once its standard input is closed, which also happens when the worker dies.

    A Ctrl-C at a terminal and BentoML's supervisor signal everybody, also the processes of a worker; these are to finish
    what the worker leaves to them. So the signals are blocked from their first instruction on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_WORKER)
    try:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)  # noqa: S603 - our own command
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_child(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Close the process's standard input, wait for at most so many seconds, then kill it."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
