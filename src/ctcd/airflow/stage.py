"""The operator that runs a verb of the command line."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import redact  # type: ignore[attr-defined] # it masks Airflow's own logs

from ctcd.airflow.runners import runner
from ctcd.airflow.worker import worker_settings
from ctcd.settings import StageRunner

ERROR = "error"
"""Key under which a stage that failed leaves its one line."""
RETRIED = frozenset({1, 6, 125})
"""Exit codes of what may be different the next time: something unexpected, a store or service that does not answer, a
Docker that starts no container."""
_ENDED_BY_SIGNAL = 128
"""A container's exit code is this and the signal's number; that of a process of ours is the number, negative."""


class StageOperator(BaseOperator):
    """Runs `ctcd <verb> ... --json` in a process of its own and returns its report.

    What it needs to reach the feature store comes from the connection `feature_store`. Its progress and its one line of
    error go to the task's log. An exit code that another try would not change fails the task at once.

    Args:
        verb: the verb and what it always takes.
        arguments: what a run adds.
        done: exit codes after which the task has done its work.
        event: returns what the events of the task's assets carry, from its report and its context.
        beside: whether it runs beside Airflow, whatever the settings say: what acts on the worker's machine.
        shown_as: what the UI shows instead of a number, if the task is one of several mapped ones.
    """

    template_fields: Sequence[str] = ("verb", "arguments", "shown_as")
    ui_color = "#d8ecf3"

    def __init__(
        self,
        *,
        verb: Sequence[str],
        arguments: Sequence[str] = (),
        done: Collection[int] = (0,),
        event: Callable[[dict[str, Any], Context], dict[str, Any]] | None = None,
        beside: bool = False,
        shown_as: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.verb, self.arguments, self.done, self.event, self.shown_as = verb, arguments, done, event, shown_as
        self.beside = beside
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> Any:
        """Run the verb.

        Raises:
            AirflowFailException: it failed in a way that another try would not change.
            AirflowException: it failed otherwise.
        """
        code, report, error = self._run()
        if code not in self.done:
            context["ti"].xcom_push(key=ERROR, value=error)
            passes = code in RETRIED or code < 0 or code > _ENDED_BY_SIGNAL
            raise (AirflowException if passes else AirflowFailException)(
                error or f"ctcd {self.verb[0]} ended with exit code {code}"
            )
        if self.event is not None:
            for outlet in self.outlets:
                context["outlet_events"][outlet].extra = self.event(report, context)
        return report

    def _run(self) -> tuple[int, Any, str]:
        """Return exit code, report and the last line on standard error."""
        settings = worker_settings()
        if self.beside:
            settings = settings.model_copy(update={"stage_runner": StageRunner.SUBPROCESS})
        command, environment = runner([*self.verb, *self.arguments, "--json"], settings)
        line = ""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            with self._process as process:
                try:
                    for text in process.stderr or ():
                        if text.strip():
                            line = text.strip()
                            self.log.info("%s", line)
                except BaseException:
                    # The task ran out of time, or is being stopped.
                    self.on_kill()
                    raise
            output.seek(0)
            text = output.read()
        # Our errors name no secret; a library's may, and this one is shown in the UI.
        error = str(redact(line.removeprefix("error: ")))
        return process.returncode, json.loads(text) if text.strip() else None, error

    def on_kill(self) -> None:
        """End the process when the task is stopped or takes too long."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
