"""How the operator runs a stage, and what follows from its exit code."""

import logging
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from pydantic import SecretStr
from support.instance import CONTRACT
from support.marks import CREDENTIALS, SECRETS, in_texts, unreachable
from support.processes import still_running

from ctcd.airflow import stage
from ctcd.airflow.pools import DEPLOYMENT_QUEUE
from ctcd.airflow.runners import process
from ctcd.airflow.runners.container import ContainerRunner
from ctcd.airflow.runners.outcome import Runner
from ctcd.airflow.runners.pod import PodRunner
from ctcd.airflow.runners.process import ProcessRunner
from ctcd.airflow.stage import ERROR, StageOperator, runner
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
    """Run an operator whose command is a shell script."""
    monkeypatch.setattr(stage, "worker_settings", lambda: settings_of(home))
    monkeypatch.setattr(process, "command", lambda *_: (["/bin/sh", "-c", script], {}))
    instance = Instance()
    operator = StageOperator(task_id="t", command=["v"], **given)
    try:
        return operator.execute({"ti": instance}), instance  # type: ignore[typeddict-item] # as much of it as is read
    except AirflowException as error:
        return error, instance


def test_the_report_is_read_from_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Progress on standard error is logged, the JSON on standard output is returned."""
    report, _ = run(monkeypatch, tmp_path, "echo progress >&2; echo '{\"a\": 1}'")
    assert report == {"a": 1}


@pytest.mark.parametrize(
    ("uri", "ui", "address"),
    [
        (f"http://u:{PASSWORD}@mlflow:5000/", "", "http://mlflow:5000"),
        ("http://mlflow:5000", "https://runs.example/mlflow", "https://runs.example/mlflow"),
        ("", "", None),
    ],
)
def test_a_task_links_to_the_run_and_the_version_in_mlflow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, ui: str, address: str | None
) -> None:
    """What a report names can be opened in MLflow's UI, without a password, where there is one."""
    monkeypatch.setattr(
        stage, "worker_settings", lambda: settings_of(tmp_path, mlflow_tracking_uri=SecretStr(uri), mlflow_ui=ui)
    )
    monkeypatch.setattr(
        process, "command", lambda *_: (["/bin/sh", "-c", """echo '{"run_id": "4f/x", "version": "7"}'"""], {})
    )
    operator = StageOperator(task_id="t", command=["v"])
    operator.execute({"ti": Instance()})  # type: ignore[typeddict-item] # as much of it as is read
    key: Any = None
    found = {each.name: each.get_link(operator, ti_key=key) for each in operator.operator_extra_links}
    run, version = (
        (f"{address}/#/runs/4f%2Fx", f"{address}/#/models/{CONTRACT.name}/versions/7") if address else ("", "")
    )
    assert found == {"MLflow run": run, "Version and verdict": version}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, AirflowException) for code in (1, 6, 137, 143)),
        *((code, AirflowFailException) for code in (2, 3, 4, 5, 7, 125)),
    ],
)
def test_only_errors_that_may_pass_are_retried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    """An unexpected error and a store that is away are retried; a refusal, a wrong setting or missing data are not."""
    error, instance = run(monkeypatch, tmp_path, f"echo 'error: away' >&2; exit {code}")
    assert type(error) is kind
    assert str(error) == instance.pushed[ERROR] == "away"


@pytest.mark.parametrize("ending", ['echo \'{"run_id": "4f", "version": "7"}\'', "exit 6", "exit 3", "kill -9 $$"])
def test_a_task_says_and_leaves_no_secret_of_its_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    """Not in its log at the most talkative level, its error, its XComs, its templates or its links, however it ends."""
    caplog.set_level(logging.DEBUG)
    connection = unreachable()["FEATURE_STORE_URL"].replace("mysql+pymysql", "mariadb")
    for name, value in (CREDENTIALS | unreachable() | {"AIRFLOW_CONN_FEATURE_STORE": connection}).items():
        monkeypatch.setenv(name, value)
    command_of = process.command
    script = f"echo started >&2; {ending}"
    monkeypatch.setattr(process, "command", lambda *given: (["/bin/sh", "-c", script], command_of(*given)[1]))
    operator, instance = StageOperator(task_id="t", command=["v"]), Instance()
    try:
        done: Any = operator.execute({"ti": instance})  # type: ignore[typeddict-item] # as much of it as is read
    except AirflowException as error:
        done = error
    assert "started" in caplog.text
    left = str([done, instance.pushed, *(getattr(operator, each) for each in (*operator.template_fields, "links"))])
    assert in_texts(SECRETS, log=caplog.text, left=left) == []


def test_a_command_that_is_killed_is_retried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that a signal ended may come through the next time."""
    error, _ = run(monkeypatch, tmp_path, "kill -9 $$")
    assert type(error) is AirflowException
    assert "exit code -9" in str(error)


def test_a_refusal_of_the_gate_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an exit code of `success_codes` the report is returned."""
    report, _ = run(monkeypatch, tmp_path, 'echo \'{"reasons": ["worse"]}\'; exit 4', success_codes=(0, 4))
    assert report == {"reasons": ["worse"]}


