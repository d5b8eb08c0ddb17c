"""What a deployment to a process of this machine starts, stops and keeps on record."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pydantic import SecretStr
from support.processes import start_cat

from ctcd.deployment.process import ProcessTarget
from ctcd.deployment.target import Deployment
from ctcd.errors import DeploymentBroken, Unreachable
from ctcd.serving import launch
from ctcd.serving.launch import RunningService
from ctcd.settings import ModelSource, Settings

URL = "http://127.0.0.1:3000"
FIRST = Deployment(url=URL, tag="m:1", version="1", digest="d1", before=None, changed=True)


class Host:
    """Starts `cat` in the place of a service: it ends when it is told to, and starts in no time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: list[subprocess.Popen[bytes]] = []
        self.did: list[str] = []
        self.waited: list[Any] = []
        self.never_ready = ""

    def start(self, tag: str, settings: Settings, log_name: str) -> RunningService:
        process = start_cat(settings)
        self.processes.append(process)
        self.did.append(f"start {tag}")
        return RunningService(url=f"http://{settings.host}:{settings.port}", process=process, log=Path(log_name))

    def wait_until_ready(self, service: RunningService, settings: Settings, progress: object) -> None:
        assert self.on_record()["pid"] == service.process.pid
        self.waited.append((service.log, settings.model_source, progress))
        if self.did[-1] == f"start {self.never_ready}":
            self.settings.deployment.unlink()  # by somebody who could not wait
            raise Unreachable("not ready", where="service")

    def end(self, process: Any, settings: Settings) -> None:
        assert settings.home == self.settings.home
        [number] = [number for number, each in enumerate(self.processes) if each.pid == process.pid]
        self.did.append(f"end process {number}")
        self.processes[number].kill()
        self.processes[number].wait()

    def target(self, **changed: object) -> ProcessTarget:
        return ProcessTarget(self.settings.model_copy(update=changed))

    def on_record(self) -> Any:
        return json.loads(self.settings.deployment.read_text())

    def put_on_record(self, **changed: object) -> None:
        self.settings.deployment.write_text(json.dumps(self.on_record() | changed))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A machine on which version 1 is deployed."""
    host = Host(Settings(home=tmp_path, model_source=ModelSource.REGISTRY))
    monkeypatch.setattr(launch, "start", host.start)
    monkeypatch.setattr(launch, "wait_until_ready", host.wait_until_ready)
    monkeypatch.setattr(launch, "end", host.end)
    assert host.target().deploy("m:1", version="1", digest="d1") == FIRST
    assert host.did == ["start m:1"]
    yield host
    for process in host.processes:
        process.kill()
        process.communicate()


def test_what_is_deployed_is_on_record(host: Host) -> None:
    """The process with its start time, by which it is known again, and what it serves."""
    [process] = host.processes
    assert host.on_record() == {
        "pid": process.pid,
        "started": psutil.Process(process.pid).create_time(),
        "url": URL,
        "tag": "m:1",
        "version": "1",
        "digest": "d1",
    }


def test_a_service_serves_the_model_of_its_bento_and_is_waited_for(host: Host) -> None:
    """Whatever the settings say about the model; its log has a name of its own, and the wait is shown."""
    progress: Any = SimpleNamespace()
    ProcessTarget(host.settings, progress).deploy("m:2", version="2", digest="d2")
    assert host.waited[-1] == (Path("deployment.log"), ModelSource.BENTO, progress)


def test_the_same_bento_is_probed_and_left_alone(host: Host) -> None:
    """It is what was deployed before, and the report says that nothing has changed."""
    probed: list[str] = []
    done = host.target().deploy("m:1", version="1", digest="d1", probe=probed.append)
    assert done == Deployment(url=URL, tag="m:1", version="1", digest="d1", before="1", changed=False)
    assert probed == [URL]
    assert host.did == ["start m:1"]


def test_the_bentos_instance_and_the_actor_are_no_reason_to_replace_a_process(host: Host) -> None:
    """A Bento brings its own instance, and whoever deploys it does not change what it answers; any other setting may."""
    assert not host.target(contracts=host.settings.home, actor="ann").deploy("m:1", version="1", digest="d1").changed
    assert host.target(api_keys=SecretStr("a-new-key")).deploy("m:1", version="1", digest="d1").changed


def test_a_process_whose_settings_cannot_be_read_is_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be others: the system keeps the environment of another user's process from us."""

    def denied(_: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "environ", denied)
    assert host.target().deploy("m:1", version="1", digest="d1").changed


