"""Processes that work for a worker give way to it, and end when it does."""

import os
import sys

import pytest

from credit_score.serving.children import end_child, start_child

WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


@pytest.mark.parametrize("niceness", [0, 3])
def test_a_child_gives_way_and_ends_with_its_input(niceness: int) -> None:
    """It runs with so much less priority than its parent, and ends on its own once its input is closed."""
    child = start_child(WAITS, dict(os.environ), niceness=niceness)
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == mine + niceness
    end_child(child, 20)
    assert child.returncode == 0


def test_a_child_that_does_not_end_is_killed() -> None:
    """Nothing is left behind by one that hangs."""
    child = start_child((sys.executable, "-c", "import time; time.sleep(600)"), dict(os.environ))
    end_child(child, 0.1)
    assert child.returncode < 0
