"""Commands that start in a fortieth of the time: forks of a process that has imported everything.

Imports would take most of the time of a test that runs many commands, each in a process of its own. Here it still is
one, with the arguments, environment, output and exit code that it was given. The test of the whole stack, and the first
run of each stage in the tests of the command line, start commands as production does.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ctcd.settings import Settings

FOLDER = Path(__file__).parent
Program = Callable[[], tuple[str, ...]]
Runner = Callable[[Sequence[str], Settings], tuple[list[str], dict[str, str]]]


def report_of(run: Runner, settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a command, expect success and return its report."""
    command, environment = run([*arguments, "--json"], settings)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextmanager
def command_server() -> Iterator[Program]:
    """Give a function that returns what stands for the path of `ctcd` in a command line that runs in the server.

    The first call waits for the imports, which begin here.
    """
    with tempfile.TemporaryDirectory(prefix="ctcd-commands-") as folder:
        path = str(Path(folder) / "socket")
        server = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "support.command_server", path],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])},
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

            def program() -> tuple[str, ...]:
                assert ready()
                return sys.executable, "-S", "-E", str(FOLDER / "command_client.py"), path

            yield program


def warm_commands(program: Program) -> Runner:
    """Return a replacement of `ctcd.airflow.runners.process.command` whose command lines run in a server."""
    from ctcd.airflow.runners.process import command as command_of  # with Airflow, which most tests need not import

    def warm(arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
        (command, *same), environment = command_of(arguments, settings)
        assert Path(command).name == "ctcd"
        return [*program(), *same], environment

    return warm
