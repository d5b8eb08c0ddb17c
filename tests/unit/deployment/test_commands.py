"""How a client that the user has installed is run, and what is said when that cannot be."""

import sys

import pytest

from ctcd.deployment.commands import run_client
from ctcd.errors import Unreachable, UsageError


def test_a_client_gets_its_input_and_variables_and_its_end_is_returned() -> None:
    """Output, errors and exit code are for the caller to judge."""
    program = "import os, sys; print(sys.stdin.read(), os.environ['X']); sys.exit('no')"
    done = run_client(
        [sys.executable, "-c", program], seconds=60, wanted_by="a test", server="s", given="in", environment={"X": "1"}
    )
    assert (done.stdout, done.stderr, done.returncode) == ("in 1\n", "no\n", 1)


def test_a_client_that_is_not_installed_is_named_with_what_wants_it() -> None:
    """Whoever reads the error knows what to install, and for what."""
    with pytest.raises(UsageError, match="a test: no-such-client is not installed"):
        run_client(["no-such-client", "get"], seconds=1, wanted_by="a test", server="s")


def test_a_client_that_does_not_end_is_given_up() -> None:
    """A server that never answers is out of reach; the verb is named, not the options before it."""
    with pytest.raises(Unreachable, match="cluster: sleep 30 takes too long"):
        run_client(["sleep", "30"], seconds=0.1, wanted_by="a test", server="cluster")