@pytest.mark.parametrize(
    ("tag", "digest", "port"), [("m:2", "d1", 3000), ("m:1", "d2", 3000), ("m:1", "d1", 3001), ("m:2", "d2", 3000)]
)
def test_another_bento_content_or_address_replaces_the_process(host: Host, tag: str, digest: str, port: int) -> None:
    """The old process ends before the new one starts, which then is probed at its own address."""
    probed: list[str] = []
    done = host.target(port=port).deploy(tag, version="2", digest=digest, probe=probed.append)
    url = f"http://127.0.0.1:{port}"
    assert done == Deployment(url=url, tag=tag, version="2", digest=digest, before="1", changed=True)
    assert probed == [url]
    assert host.did == ["start m:1", "end process 0", f"start {tag}"]


def _is_gone(host: Host) -> None:
    host.processes[0].kill()
    host.processes[0].wait()


def _is_a_zombie(host: Host) -> None:
    host.processes[0].kill()
    os.waitid(os.P_PID, host.processes[0].pid, os.WEXITED | os.WNOWAIT)


def _has_given_its_id_to_another(host: Host) -> None:
    host.put_on_record(started=host.on_record()["started"] - 60)


def _is_of_another_release(host: Host) -> None:
    host.put_on_record(new="a field of a release to come")


def _is_cut_off(host: Host) -> None:
    host.settings.deployment.write_text("{")


def _is_not_on_record(host: Host) -> None:
    host.settings.deployment.unlink()


@pytest.mark.parametrize(
    "happened",
    [
        _is_gone,
        _is_a_zombie,
        _has_given_its_id_to_another,
        _is_of_another_release,
        _is_cut_off,
        _is_not_on_record,
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_process_that_does_not_run_or_is_not_ours_is_neither_ended_nor_restored(
    host: Host, happened: Any, broken: bool
) -> None:
    """Nothing was deployed before: the same Bento is started again, and if its probe fails, nothing is deployed."""
    happened(host)
    if broken:
        with pytest.raises(DeploymentBroken, match="wrong"):
            host.target().deploy("m:1", version="1", digest="d1", probe=_failing)
        assert host.did == ["start m:1", "start m:1", "end process 1"]
        assert not host.settings.deployment.exists()
    else:
        assert host.target().deploy("m:1", version="1", digest="d1") == FIRST
        assert host.did == ["start m:1", "start m:1"]


def _failing(_: str) -> None:
    raise DeploymentBroken("wrong", where="a probe")


def test_a_bento_that_fails_its_probe_is_replaced_by_the_one_before(host: Host) -> None:
    """The old one starts again and is on record with its version and its content."""
    with pytest.raises(DeploymentBroken, match="wrong"):
        host.target().deploy("m:2", version="2", digest="d2", probe=_failing)
    assert host.did == ["start m:1", "end process 0", "start m:2", "end process 1", "start m:1"]
    record = host.on_record()
    assert record["pid"] == host.processes[-1].pid
    assert [record[name] for name in ("tag", "version", "digest")] == ["m:1", "1", "d1"]


def test_a_bento_that_is_not_ready_in_time_is_replaced_by_the_one_before(host: Host) -> None:
    """It is not probed, and ended only once, even if it is not on record any more."""
    host.never_ready = "m:2"
    with pytest.raises(Unreachable, match="not ready"):
        host.target().deploy("m:2", version="2", digest="d2", probe=lambda _: pytest.fail("probed"))
    assert host.did == ["start m:1", "end process 0", "start m:2", "end process 1", "start m:1"]
    assert host.on_record()["version"] == "1"


def test_what_was_stopped_is_not_on_record(host: Host) -> None:
    """The answer is whether a process was stopped; to stop it again is no error."""
    assert [host.target().stop() for _ in range(2)] == [True, False]
    assert host.did == ["start m:1", "end process 0"]
    assert not host.settings.deployment.exists()
