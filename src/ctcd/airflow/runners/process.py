"""Runs a command in a process of the worker."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from airflow.sdk import Context

from ctcd.airflow.runners.outcome import Outcome
from ctcd.settings import Settings

WATCH_SECONDS = 1.0
"""Longest time for which a command goes on without the worker that started it."""
KILL_SECONDS = 60.0
"""How long such a command may take to end after SIGTERM, before it is killed."""

logger = logging.getLogger(__name__)


def command(arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a process; it gets none of Airflow's own variables."""
    environment = {
        name: value
        for name, value in settings.child_environment().items()
        if not name.startswith(("AIRFLOW", "_AIRFLOW"))
    }
    return [str(Path(sys.executable).with_name("ctcd")), *arguments], environment


class ProcessRunner:
    """Runs commands in processes of the worker, in its environment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], context: Context) -> Outcome:  # noqa: ARG002 - a pod needs the context
        """Run a command; see `Runner`."""
        words, environment = command(arguments, self._settings)
        error = ""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            ended = threading.Event()
            threading.Thread(target=self._watch, args=(os.getppid(), ended), daemon=True).start()
            with self._process as process:
                try:
                    for line in process.stderr or ():
                        if line.strip():
                            error = line.strip()
                            logger.info("%s", error)
                    process.wait()  # it may have closed its standard error before
                except BaseException:
                    # The task timed out or is being stopped: leaving the block waits for the process.
                    self.stop()
                    raise
                finally:
                    ended.set()
            output.seek(0)
            return Outcome(code=process.returncode, report=output.read(), error=error)

    def _watch(self, supervisor: int, ended: threading.Event) -> None:
        """Stop the process once the task's supervisor, our parent, is gone: the task is then started again elsewhere."""
        while not ended.wait(WATCH_SECONDS):
            if os.getppid() != supervisor:
                self.stop()
                if not ended.wait(KILL_SECONDS):
                    self._send(signal.SIGKILL)
                return

    def stop(self) -> None:
        """Send SIGTERM to the process and to all that it started."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
