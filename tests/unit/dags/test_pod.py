"""Stages in pods: the manifests, against Kubernetes' schemas, and how a pod is followed, with a client that plays a cluster.

No cluster is here: that one takes the manifests and answers as the client does is not tested.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it ships none
import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from pydantic import SecretStr

from ctcd.airflow import pod
from ctcd.airflow.runners import runner
from ctcd.errors import CtcdError, UsageError
from ctcd.settings import Settings, StageRunner

PASSWORD = "hunter2-secret"
KUBERNETES = "1.34"
VERB = ["training", "trial", "f00", "--index", "1", "--json"]
CLIENT = """
import json, pathlib, sys, time
state = pathlib.Path(__file__).parent
arguments = [each for each in sys.argv[1:] if not each.startswith("--")]
with (state / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
plan = json.loads((state / "plan").read_text())
match arguments:
    case ["create"]:
        manifest = json.load(sys.stdin)
        if plan.get("refused"):
            sys.exit(plan["refused"])
        (state / manifest["kind"]).write_text(json.dumps(manifest))
        manifest["metadata"]["uid"] = "0-1-2"
        print(json.dumps(manifest))
    case ["get", _]:
        looks = plan["status"]
        now = looks.pop(0) if len(looks) > 1 else looks[0]
        (state / "plan").write_text(json.dumps(plan))
        print(json.dumps({"status": now}))
    case ["logs", _]:
        logs = plan["logs"]
        print(logs.pop(0) if len(logs) > 1 else logs[0])
        (state / "plan").write_text(json.dumps(plan))
    case ["delete", _]:
        (state / "deleted").touch()
"""
PENDING = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}


def ended(code: int) -> dict[str, Any]:
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"state": {"terminated": {"exitCode": code}}}],
    }


def settings_of(home: Path, **changes: Any) -> Settings:
    given = {"stage_runner": StageRunner.KUBERNETES, "stage_image": "ct:1", "stage_claim": "shared"} | changes
    return Settings(home=home, feature_store_url=SecretStr(f"mysql+pymysql://u:{PASSWORD}@db:3306/mlops"), **given)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `kubectl` that plays a cluster."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    client = folder / "kubectl"
    client.write_text(f"#!{sys.executable} -ES\n{CLIENT}")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(pod, "_POLL_SECONDS", 0.01)
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods have no time to start."""
    monkeypatch.setattr(pod, "START_SECONDS", 0.0)


def plan(cluster: Path, **content: Any) -> None:
    (cluster / "plan").write_text(json.dumps(content))


def run(home: Path, **changes: Any) -> tuple[int, str, list[str]]:
    said: list[str] = []
    code, report = pod.run(VERB, settings_of(home, **changes), said.append)
    return code, report, said


def test_manifests_keep_the_schema(tmp_path: Path) -> None:
    """Pod and secret are what the API of Kubernetes takes; a field of another type is not."""
    settings = settings_of(tmp_path)
    manifest = pod.pod(VERB, settings, "a")
    for each in (manifest, pod.secret(settings, "a", "0-1")):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    manifest["spec"]["containers"][0]["args"] = "no list"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_pod_gets_the_same_verb_and_no_secret_in_its_manifest(tmp_path: Path) -> None:
    """Verb, settings and home are the same as beside Airflow; values of settings are in the secret only."""
    settings = settings_of(tmp_path)
    manifest = pod.pod(VERB, settings, "a")
    (container,) = manifest["spec"]["containers"]
    assert container["args"][-len(VERB) :] == VERB
    assert container["envFrom"] == [{"secretRef": {"name": "a"}}]
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path)
    assert PASSWORD not in json.dumps(manifest)
    values = pod.secret(settings, "a", "0-1")
    assert PASSWORD in values["stringData"]["FEATURE_STORE_URL"]
    assert values["metadata"]["ownerReferences"][0]["uid"] == "0-1"
    command, environment = runner(VERB, settings)
    assert command == [sys.executable, "-m", "ctcd.airflow.pod", *VERB]
    assert environment["CTCD_STAGE_CLAIM"] == "shared"


