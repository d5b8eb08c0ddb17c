"""Where a stage runs."""

import sys
from collections.abc import Sequence
from pathlib import Path

from credit_score.settings import Settings


def runner(arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs a verb, and its environment.

    Airflow's own variables, some of which are secret, are not handed on.
    """
    environment = {
        name: value
        for name, value in settings.child_environment().items()
        if not name.startswith(("AIRFLOW", "_AIRFLOW"))
    }
    return [str(Path(sys.executable).with_name("credit-score")), *arguments], environment
