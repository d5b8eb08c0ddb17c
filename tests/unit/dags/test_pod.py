"""Pods of stages: what they are made of, against Kubernetes' schemas."""

import json
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it ships none
import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client import ApiClient
from pydantic import SecretStr

from ctcd.airflow.runners import pod
from ctcd.airflow.runners.outcome import container_variables
from ctcd.settings import Settings, StageRunner

PASSWORD = "hunter2-secret"
KUBERNETES = "1.34"
COMMAND = ["training", "trial", "f00", "--index", "1", "--json"]


def settings_of(home: Path, **changes: Any) -> Settings:
    given = {"stage_runner": StageRunner.KUBERNETES, "stage_image": "ct:1", "stage_claim": "shared"} | changes
    return Settings(home=home, feature_store_url=SecretStr(f"mysql+pymysql://u:{PASSWORD}@db:3306/mlops"), **given)


def built(settings: Settings) -> dict[str, Any]:
    """Return the pod that the operator asks the cluster for."""
    operator = pod.operator(COMMAND, settings, "trial", [])
    # A dry run, which leaves out one label, is built without a cluster.
    made: dict[str, Any] = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    return made


def secret_of(settings: Settings) -> dict[str, Any]:
    """Return the secret that is created for a pod of the name `a`."""
    created: list[dict[str, Any]] = []

    class Client:
        def create_namespaced_secret(self, namespace: str, body: dict[str, Any], **_: Any) -> None:
            assert namespace == "ml"
            created.append(body)

    metadata = SimpleNamespace(name="a", namespace="ml", uid="0-1")
    pod.create_secret(Client(), SimpleNamespace(metadata=metadata), container_variables(settings))
    return created[0]


@pytest.mark.slow
def test_pod_and_secret_keep_the_schema(tmp_path: Path) -> None:
    """Pod and secret are what the Kubernetes API accepts; a field of another type is refused."""
    settings = settings_of(tmp_path)
    manifest = built(settings)
    for each in (manifest, secret_of(settings)):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    manifest["spec"]["containers"][0]["args"] = "no list"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.slow
def test_a_pod_is_confined_and_ends_by_itself(tmp_path: Path) -> None:
    """It runs without root, token, capabilities or a writable root file system, once, and not longer than six hours."""
    spec = built(settings_of(tmp_path))["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 6 * 3600)


@pytest.mark.slow
def test_a_pod_gets_the_same_command_and_no_secret_in_its_specification(tmp_path: Path) -> None:
    """Command, settings and home are those of the worker; values of settings are in the secret only, which the pod owns."""
    settings = settings_of(tmp_path)
    manifest = built(settings)
    (container,) = manifest["spec"]["containers"]
    assert container["image"] == "ct:1"
    assert container["args"][-len(COMMAND) :] == COMMAND
    assert container["envFrom"] == [{"secretRef": {"name": manifest["metadata"]["name"]}}]
    assert not container.get("env")
    assert container["volumeMounts"][0] == {"name": "home", "mountPath": str(tmp_path)}
    assert manifest["spec"]["volumes"][0] == {"name": "home", "persistentVolumeClaim": {"claimName": "shared"}}
    assert PASSWORD not in json.dumps(manifest)
    secret = secret_of(settings)
    assert PASSWORD in secret["stringData"]["FEATURE_STORE_URL"]
    assert secret["stringData"]["CTCD_STAGE_CLAIM"] == "shared"
    assert secret["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "0-1"}]


def test_the_instance_and_the_revision_are_those_of_the_image(tmp_path: Path) -> None:
    """A folder of the worker's machine does not exist in a pod, which has its own instance; so it is not told of one."""
    variables = container_variables(settings_of(tmp_path, revision="worker"))
    assert variables.keys().isdisjoint({"CTCD_CONTRACTS", "CTCD_REVISION"})
    assert variables["CTCD_HOME"] == str(tmp_path)


@pytest.mark.parametrize("missing", ["stage_image", "stage_claim"])
def test_a_pod_needs_image_and_claim(tmp_path: Path, missing: str) -> None:
    """Without an image, or a volume for the home, there is no pod; the error names the setting."""
    with pytest.raises(AirflowFailException, match=f"CTCD_{missing.upper()}: must be set"):
        pod.PodRunner(settings_of(tmp_path, **{missing: ""}))


@pytest.mark.parametrize(("code", "report"), [(0, '{"a":\n "b c"}\n'), (4, "{\n}\n"), (6, "")])
def test_the_script_prints_the_report_last(tmp_path: Path, code: int, report: str) -> None:
    """The container's script prints progress, then the report on one line, and ends with the command's exit code."""
    (tmp_path / "given").write_text(report)
    command = tmp_path / "ctcd"
    command.write_text(f'#!/bin/sh\necho "error: $2" >&2\ncat {tmp_path}/given\nexit {code}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    script = pod.SCRIPT.replace("/tmp/report", str(tmp_path / "report"))  # noqa: S108 - of the container
    done = subprocess.run(  # noqa: S603 - our own script
        ["/bin/sh", "-c", script, "sh", "gate", "a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == code

    class Client:
        def read_namespaced_pod_log(self, *_: str, **__: Any) -> SimpleNamespace:
            return SimpleNamespace(data=done.stdout)

    (outcome,) = pod.outcomes(Client(), ended(code))
    assert (outcome.code, outcome.error) == (code, "error: a b")
    assert outcome.report == report.replace("\n", "")


def ended(code: int) -> Any:
    terminated = SimpleNamespace(exit_code=code)
    status = SimpleNamespace(name=pod.CONTAINER, state=SimpleNamespace(terminated=terminated))
    return SimpleNamespace(
        metadata=SimpleNamespace(name="a", namespace="ml"), status=SimpleNamespace(container_statuses=[status])
    )
