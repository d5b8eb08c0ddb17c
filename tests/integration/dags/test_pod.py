"""Stages in pods: how a pod is created, followed and removed, by the real operator and client against a stand-in API.

There is no cluster here; see `support.cluster` for what is not tested because of that.
"""

import gc
import json
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from pydantic import SecretStr
from support.cluster import Cluster, ended, serving

from ctcd.airflow.runners import pod
from ctcd.airflow.runners.outcome import Outcome
from ctcd.settings import Settings, StageRunner

pytestmark = pytest.mark.integration

PASSWORD = "hunter2-secret"
COMMAND = ["gate", "--run-id", "f00", "--json"]


class TaskInstance:
    """As much of a task instance as the operator reads."""

    dag_id, task_id, map_index, try_number = "d", "gate", -1, 1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def settings_of(home: Path, **changes: Any) -> Settings:
    return Settings(
        home=home,
        feature_store_url=SecretStr(f"mysql+pymysql://u:{PASSWORD}@db:3306/mlops"),
        stage_runner=StageRunner.KUBERNETES,
        stage_image="ct:1",
        stage_claim="shared",
        **changes,
    )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that the connection `kubernetes_default` leads to."""
    cluster = Cluster()
    with serving(cluster, tmp_path) as kubeconfig:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield cluster


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods have one second to start."""
    monkeypatch.setattr(pod, "START_SECONDS", 1)


def run(home: Path, runner: pod.PodRunner | None = None, **changes: Any) -> Outcome:
    context: Any = {"ti": TaskInstance(), "run_id": "r", "dag": SimpleNamespace()}
    return (runner or pod.PodRunner(settings_of(home, **changes))).run(COMMAND, context)


def test_a_pod_is_followed_to_its_end(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress is logged, also after the connection broke; report and exit code are the command's; the pod is deleted."""
    caplog.set_level(logging.DEBUG)
    whole = 'one\ntwo\nerror: worse\n\n{"a": 1}\n'
    cluster.logs, cluster.end = ["one\n", whole], ended(4)
    assert run(tmp_path) == Outcome(code=4, report='{"a": 1}', error="error: worse")
    said = capsys.readouterr().out
    assert all(f"] {line}" in said for line in ("one", "two", "error: worse"))
    name = cluster.created["pods"]["metadata"]["name"]
    assert name.startswith("ctcd-gate-")
    assert cluster.requests[-1] == f"DELETE /api/v1/namespaces/default/pods/{name}"
    secret = cluster.created["secrets"]
    assert (secret["metadata"]["name"], secret["metadata"]["ownerReferences"][0]["uid"]) == (name, "0-1-2")
    assert PASSWORD in secret["stringData"]["FEATURE_STORE_URL"]
    # Not even in the client's debug log, which has the bodies of requests and answers.
    assert PASSWORD not in json.dumps(cluster.created["pods"]) + caplog.text + said


def test_a_namespace_is_used_everywhere(cluster: Cluster, tmp_path: Path) -> None:
    """Every request is for the namespace of the settings."""
    cluster.logs = ["\n{}\n"]
    assert run(tmp_path, stage_namespace="ml") == Outcome(code=0, report="{}", error="")
    assert {request.split("/")[4] for request in cluster.requests} == {"ml"}


def test_a_pod_that_is_running_keeps_its_secret(cluster: Cluster, tmp_path: Path) -> None:
    """The secret of a pod that an earlier try of the task left running is there already: that is no failure."""
    cluster.logs, cluster.refused = ["\n{}\n"], {"secrets": (409, "secrets already exists")}
    assert run(tmp_path).code == 0


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"refused": {"pods": (403, "pods is forbidden")}}, AirflowFailException, "pods is forbidden"),
        ({"refused": {"secrets": (403, "secrets is forbidden")}}, AirflowFailException, "secrets is forbidden"),
        ({"refused": {"pods": (422, "Pod is invalid")}}, AirflowFailException, "Pod is invalid"),
        ({"refused": {"secrets": (500, "etcd is away")}}, AirflowException, "etcd is away"),
        ({"end": {"phase": "Failed", "reason": "Evicted"}}, AirflowException, "the pod was lost"),
        ({"pending": 1000}, AirflowException, "too long to be scheduled"),
    ],
)
@pytest.mark.usefixtures("short")
def test_only_errors_that_may_pass_are_retried(
    cluster: Cluster, tmp_path: Path, given: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """A refused request fails for good; a failing API, an evicted pod, or one that never starts is retried; none is left."""
    for name, value in given.items():
        setattr(cluster, name, value)
    with pytest.raises(AirflowException, match=words) as caught:
        run(tmp_path)
    assert type(caught.value) is kind
    assert cluster.deleted.is_set() == ("pods" in cluster.created)
    assert PASSWORD not in str(caught.value)


def test_a_command_that_a_signal_ended_has_no_report(cluster: Cluster, tmp_path: Path) -> None:
    """Where the kernel ended the whole container, the last line is no report, and the exit code says so."""
    cluster.logs, cluster.end = ["one\ntwo\n"], ended(137)
    assert run(tmp_path).code == 137


# An interrupted client leaves its connection to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stopped", [True, False])
def test_a_task_that_is_stopped_or_times_out_leaves_no_pod(cluster: Cluster, tmp_path: Path, stopped: bool) -> None:
    """A task deletes its pod when it is stopped, and when its time is over, whatever it does just then."""
    runner = pod.PodRunner(settings_of(tmp_path))

    def interrupt(*_: object) -> None:
        if stopped:
            runner.stop()
        else:
            raise AirflowTaskTimeout("as Airflow raises it")

    # As Airflow does it, in a handler of a signal.
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()
    cluster.logs, cluster.hangs = ["started\nand runs\n"], lambda: signal.pthread_kill(main, signal.SIGUSR1)
    try:
        with pytest.raises((AirflowException, AirflowTaskTimeout)):
            run(tmp_path, runner)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cluster.deleted.is_set()
    gc.collect()  # in this test, where its warning is ignored
