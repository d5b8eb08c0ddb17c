"""How a stage is run and what becomes of its exit code."""

import logging
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from pydantic import SecretStr
from support.processes import still_running

from ctcd.airflow import stage
from ctcd.airflow.runners import runner
from ctcd.airflow.stage import ERROR, StageOperator
from ctcd.settings import Settings, StageRunner

PASSWORD = "hunter2-secret"


class Instance:
    """Stands for a task instance: keeps what is pushed."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def settings_of(home: Path, **changes: Any) -> Settings:
    return Settings(home=home, feature_store_url=SecretStr(f"mysql+pymysql://u:{PASSWORD}@db:3306/mlops"), **changes)


def run(monkeypatch: pytest.MonkeyPatch, home: Path, script: str, **given: Any) -> tuple[Any, Instance]:
    """Run an operator whose verb is a shell script."""
    monkeypatch.setattr(stage, "worker_settings", lambda: settings_of(home))
    monkeypatch.setattr(stage, "runner", lambda *_: (["/bin/sh", "-c", script], {}))
    instance = Instance()
    operator = StageOperator(task_id="t", verb=["v"], **given)
    try:
        return operator.execute({"ti": instance}), instance  # type: ignore[typeddict-item] # as much of it as is read
    except AirflowException as error:
        return error, instance


def test_the_report_is_what_stands_on_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Progress on standard error is logged, the JSON on standard output is returned."""
    report, _ = run(monkeypatch, tmp_path, "echo progress >&2; echo '{\"a\": 1}'")
    assert report == {"a": 1}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, AirflowException) for code in (1, 6, 125, 137, 143)),
        *((code, AirflowFailException) for code in (2, 3, 4, 5, 7)),
    ],
)
def test_only_what_may_pass_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    """An unexpected error and a store that is away are retried; a refusal, a wrong setting or missing data are not."""
    error, instance = run(monkeypatch, tmp_path, f"echo 'error: away' >&2; exit {code}")
    assert type(error) is kind
    assert str(error) == instance.pushed[ERROR] == "away"


def test_a_verb_that_is_killed_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that a signal ended may come through the next time."""
    error, _ = run(monkeypatch, tmp_path, "kill -9 $$")
    assert type(error) is AirflowException
    assert "exit code -9" in str(error)


def test_an_answer_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An exit code that is declared as done returns the report: a refusal of the gate."""
    report, _ = run(monkeypatch, tmp_path, 'echo \'{"reasons": ["worse"]}\'; exit 4', done=(0, 4))
    assert report == {"reasons": ["worse"]}


def test_airflow_keeps_its_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stage sees our settings, and none of Airflow's variables."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "f")
    monkeypatch.setenv("_AIRFLOW_X", "x")
    monkeypatch.setenv("AIRFLOW_CONN_FEATURE_STORE", "c")
    _, environment = runner(["validate"], settings_of(tmp_path))
    assert [name for name in environment if "AIRFLOW" in name] == []
    assert PASSWORD in environment["FEATURE_STORE_URL"]
    assert environment["CTCD_HOME"] == str(tmp_path)


def test_a_container_gets_the_same_verb_and_no_secret_in_its_command(tmp_path: Path) -> None:
    """In Docker the verb, the settings and the home are the same; values of variables are not in the command line."""
    settings = settings_of(tmp_path, stage_runner=StageRunner.DOCKER, stage_image="ct:1")
    command, environment = runner(["training", "trial", "f00", "--index", "1"], settings)
    image = command.index("ct:1")
    assert command[image + 1 :] == ["ctcd", "training", "trial", "f00", "--index", "1"]
    assert f"--volume={tmp_path}:{tmp_path}" in command[:image]
    assert {"--env=FEATURE_STORE_URL", "--env=MLFLOW_TRACKING_URI", "--env=CTCD_SEED"} <= set(command)
    assert PASSWORD not in " ".join(command)
    assert PASSWORD in environment["FEATURE_STORE_URL"]


