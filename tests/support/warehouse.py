"""A command with a prediction log of its own, and an S3 server."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx
from support.command import ROOT, Command
from support.instance import CONTRACT, INSTANCE
from support.load import wait
from support.network import free_port

from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade
from ctcd.store.prediction_log import LoggedPrediction, append

PACKAGES = ROOT / "build" / "warehouse"
SECRET = "a-secret-of-the-tests"


class S3Server:
    """moto's S3 on the loopback; what is in it ends with it."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "s3.log"
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, wait until it answers and make the bucket."""
        with self._log.open("a") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)],
                env=os.environ | {"PYTHONPATH": str(PACKAGES)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait(self._has_bucket)

    def _has_bucket(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-2_000:]
        try:
            return httpx.put(f"http://127.0.0.1:{self.port}/bucket").is_success
        except httpx.TransportError:
            return False

    def end(self) -> None:
        """End it, with all that is in it."""
        self._process.kill()
        self._process.wait()


class Log:
    """The command, on a store in SQLite with a prediction log."""

    def __init__(self, home: Path, program: tuple[str, ...]) -> None:
        self.command = Command(home, program=program)
        self.url = f"sqlite:///{home / 'store.db'}"
        home.mkdir()
        upgrade(self.url, INSTANCE.migrations)

    def add(self, number: int, at: datetime) -> None:
        """Log a prediction."""
        made = LoggedPrediction(
            request_id=f"request-{number}",
            group=number,
            features={"maker": "Écrivain 😀"},
            prediction=CONTRACT.classes[0],
            confidence=0.5,
            model_version="7",
            run_id="run 7",
            elapsed_ms=1.25,
            created_at=at,
        )
        append(connect(self.url), CONTRACT, [made])
