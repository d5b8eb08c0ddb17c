"""The local Airflow: the order in which its processes start, and what is said when one of them ends."""

import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.airflow_stack import COMPONENTS, LAST_LINES, Stack, running
from support.network import free_port

from ctcd.errors import Unreachable, UsageError

AIRFLOW = """#!{python}
import json, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

def note(line):
    with open({notes!r}, "a") as notes:
        print(line, file=notes)

class Api(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        status = "healthy"
        if self.path == "/execution/health":
            Api.asked += 1
            if Api.asked < 4:
                status = "starting"
            note(status)
        elif not {{"dag-processor", "scheduler"}} <= set(open({notes!r}).read().split()):
            status = "starting"
        self.send_response(200)
        self.end_headers()
        parts = ("metadatabase", "scheduler", "dag_processor")
        self.wfile.write(json.dumps({{"status": status, **dict.fromkeys(parts, {{"status": status}})}}).encode())

    def log_message(self, *arguments):
        pass

if sys.argv[1] == "api-server":
    HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Api).serve_forever()
note(sys.argv[1])
if sys.argv[1] != "dags":
    signal.pause()
"""
"""Stands in for the program `airflow`, which takes half a minute to start: it notes what is asked of it, and when."""


def program(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


@pytest.mark.slow
def test_nothing_that_runs_tasks_starts_before_the_api_server_takes_their_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that cannot report to the API server would fail and be retried after minutes; DAGs are read before."""
    notes = tmp_path / "notes"
    program(tmp_path / "airflow", AIRFLOW.format(python=sys.executable, notes=str(notes)))
    program(tmp_path / "python", "#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with running(tmp_path / "home", tmp_path, port=free_port(), database="", environment={}) as stack:
        assert stack.failure() == ""
    *before, first, second = notes.read_text().split()
    assert before == ["dags", "starting", "starting", "starting", "healthy"]
    assert {first, second} == {"scheduler", "dag-processor"}


@pytest.mark.slow
def test_an_interrupt_while_it_ends_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs in a session of its own, where no signal of the terminal reaches it; so it is ended at once."""
    program(tmp_path / "airflow", AIRFLOW.format(python=sys.executable, notes=str(tmp_path / "notes")))
    program(tmp_path / "python", "#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        running(tmp_path / "home", tmp_path, port=free_port(), database="", environment={}) as stack,
    ):
        monkeypatch.setattr(stack.processes["scheduler"], "wait", interrupted)
    monkeypatch.undo()
    try:
        assert {name for name, process in stack.processes.items() if process.wait(5)} == set(COMPONENTS)
    finally:
        for process in stack.processes.values():
            process.kill()


def test_only_the_first_interrupt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends waits for others meanwhile, and whoever presses Ctrl-C again would leave them behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "airflow_stack.py"))
    ended = []

    def store(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in before:
                signal.raise_signal(number)
            ended.append("in order")

    monkeypatch.setitem(script["main"].__globals__, "store", store)
    monkeypatch.setitem(script["main"].__globals__, "bypass_proxies_for_loopback", lambda: None)
    try:
        script["main"]()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended == ["in order"]


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_that_is_in_use_is_named_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """That of Airflow, and the next one, which MLflow takes: not after the databases were started and filled."""
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "airflow_stack.py"))
    monkeypatch.setenv("CTCD_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(script["main"].__globals__, "bypass_proxies_for_loopback", lambda: None)
    monkeypatch.setitem(script["main"].__globals__, "store", lambda _: pytest.fail("a server is started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    require = script["main"].__globals__["require_free_port"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        used: int = other.getsockname()[1]

        def only_that(host: str, port: int, **words: str) -> None:
            if port == used:  # another program may have the one beside it
                require(host, port, **words)

        monkeypatch.setitem(script["main"].__globals__, "require_free_port", only_that)
        with pytest.raises(
            UsageError, match=f"Airflow: port {used} of 127.0.0.1 cannot be used: Address already in use"
        ):
            script["main"](port=used - offset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["database", "DAGs"])
def test_what_cannot_be_prepared_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing else is started then, or left running."""
    notes = tmp_path / "notes"
    program(tmp_path / "python", f"#!/bin/sh\nexit {int(what == 'database')}\n")
    program(tmp_path / "airflow", f"#!/bin/sh\necho $1 >>{notes}\n[ $1 = api-server ] && exec sleep 100\nexit 3\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with (
        pytest.raises(Unreachable, match=f"its {what} cannot be prepared .*{what}.log"),
        running(tmp_path / "home", tmp_path, port=free_port(), database="", environment={}),
    ):
        pass
    assert (tmp_path / "home/logs/processes" / f"{what}.log").exists()
    started = set(notes.read_text().split() if notes.exists() else [])
    assert started <= ({"api-server", "dags"} if what == "DAGs" else set())


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
