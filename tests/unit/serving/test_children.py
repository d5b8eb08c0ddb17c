"""Processes that work for a worker end when it does, and only then."""

import os
import signal
import sys

from ctcd.serving.children import end_child, start_child

WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


def test_a_child_ends_with_its_input() -> None:
    """It ends on its own once its input is closed, and not by a signal that all get."""
    child = start_child(WAITS, dict(os.environ))
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGINT)
    end_child(child, 20)
    assert child.returncode == 0


def test_a_child_that_does_not_end_is_killed() -> None:
    """Nothing is left behind by one that hangs."""
    child = start_child((sys.executable, "-c", "import time; time.sleep(600)"), dict(os.environ))
    end_child(child, 0.1)
    assert child.returncode < 0
