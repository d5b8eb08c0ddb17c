"""Runs a command in a pod, through the operator of Airflow's Kubernetes provider.

Two things are ours. The settings go into a secret that belongs to the pod: the operator takes the values of variables
only as part of the pod's specification. And the report is read from the pod's log: the operator's way, a second
container that it reads a file from, needs another image and the right to run commands in pods.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import ApiException, CoreV1Api, V1Pod
from urllib3.exceptions import HTTPError

from ctcd.airflow.runners.outcome import Outcome, container_variables, required
from ctcd.settings import Settings

CONTAINER = "stage"
SCRIPT = """ctcd "$@" >/tmp/report; code=$?; printf '\\n%s\\n' "$(tr -d '\\n' </tmp/report)"; exit $code"""
"""Prints the report as the last line: a pod's log does not tell standard output from standard error."""
LONGEST_SECONDS = 6 * 3600
"""A pod whose worker was killed is ended by Kubernetes after this time."""
START_SECONDS = 600
REFUSED = frozenset({400, 403, 404, 422})
"""Statuses of requests that would be refused again: invalid, forbidden, in a namespace that does not exist."""


class PodRunner:
    """Runs commands in pods, with the volume of a claim as their home.

    Raises:
        AirflowFailException: no image or no claim is set.
    """

    def __init__(self, settings: Settings) -> None:
        for name in ("stage_image", "stage_claim"):
            required(settings, name)
        self._settings = settings
        self._operator: KubernetesPodOperator | None = None

    def run(self, arguments: Sequence[str], context: Context) -> Outcome:
        """Run a command; see `Runner`."""
        ended: list[Outcome] = []
        self._operator = operator(arguments, self._settings, context["ti"].task_id, ended)
        try:
            self._operator.execute_sync(context)
        except (ApiException, AirflowException, HTTPError) as error:
            # The operator raises for every exit code but 0; which of them are failures is not for it to decide.
            if not ended:
                raise _lost(error) from error
        if not ended:
            raise AirflowException("the pod was deleted before it ended")
        return ended[0]

    def stop(self) -> None:
        """Delete the pod."""
        if self._operator is not None:
            self._operator.on_kill()


def operator(arguments: Sequence[str], settings: Settings, task_id: str, ended: list[Outcome]) -> KubernetesPodOperator:
    """Return the operator that runs a command in a pod, whose outcome is added to `ended`."""
    name = f"ctcd-{arguments[0]}-{secrets.token_hex(4)}"

    class Callbacks(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_creation(*, pod: V1Pod, client: CoreV1Api, **_: Any) -> None:
            create_secret(client, pod, container_variables(settings))

        @staticmethod
        def on_pod_completion(*, pod: V1Pod | None, client: CoreV1Api, **_: Any) -> None:
            ended.extend(outcomes(client, pod))

    return KubernetesPodOperator(
        task_id=task_id,
        name=name,
        random_name_suffix=False,
        namespace=settings.stage_namespace or None,
        pod_template_dict=manifest(arguments, settings, name),
        base_container_name=CONTAINER,
        active_deadline_seconds=LONGEST_SECONDS,
        startup_timeout_seconds=START_SECONDS,
        startup_check_interval_seconds=1,
        container_name_log_prefix_enabled=False,
        log_pod_spec_on_failure=False,
        callbacks=Callbacks,
    )


def manifest(arguments: Sequence[str], settings: Settings, name: str) -> dict[str, Any]:
    """Return what a pod is made of; its settings are those of the secret of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"app.kubernetes.io/name": "ctcd", "app.kubernetes.io/component": "stage"}},
        "spec": {
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


def create_secret(client: CoreV1Api, pod: V1Pod, variables: Mapping[str, str]) -> None:
    """Create the secret that a pod takes its settings from; Kubernetes deletes it together with the pod.

    A pod starts once its secret is there.
    """
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": pod.metadata.name, "ownerReferences": [owner]},
        "immutable": True,
        "stringData": dict(variables),
    }
    try:
        # Not preloaded: the client would write the answer, which holds the values, to its debug log.
        client.create_namespaced_secret(pod.metadata.namespace, body, _preload_content=False)
    except ApiException as error:
        # After a worker was killed, the next try goes on with the pod that is running, which has its secret.
        if error.status != 409:
            raise


def outcomes(client: CoreV1Api, pod: V1Pod | None) -> list[Outcome]:
    """Return how the command of a pod ended: one outcome, or none if the pod was deleted, evicted or lost."""
    statuses = pod.status.container_statuses or () if pod is not None else ()
    ends = [status.state.terminated for status in statuses if status.name == CONTAINER]
    if pod is None or not ends or ends[0] is None:
        return []
    # Not preloaded: the client would parse a log that is JSON and return its representation in Python.
    log = client.read_namespaced_pod_log(
        pod.metadata.name, pod.metadata.namespace, container=CONTAINER, _preload_content=False
    )
    *progress, report = log.data.decode(errors="replace").removesuffix("\n").split("\n")
    error = next((line.strip() for line in reversed(progress) if line.strip()), "")
    return [Outcome(code=ends[0].exit_code, report=report, error=error)]


def _lost(error: Exception) -> AirflowException:
    """Return what a task fails with whose pod was not created, did not start, or was lost."""
    # What the operator raises when it cleans up hides what went wrong before.
    cause = error.__context__ or error if isinstance(error, AirflowException) else error
    if not isinstance(cause, ApiException):
        return AirflowException(f"the pod was lost: {cause}")
    try:
        message = str(json.loads(cause.body)["message"])
    except (TypeError, ValueError, KeyError):
        message = str(cause.reason)
    kind = AirflowFailException if cause.status in REFUSED else AirflowException
    return kind(f"Kubernetes: {message}")