@pytest.mark.parametrize("missing", ["stage_image", "stage_claim"])
def test_a_pod_needs_image_and_claim(tmp_path: Path, missing: str) -> None:
    """Without an image, or a volume for the home, there is no pod; the setting is named."""
    with pytest.raises(UsageError, match=missing.upper()):
        pod.pod(VERB, settings_of(tmp_path, **{missing: ""}), "a")


def test_the_script_splits_report_from_progress(tmp_path: Path) -> None:
    """The script of the container says progress, the mark and then the report, and ends as the verb does."""
    verb = tmp_path / "ctcd"
    verb.write_text('#!/bin/sh\necho progress >&2\necho "{\\"last\\": \\"$2\\"}"\nexit 4\n')
    verb.chmod(verb.stat().st_mode | stat.S_IXUSR)
    script = pod.SCRIPT.replace(pod.REPORT, str(tmp_path / "report"))
    done = subprocess.run(  # noqa: S603 - our own script
        ["/bin/sh", "-c", script, "sh", "gate", "a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout.split() == ["progress", *pod.MARK.split(), '{"last":', '"a', 'b"}']


def test_a_pod_is_followed_to_its_end(cluster: Path, tmp_path: Path) -> None:
    """Each line of progress is said once, also when the connection breaks; report and exit code are the verb's."""
    whole = f"one\ntwo\n\n{pod.MARK}\n{{\n}}"
    plan(cluster, status=[PENDING, RUNNING, RUNNING, ended(4)], logs=["one", "one\ntwo", whole])
    assert run(tmp_path) == (4, "{\n}", ["one", "two", ""])
    assert (cluster / "deleted").exists()
    assert json.loads((cluster / "Secret").read_text())["stringData"]["CTCD_STAGE_IMAGE"] == "ct:1"
    calls = (cluster / "calls").read_text()
    assert PASSWORD not in calls
    assert "--namespace" not in calls


def test_a_namespace_is_used_everywhere(cluster: Path, tmp_path: Path) -> None:
    """Every call names the namespace of the settings."""
    plan(cluster, status=[ended(0)], logs=[f"{pod.MARK}\n{{}}"])
    assert run(tmp_path, stage_namespace="ml") == (0, "{}", [])
    assert all(line.startswith("--namespace=ml ") for line in (cluster / "calls").read_text().splitlines())


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"refused": "Error from server (Forbidden): pods is forbidden"}, 2, "pods is forbidden"),
        ({"refused": "Unable to connect to the server"}, 6, "Unable to connect"),
        ({"status": [{"phase": "Failed", "reason": "Evicted"}]}, 6, "the pod was lost: Evicted"),
        ({"status": [PENDING]}, 6, "the pod does not start: ContainerCreating"),
    ],
)
@pytest.mark.usefixtures("short")
def test_what_goes_wrong_is_one_line(
    cluster: Path, tmp_path: Path, given: dict[str, Any], code: int, words: str
) -> None:
    """A refused pod fails for good; a cluster that is away, an evicted pod, or one that never starts is tried again."""
    plan(cluster, **given)
    with pytest.raises(CtcdError, match=words) as caught:
        run(tmp_path)
    assert caught.value.exit_code == code
    assert (cluster / "deleted").exists() == ("refused" not in given)


def test_an_error_is_said_as_a_verb_says_it(cluster: Path, tmp_path: Path) -> None:
    """The program ends with the error's exit code, after one line that begins as those of verbs do."""
    plan(cluster, refused="pods is forbidden (Forbidden)")
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "ctcd.airflow.pod", *VERB],
        env=os.environ | settings_of(tmp_path).environment_variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cluster: kubectl create: pods is forbidden (Forbidden)\n"


def test_a_stopped_task_leaves_no_pod(cluster: Path, tmp_path: Path) -> None:
    """SIGTERM, which a stopped task sends, removes the pod."""
    plan(cluster, status=[RUNNING], logs=["one"])
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ctcd.airflow.pod", *VERB],
        env=os.environ | settings_of(tmp_path).environment_variables(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "one\n"
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(20) == 130
    assert time.monotonic() - began < 20
    assert (cluster / "deleted").exists()
