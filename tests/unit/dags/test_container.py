"""Containers of stages, through a client of Docker that sends nothing; `tests/containers` runs them on a real one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.providers.docker.hooks.docker import DockerHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from docker import APIClient  # type: ignore[attr-defined] # mypy finds our folder
from docker.errors import APIError, ImageNotFound  # type: ignore[import-not-found] # as above
from pydantic import SecretStr

from ctcd.airflow.runners.container import ContainerRunner
from ctcd.airflow.runners.outcome import Outcome
from ctcd.settings import Settings, StageRunner

PASSWORD = "hunter2-secret"
COMMAND = ["training", "trial", "f00", "--index", "1", "--json"]


class Client(APIClient):  # type: ignore[misc] # as above
    """Builds requests as Docker's client does, and answers them itself: no unit test needs a Docker."""

    def __init__(self) -> None:
        super().__init__(base_url="http://127.0.0.1:9", version="1.41")
        self.config: dict[str, Any] = {}
        self.calls: list[str] = []
        self.output: list[tuple[bytes | None, bytes | None]] = []
        self.code = 0
        self.missing = False
        self.broken = False

    def create_container_from_config(self, config: dict[str, Any], *_: Any) -> dict[str, str]:
        if self.missing:
            self.missing = False
            raise ImageNotFound("no such image")
        self.config = config
        return {"Id": "c0"}

    def pull(self, image: str) -> None:
        self.calls.append(f"pull {image}")

    def events(self, **_: Any) -> Iterator[dict[str, Any]]:
        return iter([{"Actor": {"Attributes": {"exitCode": str(self.code)}}}])

    def attach(self, *_: Any, **__: Any) -> Iterator[tuple[bytes | None, bytes | None]]:
        return iter(self.output)

    def start(self, container: str) -> None:
        self.calls.append(f"start {container}")
        if self.broken:
            raise APIError("no such network")

    def stop(self, container: str, **_: Any) -> None:
        self.calls.append(f"stop {container}")
        raise APIError("it has ended")

    def remove_container(self, container: str, **_: Any) -> None:
        self.calls.append(f"remove {container}")


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Client:
    """The client that the provider's hook gives."""
    client = Client()
    monkeypatch.setattr(DockerHook, "api_client", client)
    return client


def settings_of(home: Path, **changes: Any) -> Settings:
    given = {"stage_runner": StageRunner.DOCKER, "stage_image": "ct:1"} | changes
    return Settings(home=home, feature_store_url=SecretStr(f"mysql+pymysql://u:{PASSWORD}@db:3306/mlops"), **given)


def run(home: Path, **changes: Any) -> Outcome:
    return ContainerRunner(settings_of(home, **changes)).run(COMMAND, {})


def test_a_container_is_confined_and_removed_by_docker(docker: Client, tmp_path: Path) -> None:
    """Its root is read-only, it has no capabilities and gets none, and Docker removes it even if the worker is killed."""
    run(tmp_path, stage_network="work")
    host = docker.config["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Tmpfs"], host["Init"]) == (True, {"/tmp": ""}, True)  # noqa: S108 - of the container
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert (host["AutoRemove"], host["NetworkMode"]) == (True, "work")
    assert "Privileged" not in host


def test_a_container_gets_the_same_command_and_no_secret_in_it(docker: Client, tmp_path: Path) -> None:
    """Command, settings, home and user are those of the worker; values of settings are in the environment only."""
    run(tmp_path)
    assert docker.config["Cmd"] == ["ctcd", *COMMAND]
    assert docker.config["HostConfig"]["Binds"] == [f"{tmp_path}:{tmp_path}"]
    assert docker.config["User"] == f"{tmp_path.stat().st_uid}:{tmp_path.stat().st_gid}"
    variables = dict(each.split("=", 1) for each in docker.config["Env"])
    assert PASSWORD in variables.pop("FEATURE_STORE_URL")
    assert {"MLFLOW_TRACKING_URI", "CTCD_SEED"} <= variables.keys()
    assert [name for name in variables if "AIRFLOW" in name] == []
    assert PASSWORD not in json.dumps(docker.config | {"Env": variables})


def test_report_and_progress_are_told_apart(docker: Client, tmp_path: Path) -> None:
    """Standard output is the report, standard error is progress, however both are cut into pieces."""
    docker.output = [(None, b"one\ntw"), (b'{"a": "\xc3', None), (None, b"o\n\nerror: \xc3"), (b'\xa9"}', b"\xa9\n")]
    docker.code = 4
    assert run(tmp_path) == Outcome(code=4, report='{"a": "é"}', error="error: é")
    docker.output = [(None, b"killed, without an end of line")]
    assert run(tmp_path).error == "killed, without an end of line"


def test_an_image_that_is_missing_is_pulled(docker: Client, tmp_path: Path) -> None:
    """The image is pulled once, and the container created from it."""
    docker.missing = True
    assert run(tmp_path).code == 0
    assert docker.calls == ["pull ct:1", "start c0", "stop c0", "remove c0"]


def test_a_container_that_does_not_start_is_removed_and_retried(docker: Client, tmp_path: Path) -> None:
    """What Docker refuses may be mended by the next try; nothing is left of the container."""
    docker.broken = True
    with pytest.raises(AirflowException, match="no such network") as caught:
        run(tmp_path)
    assert type(caught.value) is AirflowException
    assert docker.calls[-1] == "remove c0"


def test_a_container_needs_an_image(tmp_path: Path) -> None:
    """Without an image the task fails at once; the error names the setting."""
    with pytest.raises(AirflowFailException, match="CTCD_STAGE_IMAGE: must be set"):
        ContainerRunner(settings_of(tmp_path, stage_image=""))


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_worker_in_a_container_shares_the_volume_of_its_home(docker: Client, tmp_path: Path, below: str) -> None:
    """Where Docker does not know the home's folder, the named volume is mounted instead."""
    run(tmp_path / below, stage_volume=f"work:{tmp_path}")
    assert docker.config["HostConfig"]["Binds"] == [f"work:{tmp_path}"]


@pytest.mark.parametrize("volume", ["work", "work:", "work:/elsewhere", "work:relative"])
def test_a_volume_without_the_home_is_refused(tmp_path: Path, volume: str) -> None:
    """A stage in it would find an empty home; the error names the setting and its value."""
    with pytest.raises(AirflowFailException, match=f"CTCD_STAGE_VOLUME: '{volume}'"):
        ContainerRunner(settings_of(tmp_path, stage_volume=volume))
