"""Child processes of a worker run as long as it does, and end with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import psutil
import pytest
from support.processes import runs, still_running

from ctcd.serving import children
from ctcd.serving.children import Child

WAITS = "import sys; sys.stdin.read()"


def started(code: str, ended: Callable[[], None] = lambda: None) -> Child:
    child = Child((sys.executable, "-c", code), dict(os.environ), name="the child", ended=ended)
    child.keep_running()
    return child


def running(child: Child) -> bool:
    return child.process is not None


def test_a_child_ends_with_its_input() -> None:
    """It exits once its input is closed, and not by a signal that every process of the service receives."""
    child = started(WAITS)
    process = child.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    child.end(20)
    assert process.returncode == 0
    assert child.process is None


@pytest.mark.slow
def test_a_child_that_does_not_end_is_killed() -> None:
    """One that hangs is not left behind."""
    child = started("import time; time.sleep(600)")
    process = child.process
    assert process is not None
    child.end(0.1)
    assert process.returncode < 0


def test_a_child_that_runs_is_not_started_again() -> None:
    """Only one process runs, however often it is asked for."""
    child = started(WAITS)
    process = child.process
    for _ in range(5):
        child.keep_running()
    assert child.process is process
    child.end(20)


@pytest.mark.slow
def test_a_child_that_ended_is_started_again_after_a_pause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that cannot run is not started over and over again; each end is reported."""
    monkeypatch.setattr(children, "RESTART_SECONDS", 0.3)
    ended: list[int] = []
    child = started(
        f"import pathlib, uuid; (pathlib.Path({str(tmp_path)!r}) / uuid.uuid4().hex).touch()", lambda: ended.append(1)
    )
    assert child.process is not None
    child.process.wait()
    began = time.monotonic()
    child.keep_running()
    assert not running(child)
    while not running(child):
        child.keep_running()
    assert time.monotonic() - began >= 0.3
    child.process.wait()
    assert (len(list(tmp_path.iterdir())), ended) == (2, [1])
    child.end(0)


@pytest.mark.slow
@pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "does not"])
def test_a_worker_without_its_supervisor_ends(obeys: bool) -> None:
    """By SIGTERM, so that it finishes its requests; if that takes too long, without."""
    lines = [
        "import os, signal, sys, threading; from ctcd.serving import children",
        "children.PARENT_SECONDS = 0.02",
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True) or "
        + ("sys.exit()" if obeys else "None")
        + ")",
        "end = lambda: children.end_without(int(sys.argv[1]), 0.2, threading.Event())",
        "threading.Thread(target=end, daemon=True).start()",
        "print('runs', flush=True)",
        "while True: signal.pause()",
    ]
    # A shell is its supervisor.
    script = f'{sys.executable} -c "$CODE" $$ & echo $!; wait'
    environment = {**os.environ, "CODE": "\n".join(lines)}
    with subprocess.Popen(["/bin/sh", "-c", script], env=environment, stdout=subprocess.PIPE) as supervisor:  # noqa: S603 - our own lines
        assert supervisor.stdout is not None
        worker = psutil.Process(int(supervisor.stdout.readline()))
        assert supervisor.stdout.readline() == b"runs\n"
        assert runs(worker)
        supervisor.kill()
        left = still_running([worker], 20)
        for each in left:
            each.kill()
        assert (left, supervisor.stdout.readline()) == ([], b"told\n")


def test_a_worker_with_its_supervisor_is_left_alone() -> None:
    """It ends only when it is stopped."""
    stop = Event()
    stop.set()
    children.end_without(os.getppid(), 0.0, stop)
