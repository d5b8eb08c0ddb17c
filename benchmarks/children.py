"""Commands in processes of their own, and what they took."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that has ended well.

    Args:
        output: what it wrote to its standard output.
        cpu_seconds: processor time.
        peak_mib: peak resident memory, MiB; not below that of the process that started it.
    """

    output: bytes
    cpu_seconds: float
    peak_mib: float


def ended(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)  # noqa: S603 - our own commands
    with child:
        output = child.stdout.read() if child.stdout else b""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with exit code {child.returncode}")
    return Ended(output=output, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / 1024)
