"""A command with a prediction log of its own, and an S3 server."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from support.command import ROOT, Command
from support.instance import CONTRACT, INSTANCE
from support.network import free_port

from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade
from ctcd.store.prediction_log import LoggedPrediction, append

PACKAGES = ROOT / "build" / "warehouse"
START_SECONDS = 180
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
            self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
                [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)],
                env=os.environ | {"PYTHONPATH": str(PACKAGES)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        bucket = Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        for _ in range(START_SECONDS * 20):
            try:
                with urlopen(bucket, timeout=START_SECONDS):  # noqa: S310 - http
                    return
            except URLError:
                try:
                    self._process.wait(0.05)
                    break
                except subprocess.TimeoutExpired:
                    continue
        raise RuntimeError(f"the S3 server did not start:\n{self._log.read_text()[-2_000:]}")

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
