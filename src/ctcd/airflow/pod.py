"""Runs a verb in a pod of a Kubernetes cluster, through kubectl: what the stage runner `kubernetes` starts.

A program of its own (`python -m ctcd.airflow.pod VERB ...`), so that a stage is followed, timed and stopped in the
same way wherever it runs: progress comes on standard error, the report on standard output, and the exit code is the verb's.
"""

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from ctcd.deployment.commands import run_command
from ctcd.errors import CtcdError, Unreachable, UsageError
from ctcd.settings import PREFIX, Settings, load_settings

CONTAINER = "stage"
MARK = "--- report ---"
"""Comes between progress and report: a pod's log does not tell standard output from standard error."""
REPORT = "/tmp/report"  # noqa: S108 - of the container, which has one process
SCRIPT = f'ctcd "$@" >{REPORT}; code=$?; echo; echo "{MARK}"; cat {REPORT}; exit $code'
LONGEST_SECONDS = 6 * 3600
"""A pod whose worker was killed ends itself after this time."""
START_SECONDS = 600.0
_POLL_SECONDS = 1.0
_COMMAND_SECONDS = 60.0


def pod(arguments: Sequence[str], settings: Settings, name: str) -> dict[str, Any]:
    """Return the manifest of a pod that runs a verb; its settings are those of the secret of the same name.

    Raises:
        UsageError: the settings name no image, or no claim of the volume with the home.
    """
    for given, variable in ((settings.stage_image, "STAGE_IMAGE"), (settings.stage_claim, "STAGE_CLAIM")):
        if not given:
            raise UsageError("has to be set where stages run in pods", where=f"{PREFIX}{variable}")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "ctcd", "app.kubernetes.io/component": "stage"},
        },
        "spec": {
            "restartPolicy": "Never",  # whether it is tried again is Airflow's decision
            "activeDeadlineSeconds": LONGEST_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": CONTAINER,
                    "image": settings.stage_image,
                    "args": ["sh", "-c", SCRIPT, "sh", *arguments],
                    "envFrom": [{"secretRef": {"name": name}}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "home", "mountPath": str(settings.home.resolve())},
                        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
                    ],
                }
            ],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": settings.stage_claim}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def secret(settings: Settings, name: str, uid: str) -> dict[str, Any]:
    """Return the manifest of the secret with a pod's settings; the cluster removes it together with the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}],
        },
        "immutable": True,
        "stringData": settings.environment_variables(),
    }


def run(arguments: Sequence[str], settings: Settings, say: Callable[[str], None]) -> tuple[int, str]:
    """Run a verb in a pod, which is removed at the end; return its exit code and its report.

    Args:
        arguments: the verb and what it takes.
        settings: image, namespace and claim; all of them are the pod's settings too.
        say: told each line of progress.

    Raises:
        UsageError: a setting is missing, or the cluster refuses the pod.
        Unreachable: the cluster does not answer, or the pod does not start or is lost.
    """
    name = f"ctcd-{arguments[0]}-{secrets.token_hex(4)}"
    kubectl = _Kubectl(settings.stage_namespace)
    made = kubectl.create(pod(arguments, settings, name))
    try:
        kubectl.create(secret(settings, name, made["metadata"]["uid"]))
        lines: list[str] = []
        began = time.monotonic()
        while (code := _exit_code(status := kubectl.status(name))) is None:
            if status.get("phase") == "Running":
                _follow(kubectl.log(name), lines, say)
            elif time.monotonic() - began > START_SECONDS:
                raise Unreachable(f"the pod does not start: {_reason(status)}", where=name)
            time.sleep(_POLL_SECONDS)
        _follow(kubectl.log(name), lines, say)
        return code, "\n".join(lines[lines.index(MARK) + 1 :]) if MARK in lines else ""
    finally:
        kubectl.delete(name)


def _follow(log: Iterator[str], lines: list[str], say: Callable[[str], None]) -> None:
    """Add what a log has beyond the lines that are known: a connection that broke begins again."""
    for number, line in enumerate(log):
        if number >= len(lines):
            if MARK not in lines and line != MARK:
                say(line)
            lines.append(line)


def _exit_code(status: dict[str, Any]) -> int | None:
    """Return the exit code of a pod's container, or None while there is none.

    Raises:
        Unreachable: the pod ended without one: it was evicted, or lost with its node.
    """
    for container in status.get("containerStatuses", ()):
        if "terminated" in container["state"]:
            return int(container["state"]["terminated"]["exitCode"])
    if status.get("phase") in ("Failed", "Unknown"):
        raise Unreachable(f"the pod was lost: {_reason(status)}", where="cluster")
    return None


def _reason(status: dict[str, Any]) -> str:
    waiting = [each["state"].get("waiting", {}).get("reason") for each in status.get("containerStatuses", ())]
    return next((reason for reason in (*waiting, status.get("reason")) if reason), "no reason is given")


class _Kubectl:
    """kubectl's current cluster, and a namespace of it."""

    def __init__(self, namespace: str) -> None:
        self._command = ["kubectl", *([f"--namespace={namespace}"] if namespace else [])]

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        # On standard input: no list of processes shows a secret.
        made: dict[str, Any] = json.loads(self._run("create", "--filename=-", "--output=json", given=manifest))
        return made

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run("get", f"pod/{name}", "--output=json")).get("status", {})
        return found

    def log(self, name: str) -> Iterator[str]:
        command = [*self._command, "logs", "--follow", f"--container={CONTAINER}", f"pod/{name}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603 - our own command
            try:
                for line in process.stdout or ():
                    yield line.rstrip("\n")
            finally:
                process.terminate()

    def delete(self, name: str) -> None:
        self._run("delete", f"pod/{name}", "--ignore-not-found", "--wait=false")

    def _run(self, *arguments: str, given: dict[str, Any] | None = None) -> str:
        done = run_command(
            [*self._command, *arguments],
            seconds=_COMMAND_SECONDS,
            needed_by="stage runner kubernetes",
            server="cluster",
            stdin=None if given is None else json.dumps(given),
        )
        if done.returncode:
            said = " ".join(done.stderr.split()) or "it said nothing"
            refused = "(Forbidden)" in said or "(BadRequest)" in said or "is invalid" in said
            raise (UsageError if refused else Unreachable)(f"kubectl {arguments[0]}: {said}", where="cluster")
        return done.stdout


def _say(line: str, stream: TextIO) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Run a verb in a pod; what is said, and the exit code, are as those of `ctcd`."""
    # So that the pod is removed also when the task is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        code, report = run(arguments, load_settings(), lambda line: _say(line, sys.stderr))
    except CtcdError as error:
        _say(f"error: {error}", sys.stderr)
        return error.exit_code
    _say(report, sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
