"""Whatever prevents a service from starting is reported in one line."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from unittest.mock import patch

import psutil
import pytest
from support.network import free_port

from ctcd.errors import NotFound, UsageError
from ctcd.serving import launch
from ctcd.settings import Settings


@pytest.mark.slow
def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names port, host and the setting."""
    monkeypatch.setattr(launch, "PORT_SECONDS", 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=rf"port {port} of 127\.0\.0\.1.*CTCD_PORT"),
            launch.running("machine_condition:v1", Settings(home=tmp_path, port=port)),
        ):
            pass
        with pytest.raises(UsageError, match=f"port {port}"):
            launch.serve("machine_condition:v1", Settings(home=tmp_path, port=port))


@pytest.mark.slow
def test_a_port_that_becomes_free_is_waited_for(tmp_path: Path) -> None:
    """The workers of a service that was killed a moment ago still hold it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(home=tmp_path, port=taken.getsockname()[1])
        closing = Timer(0.3, taken.close)
        closing.start()
        with pytest.raises(NotFound, match="no Bento"):
            launch.serve("machine_condition:v1", settings)
        closing.join()


@pytest.mark.slow
def test_a_second_service_on_the_same_address_and_home_is_refused(tmp_path: Path) -> None:
    """It would delete the metrics of the first; the lock of a service that was killed does not count."""
    waits = "import sys; print('runs', flush=True); sys.stdin.read()"
    command = [sys.executable, "-P", str(launch.SUPERVISOR), str(tmp_path), "detached"]
    (tmp_path / "bentoml.py").write_text(waits)  # stands for BentoML's command, which takes seconds to start
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for _ in range(2):
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:  # noqa: S603 - our own command
            assert first.stdout is not None
            assert first.stdout.readline() == b"runs\n"
            second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - as above
            assert second.returncode == 2
            assert launch._reason(second.stderr).endswith("another service with this home uses this address (stop it)")
            first.kill()


def test_a_service_has_ended_once_all_its_threads_have() -> None:
    """A process whose first thread has ended is a zombie, and holds its locks while another one is still there."""
    program = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("runs", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:  # noqa: S603 - our own program
        assert service.stdout is not None
        assert service.stdin is not None
        assert service.stdout.readline() == b"runs\n"
        process = psutil.Process(service.pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not launch.has_ended(process)
        service.stdin.close()
        assert launch._ends(process, 60)


def test_a_service_keeps_connections_open_as_long_as_in_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it would close them before its clients do, and lose requests that are on their way."""
    bento = tmp_path / "bentoml" / "bentos" / "m" / "v1"
    bento.mkdir(parents=True)
    (bento / "bento.yaml").touch()
    started: list[list[str]] = []
    monkeypatch.setattr("ctcd.serving.launch.subprocess.Popen", lambda command, **_: started.append(command))
    launch._start("m:v1", Settings(home=tmp_path), None, ends_with_parent=True)
    [command] = started
    assert command[-2:] == ["--timeout-keep-alive", str(launch.KEEP_ALIVE_SECONDS)]


@pytest.mark.parametrize("target", ["machine_condition:v1", "condition", "../../etc"])
def test_a_missing_bento_is_named(tmp_path: Path, target: str) -> None:
    """The error says which command builds it."""
    with (
        pytest.raises(NotFound, match=r"no Bento .*ctcd build"),
        launch.running(target, Settings(home=tmp_path, port=free_port())),
    ):
        pass


def test_a_child_process_gets_the_settings_whatever_its_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths become absolute, URLs stay complete, and BentoML sends no usage statistics."""
    monkeypatch.chdir(tmp_path)
    environment = launch.bentoml_environment(Settings(home=Path("var"), port=3999), tmp_path / "bento")
    assert environment["CTCD_HOME"] == str(tmp_path / "var")
    assert environment["CTCD_CONTRACTS"] == str(tmp_path / "bento" / "contracts")
    assert environment["CTCD_PORT"] == "3999"
    assert environment["FEATURE_STORE_URL"] == f"sqlite:///{tmp_path}/var/store.db"
    assert environment["BENTOML_HOME"] == str(tmp_path / "var" / "bentoml")
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "Traceback\n  x\nctcd.errors.NotFound: here: no model\n[ERROR] Application startup failed.",
            "here: no model",
        ),
        ("1\n2\n3\n4\n5\n6\n", "2 | 3 | 4 | 5 | 6"),
        ("", "there is no output"),
    ],
)
def test_the_reason_is_found_in_the_log(log: str, reason: str) -> None:
    """Our own error if there is one, otherwise the last lines."""
    assert launch._reason(log) == reason


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["obeys", "does not"])
def test_a_service_ends_even_if_nobody_asks_for_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    """If its parent never does, as in a container, only a process that does not end is killed, and a zombie is not waited for."""
    monkeypatch.setattr(launch, "_KILL_SECONDS", 1.0)
    # Both ignore what was ignored before them.
    lines = f"{trap} sleep 60 & echo $!; exec sleep 60"
    with subprocess.Popen(["/bin/sh", "-c", lines], stdout=subprocess.PIPE) as parent:  # noqa: S603 - our own lines
        assert parent.stdout is not None
        service = psutil.Process(int(parent.stdout.readline()))
        # Until then it is a shell, and a shell might ask.
        while psutil.Process(parent.pid).name() != "sleep":
            time.sleep(0.01)
        with patch.object(service, "kill", wraps=service.kill) as kill:
            launch.end(service, Settings(home=tmp_path, drain_seconds=0))
        ended = service.status()
        parent.kill()
    assert ended == psutil.STATUS_ZOMBIE
    assert kill.called == bool(trap)
