"""Processes of `ctcd consume`."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.command import COMMAND

from ctcd.settings import Settings


@dataclass
class Consuming:
    """A process of `ctcd consume`."""

    process: "subprocess.Popen[bytes]"
    errors: Path

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(60)

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said on standard error."""
        return self.process.wait(60), self.errors.read_text()


@contextmanager
def started(settings: Settings) -> Iterator[Consuming]:
    """Run `ctcd consume`; it ends with the block at the latest."""
    ours = settings.environment_variables() | {"CTCD_BROKER_URL": settings.broker_url.get_secret_value()}
    errors = settings.home / "errors.txt"
    with errors.open("wb") as output, (settings.home / "log.txt").open("wb") as log:
        process = subprocess.Popen([COMMAND, "consume"], env=os.environ | ours, stdout=log, stderr=output)  # noqa: S603 - our own command
    try:
        yield Consuming(process, errors)
    finally:
        process.kill()
        process.wait()


@contextmanager
def consuming(settings: Settings) -> Iterator[Consuming]:
    """Run `ctcd consume`, and end it as an operator does; it says nothing on standard error."""
    with started(settings) as found:
        yield found
        found.end(signal.SIGTERM)
        ended = found.ended()
        assert ended == (0, ""), ended
