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


def test_all_but_the_last_worker_may_end(tmp_path: Path) -> None:
    """Airflow gives the tasks of a worker that is gone to the others; without any, none would run again."""
    (tmp_path / "worker-1.log").write_text("the end")
    with (
        subprocess.Popen(["/bin/true"]) as ended,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as runs,
    ):
        ended.wait()
        workers = {"worker-1": ended, "worker-2": runs}
        stack = Stack(url="", user="", password="", logs=tmp_path, processes=workers, workers=tuple(workers))
        assert stack.failure() == ""
        runs.communicate(b"\n")
        assert stack.failure() == "worker-1 ended with exit code 0; the end of its log:\nthe end"
