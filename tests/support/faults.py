"""Faults injected into the tasks of a DAG: a command that fails before it begins, a function that raises."""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from ctcd.settings import Settings

PLANTED = "planted: it is broken"
AWAY, REFUSED = 6, 3
"""Exit codes: a store that does not answer, and an error that a retry would not change."""
Runner = Callable[[Sequence[str], Settings], tuple[list[str], dict[str, str]]]


def task_of(arguments: Sequence[str]) -> str:
    """Return the id of the task that runs a command."""
    match list(arguments):
        case ["training" | "traffic", step, *_]:
            return step
        case ["deploy", "--check", *_]:
            return "check"
        case ["predict", *_]:
            return "score"
        case ["performance" | "drift" as command, *_, period, _]:
            return period if command == "performance" else f"drift_{period}"
        case ["findings", "due", *rest]:
            return "start_training" if "--started" in rest else "due"
        case [command, *_]:
            return command
    raise ValueError("no command")


class Faults:
    """The faults that are still to come, by task id.

    Args:
        run: gives the command line of a command that has no fault.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._codes: dict[str, int] = {}
        self._reports: dict[str, Any] = {}
        self._words: dict[str, str] = {}

    def once(self, *tasks: str) -> None:
        """Make tasks fail the next time that they run, with an error that a retry may change."""
        self._codes |= dict.fromkeys(tasks, AWAY)

    def for_good(self, *tasks: str, words: str = PLANTED) -> None:
        """Make tasks fail the next time that they run, with an error that no retry changes; `words` is a command's message."""
        self._codes |= dict.fromkeys(tasks, REFUSED)
        self._words |= dict.fromkeys(tasks, words)

    def says(self, task: str, report: dict[str, Any]) -> None:
        """Make a task's command do nothing the next time but return a report."""
        self._reports[task] = report

    @property
    def left(self) -> set[str]:
        """Tasks whose faults have not happened."""
        return {*self._codes, *self._reports}

    def runner(self, arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
        """Stand for `ctcd.airflow.runners.process.command`."""
        task = task_of(arguments)
        if task in self._reports:
            return ["/bin/echo", json.dumps(self._reports.pop(task))], {}
        code = self._codes.pop(task, None)
        if code is not None:
            return ["/bin/sh", "-c", f"echo 'error: {self._words.pop(task, PLANTED)}' >&2; exit {code}"], {}
        return self._run(arguments, settings)

    def plant(self, dag: DAG) -> None:
        """Make the Python functions of a DAG raise their faults."""
        for task in dag.tasks:
            if hasattr(task, "python_callable"):
                task.python_callable = self._raising(task.task_id, task.python_callable)

    def _raising(self, task: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def raising(*arguments: Any, **named: Any) -> Any:
            match self._codes.pop(task, None):
                case None:
                    return work(*arguments, **named)
                case code if code == AWAY:
                    raise RuntimeError(PLANTED)
                case _:
                    raise AirflowFailException(PLANTED)

        return raising
