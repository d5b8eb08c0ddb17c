"""What is said of the local Airflow when one of its processes ends."""

import subprocess
import sys
from pathlib import Path

from support.airflow_stack import LAST_LINES, Stack


def test_a_process_that_ended_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    """As long as all processes run there is no failure; then the component, its exit code and its last lines are named."""
    (tmp_path / "scheduler.log").write_text("".join(f"line {number}\n" for number in range(100)))
    with (
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as runs,
        subprocess.Popen([sys.executable, "-c", "input(); raise SystemExit(3)"], stdin=subprocess.PIPE) as ends,
    ):
        stack = Stack(url="", user="", password="", logs=tmp_path, processes={"api-server": runs, "scheduler": ends})
        assert stack.failure() == ""
        ends.communicate(b"\n")
        first, *last = stack.failure().splitlines()
        runs.terminate()
    assert first == "scheduler ended with exit code 3; the end of its log:"
    assert (len(last), last[-1]) == (LAST_LINES, "line 99")
