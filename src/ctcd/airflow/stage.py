"""The operator that runs a command of `ctcd`."""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import redact  # type: ignore[attr-defined] # it masks Airflow's own logs

from ctcd.airflow.links import RunLink, VersionLink, links
from ctcd.airflow.pools import DEPLOYMENT_QUEUE
from ctcd.airflow.runners.outcome import Runner
from ctcd.airflow.worker import worker_settings
from ctcd.settings import Settings, StageRunner

ERROR = "error"
"""XCom key under which a failed stage leaves its error message."""
RETRIED = frozenset({1, 6})
"""Exit codes of errors that may be gone at the next try: an unexpected one, a store or service that does not answer."""
_SIGNALLED = 128
"""A container that a signal ended has this plus the signal's number as exit code, a process the negative number."""


class StageOperator(BaseOperator):
    """Runs `ctcd <command> ... --json` and returns its report as XCom.

    Where it runs is the worker's setting `stage_runner`. What it needs to reach the feature store comes from the
    connection `feature_store`. Its progress and its error message go to the task's log. The task is retried only if the
    exit code is that of an error that may pass.

    Args:
        command: the command, with the arguments that it always gets.
        arguments: further arguments of a run.
        success_codes: exit codes after which the task has succeeded.
        asset_event: returns the extra of the events of the task's assets, from the report and the context.
        on_worker: run as a process of the worker whatever `stage_runner` is, and always on the same one: for commands
            that act on its machine.
        map_label: what the UI shows instead of the map index of a mapped task.
    """

    template_fields: Sequence[str] = ("command", "arguments", "map_label")
    operator_extra_links = (RunLink(), VersionLink())
    ui_color = "#d8ecf3"

    def __init__(
        self,
        *,
        command: Sequence[str],
        arguments: Sequence[str] = (),
        success_codes: Collection[int] = (0,),
        asset_event: Callable[[dict[str, Any], Context], dict[str, Any]] | None = None,
        on_worker: bool = False,
        map_label: str = "",
        **kwargs: Any,
    ) -> None:
        if on_worker:
            kwargs.setdefault("queue", DEPLOYMENT_QUEUE)
        super().__init__(**kwargs)
        self.command, self.arguments, self.map_label = command, arguments, map_label
        self.success_codes, self.asset_event, self.on_worker = success_codes, asset_event, on_worker
        self.links: dict[str, str] = {}
        self._runner: Runner | None = None

    def execute(self, context: Context) -> Any:
        """Run the command.

        Raises:
            AirflowFailException: it failed in a way that another try would not change.
            AirflowException: it failed otherwise.
        """
        settings = worker_settings()
        if self.on_worker:
            settings = settings.model_copy(update={"stage_runner": StageRunner.SUBPROCESS})
        self._runner = runner(settings)
        outcome = self._runner.run([*self.command, *self.arguments, "--json"], context)
        if outcome.code not in self.success_codes:
            # Our errors name no secret; a library's may, and this one is shown in the UI.
            error = str(redact(_message(outcome.error)))
            context["ti"].xcom_push(key=ERROR, value=error)
            may_pass = outcome.code in RETRIED or outcome.code < 0 or outcome.code > _SIGNALLED
            raise (AirflowException if may_pass else AirflowFailException)(
                error or f"ctcd {self.command[0]} ended with exit code {outcome.code}"
            )
        try:
            report: Any = json.loads(outcome.report)
        except ValueError as none:
            # Something ended the process before it could report: that is no success, whatever the exit code is.
            raise AirflowFailException(
                f"ctcd {self.command[0]} ended with exit code {outcome.code} and no report"
            ) from none
        self.links = links(settings.mlflow_url, report)
        if self.asset_event is not None:
            for outlet in self.outlets:
                context["outlet_events"][outlet].extra = self.asset_event(report, context)
        return report

    def on_kill(self) -> None:
        """Stop the command when the task is stopped or has timed out."""
        if self._runner is not None:
            self._runner.stop()


def _message(line: str) -> str:
    """Return the message in the last line on a command's standard error."""
    try:
        return str(json.loads(line)["error"])
    except (ValueError, KeyError, TypeError):
        # It was ended from outside, or ended before it knew its options.
        return line.removeprefix("error: ")


def runner(settings: Settings) -> Runner:
    """Return the runner that the settings choose; a provider is imported only where it is used.

    Raises:
        AirflowFailException: a setting that the runner needs is missing or cannot be used.
    """
    match settings.stage_runner:
        case StageRunner.DOCKER:
            from ctcd.airflow.runners.container import ContainerRunner

            return ContainerRunner(settings)
        case StageRunner.KUBERNETES:
            from ctcd.airflow.runners.pod import PodRunner

            return PodRunner(settings)
        case StageRunner.SUBPROCESS:
            from ctcd.airflow.runners.process import ProcessRunner

            return ProcessRunner(settings)