@pytest.mark.parametrize("script", ["exit 0", "echo '{\"a\": '", "exit 4"])
def test_success_without_a_report_is_a_failure(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that ends its process with exit code 0 has not been trained."""
    error, _ = run(monkeypatch, tmp_path, script, success_codes=(0, 4))
    assert type(error) is AirflowFailException
    assert "and no report" in str(error)


def test_airflow_keeps_its_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stage sees our settings, and none of Airflow's variables."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "f")
    monkeypatch.setenv("_AIRFLOW_X", "x")
    monkeypatch.setenv("AIRFLOW_CONN_FEATURE_STORE", "c")
    _, environment = process.command(["validate"], settings_of(tmp_path))
    assert [name for name in environment if "AIRFLOW" in name] == []
    assert PASSWORD in environment["FEATURE_STORE_URL"]
    assert environment["CTCD_HOME"] == str(tmp_path)


def test_what_acts_on_the_machine_runs_on_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command that is to run on the worker does so where the others run in containers, and always on the same worker."""
    settings = settings_of(tmp_path, stage_runner=StageRunner.DOCKER, stage_image="ct:1")
    monkeypatch.setattr(stage, "worker_settings", lambda: settings)
    seen: list[Settings] = []

    def chosen(given: Settings) -> Runner:
        seen.append(given)
        return ProcessRunner(given)

    monkeypatch.setattr(stage, "runner", chosen)
    monkeypatch.setattr(process, "command", lambda *_: (["/bin/echo", "{}"], {}))
    for on_worker in (True, False):
        operator = StageOperator(task_id="t", command=["v"], on_worker=on_worker)
        assert (operator.queue == DEPLOYMENT_QUEUE) is on_worker
        operator.execute({"ti": Instance()})  # type: ignore[typeddict-item] # a context holds more than a stage reads
    assert [given.stage_runner for given in seen] == [StageRunner.SUBPROCESS, StageRunner.DOCKER]


def test_the_settings_choose_the_runner(tmp_path: Path) -> None:
    """Each value of the setting has a runner of its own."""
    given = {"stage_image": "ct:1", "stage_claim": "shared"}
    chosen = {each: type(runner(settings_of(tmp_path, stage_runner=each, **given))) for each in StageRunner}
    assert chosen == {
        StageRunner.SUBPROCESS: ProcessRunner,
        StageRunner.DOCKER: ContainerRunner,
        StageRunner.KUBERNETES: PodRunner,
    }


SILENT = "exec sleep 30 2>&-"


@pytest.mark.parametrize("script", ["exec sleep 30", SILENT])
def test_a_stage_ends_with_its_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """A task whose supervisor was killed is started again elsewhere: what it runs does not go on, even if it is silent."""
    parents, waited = iter([1234]), threading.Event()
    wait = subprocess.Popen.wait

    def noted(of: "subprocess.Popen[str]", timeout: float | None = None) -> int:
        waited.set()
        return wait(of, timeout)

    def parent() -> int:
        # Of a silent one not before there is nothing left to do but to wait for it, however slow this machine is.
        return next(parents, 1 if waited.is_set() or script != SILENT else 1234)

    monkeypatch.setattr(process, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(subprocess.Popen, "wait", noted)
    monkeypatch.setattr(os, "getppid", parent)
    error, _ = run(monkeypatch, tmp_path, script)
    assert type(error) is AirflowException
    assert f"exit code -{signal.SIGTERM.value}" in str(error)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_stage_without_its_worker_is_asked_once_to_end_and_then_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command that is ending in order is not disturbed; one that does not end is killed with all that it started."""
    ready, asked, parents = tmp_path / "ready", tmp_path / "asked", iter([1234])
    monkeypatch.setattr(process, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(process, "KILL_SECONDS", 0.5)
    monkeypatch.setattr(os, "getppid", lambda: next(parents, 1 if ready.exists() else 1234))
    # Without children, whose end the shell would report; and it ends by itself if it is not killed.
    until = "i=0; while [ $i -lt 5000000 ]; do i=$((i+1)); done"
    script = f"trap 'echo asked >> {asked}' TERM; : > {ready}; {until}"
    error, _ = run(monkeypatch, tmp_path, script)
    assert f"exit code -{signal.SIGKILL.value}" in str(error)
    assert asked.read_text() == "asked\n"


def test_a_stage_that_is_stopped_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task that runs out of time, or is stopped, leaves no process behind, whatever it was doing."""
    child = tmp_path / "child"

    class OutOfTime(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "started":
                raise AirflowTaskTimeout("as Airflow raises it, whatever the task does just then")

    script = f"sleep 300 & echo $! > {child}; echo started >&2; wait"
    monkeypatch.setattr(stage, "worker_settings", lambda: settings_of(tmp_path))
    monkeypatch.setattr(process, "command", lambda *_: (["/bin/sh", "-c", script], {}))
    operator = StageOperator(task_id="t", command=["v"])
    logger = logging.getLogger("a stage that is stopped")
    logger.addHandler(OutOfTime())
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(process, "logger", logger)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute({"ti": Instance()})  # type: ignore[typeddict-item] # a context holds more than a stage reads
    started = int(child.read_text())
    with suppress(psutil.NoSuchProcess):
        assert not still_running([psutil.Process(started)], 10)
