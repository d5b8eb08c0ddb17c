"""What all runners have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from ctcd.settings import PREFIX, Settings

OF_THE_IMAGE = frozenset({f"{PREFIX}CONTRACTS", f"{PREFIX}REVISION"})
"""Variables that an image sets for itself: it carries its own instance and was built from its own revision."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    Args:
        code: its exit code; negative if a signal ended it.
        report: its standard output, a JSON document; empty if it failed.
        error: the last line that it wrote to standard error.
    """

    code: int
    report: str
    error: str


class Runner(Protocol):
    """Runs one command of `ctcd`; each line of its progress goes to the task's log."""

    def run(self, arguments: Sequence[str], context: Context) -> Outcome:
        """Run `ctcd` with these arguments to its end.

        Raises:
            AirflowFailException: it cannot be started, and another try would not change that.
            AirflowException: it was not started or was lost.
        """

    def stop(self) -> None:
        """Stop the command, if it is running: the task was stopped or has timed out."""


def required(settings: Settings, name: str) -> str:
    """Return a setting that containers or pods cannot do without.

    Raises:
        AirflowFailException: it is empty.
    """
    value: str = getattr(settings, name)
    if not value:
        raise AirflowFailException(
            f"{PREFIX}{name.upper()}: must be set when {PREFIX}STAGE_RUNNER is {settings.stage_runner}"
        )
    return value


def container_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that give a container these settings; some are secret."""
    return {name: value for name, value in settings.environment_variables().items() if name not in OF_THE_IMAGE}