def test_a_container_needs_an_image(tmp_path: Path) -> None:
    """Without an image the task fails at once, naming the setting."""
    with pytest.raises(AirflowFailException, match="CTCD_STAGE_IMAGE"):
        runner(["validate"], settings_of(tmp_path, stage_runner=StageRunner.DOCKER))


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_worker_in_a_container_shares_the_volume_of_its_home(tmp_path: Path, below: str) -> None:
    """Where Docker does not know the home's folder, the named volume is mounted instead."""
    volume = f"work:{tmp_path}"
    settings = settings_of(tmp_path / below, stage_runner=StageRunner.DOCKER, stage_image="ct:1", stage_volume=volume)
    command, _ = runner(["validate"], settings)
    assert [word for word in command if word.startswith("--volume")] == [f"--volume={volume}"]


@pytest.mark.parametrize("volume", ["work", "work:", "work:/elsewhere", "work:relative"])
def test_a_volume_without_the_home_is_refused(tmp_path: Path, volume: str) -> None:
    """A stage in it would find an empty home; the setting is named, with its value."""
    settings = settings_of(tmp_path, stage_runner=StageRunner.DOCKER, stage_image="ct:1", stage_volume=volume)
    with pytest.raises(AirflowFailException, match=f"CTCD_STAGE_VOLUME: '{volume}'"):
        runner(["validate"], settings)


def test_a_container_is_run_by_dockers_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The operator runs the client that is on the PATH, with the values of the variables that it names."""
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text('#!/bin/sh\nprintf \'{"seed": "%s", "last": "%s"}\' "$CTCD_SEED" "$(eval echo \\${$#})"\n')
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    settings = settings_of(tmp_path, stage_runner=StageRunner.DOCKER, stage_image="ct:1", seed=7)
    monkeypatch.setattr(stage, "worker_settings", lambda: settings)
    report = StageOperator(task_id="t", verb=["validate"]).execute({"ti": Instance()})  # type: ignore[typeddict-item] # a context holds more than a stage reads
    assert report == {"seed": "7", "last": "--json"}


def test_what_acts_on_the_machine_runs_beside_airflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stage that is to run beside Airflow does so where the others run in containers."""
    settings = settings_of(tmp_path, stage_runner=StageRunner.DOCKER, stage_image="ct:1")
    monkeypatch.setattr(stage, "worker_settings", lambda: settings)
    seen: list[StageRunner] = []

    def kept(_: object, given: Settings) -> tuple[list[str], dict[str, str]]:
        seen.append(given.stage_runner)
        return ["/bin/echo", "{}"], {}

    monkeypatch.setattr(stage, "runner", kept)
    for beside in (True, False):
        StageOperator(task_id="t", verb=["v"], beside=beside).execute({"ti": Instance()})  # type: ignore[typeddict-item] # a context holds more than a stage reads
    assert seen == [StageRunner.SUBPROCESS, StageRunner.DOCKER]


def test_a_stage_that_is_stopped_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task that runs out of time, or is stopped, leaves no process behind, whatever it was doing."""
    child = tmp_path / "child"

    class OutOfTime(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "started":
                raise AirflowTaskTimeout("as Airflow raises it, whatever the task does just then")

    script = f"sleep 300 & echo $! > {child}; echo started >&2; wait"
    monkeypatch.setattr(stage, "worker_settings", lambda: settings_of(tmp_path))
    monkeypatch.setattr(stage, "runner", lambda *_: (["/bin/sh", "-c", script], {}))
    operator = StageOperator(task_id="t", verb=["v"])
    logger = logging.getLogger("a stage that is stopped")
    logger.addHandler(OutOfTime())
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(StageOperator, "log", logger)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute({"ti": Instance()})  # type: ignore[typeddict-item] # a context holds more than a stage reads
    started = int(child.read_text())
    with suppress(psutil.NoSuchProcess):
        assert not still_running([psutil.Process(started)], 10)
