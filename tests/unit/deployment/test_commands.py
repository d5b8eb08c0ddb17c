"""Running a program that the user has installed, and the errors when that fails."""

import sys

import pytest

from ctcd.deployment.commands import run_command
from ctcd.errors import Unreachable, UsageError


def test_a_program_gets_its_input_and_variables_and_its_result_is_returned() -> None:
    """Output, errors and exit code are left to the caller."""
    program = "import os, sys; print(sys.stdin.read(), os.environ['X']); sys.exit('no')"
    done = run_command([sys.executable, "-c", program], seconds=60, server="s", stdin="in", environment={"X": "1"})
    assert (done.stdout, done.stderr, done.returncode) == ("in 1\n", "no\n", 1)


def test_a_program_that_is_not_installed_is_named() -> None:
    """The error says what to install, and what for."""
    with pytest.raises(UsageError, match="deployment: no-such-client is not installed"):
        run_command(["no-such-client", "get"], seconds=1, server="s")


@pytest.mark.slow
def test_a_program_that_does_not_end_in_time_is_stopped() -> None:
    """A server that never answers is unreachable; the error names the subcommand, not the options before it."""
    with pytest.raises(Unreachable, match="cluster: sleep 30 takes too long"):
        run_command(["sleep", "--", "30"], seconds=0.1, server="cluster")
