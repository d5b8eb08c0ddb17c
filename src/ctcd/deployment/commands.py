"""Runs command-line programs that the user has installed, such as docker and kubectl."""

import subprocess
from collections.abc import Mapping, Sequence

from ctcd.errors import Unreachable, UsageError


def run_command(
    command: Sequence[str],
    *,
    seconds: float,
    server: str,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a program with a subcommand to its end, for at most `seconds`; the caller judges its exit code.

    An error names the `server` that the program talks to. The environment is by default that of this process.

    Raises:
        UsageError: the program is not installed.
        Unreachable: it did not end in time.
    """
    program, *arguments = command
    subcommand = next(argument for argument in arguments if not argument.startswith("-"))
    try:
        return subprocess.run(  # noqa: S603 - a program that the user installed, with our arguments
            command, input=stdin, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except FileNotFoundError as error:
        raise UsageError(f"{program} is not installed", where="deployment") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{program} {subcommand} takes too long", where=server) from error
