"""Verbs of the command line that start in a fortieth of the time: forks of a process that has imported everything.

Most of a DAG test would be imports: each task runs a verb in a process of its own. Here that process is still one of its
own, with the arguments, environment, output and exit code that the runner gave it. The test of the whole stack, and the
tests of the command line, start verbs as production does.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.command import measured

from ctcd.airflow.runners.process import command as command_of
from ctcd.settings import Settings

FOLDER = Path(__file__).parent
Runner = Callable[[Sequence[str], Settings], tuple[list[str], dict[str, str]]]


def report_of(run: Runner, settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a verb, expect success and return its report."""
    command, environment = run([*arguments, "--json"], settings)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextmanager
def warm_verbs() -> Iterator[Runner]:
    """Give what stands for `ctcd.airflow.runners.process.command`; the commands that it returns run warm verbs.

    The first one waits for the imports, which began before.
    """
    with tempfile.TemporaryDirectory(prefix="ctcd-verbs-") as folder:
        path = str(Path(folder) / "socket")
        server = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(FOLDER / "verb_server.py"), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with server:
            output = server.stdout
            assert output is not None

            @cache
            def ready() -> bool:
                return output.readline() == "ready\n"

            def warm(arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
                assert ready()
                (command, *same), environment = command_of(arguments, settings)
                assert Path(command).name == "ctcd"
                client = [sys.executable, "-S", "-E", str(FOLDER / "verb_client.py"), path]
                return [*client, *same], environment | measured()

            yield warm
