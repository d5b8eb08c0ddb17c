"""Runs command-line clients, such as docker and kubectl, that the user has installed."""

import subprocess
from collections.abc import Mapping, Sequence

from ctcd.errors import Unreachable, UsageError


def run_client(
    command: Sequence[str],
    *,
    seconds: float,
    wanted_by: str,
    server: str,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a client to its end; how it ended is for the caller to judge.

    Args:
        command: the client with its arguments, a subcommand among them.
        seconds: longest time.
        wanted_by: what needs the client, for the error.
        server: what the client talks to, for the error.
        given: its standard input.
        environment: its variables; by default ours.

    Raises:
        UsageError: the client is not installed.
        Unreachable: it did not end in time.
    """
    client, *arguments = command
    verb = next(argument for argument in arguments if not argument.startswith("-"))
    try:
        return subprocess.run(  # noqa: S603 - a client of the user's, with arguments of ours
            command, input=given, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except FileNotFoundError as error:
        raise UsageError(f"{client} is not installed", where=wanted_by) from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{client} {verb} takes too long", where=server) from error
