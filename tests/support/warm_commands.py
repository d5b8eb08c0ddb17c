"""Commands that start in a fortieth of the time: forks of a process that has imported everything.

Imports would take most of the time of a DAG test, where each task runs a command in a process of its own. Here it still
is one, with the arguments, environment, output and exit code that the runner gave it. The test of the whole stack, and
the tests of the command line, start commands as production does.
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
    """Run a command, expect success and return its report."""
    command, environment = run([*arguments, "--json"], settings)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextmanager
def warm_commands() -> Iterator[Runner]:
    """Give a replacement of `ctcd.airflow.runners.process.command` whose command lines run in the server.

    The first one waits for the imports, which begin here.
    """
    with tempfile.TemporaryDirectory(prefix="ctcd-commands-") as folder:
        path = str(Path(folder) / "socket")
        server = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(FOLDER / "command_server.py"), path],
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
                client = [sys.executable, "-S", "-E", str(FOLDER / "command_client.py"), path]
                return [*client, *same], environment | measured()

            yield warm
