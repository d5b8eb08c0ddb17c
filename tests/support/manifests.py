"""The rules for the Kubernetes manifests, beyond their schema."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it ships no type information

VERSION = "1.31"
Manifest = dict[str, Any]


def broken_rules(manifests: Sequence[Manifest]) -> list[str]:
    """Return the rules that the manifests of one environment break, each with the object that breaks it."""
    return [
        *(problem for each in manifests for problem in _schema(each)),
        *(problem for each in manifests if each["kind"] == "Deployment" for problem in _deployment(each)),
        *_together(manifests),
    ]


def broken_airflow_rules(manifests: Sequence[Manifest], task: Manifest) -> list[str]:
    """Return the rules that the manifests of Airflow break, or the pod of a task, each with the object that breaks it."""
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    return [
        *(problem for each in (*manifests, task) for problem in _schema(each)),
        *_deployment(deployment),
        *_pod(task["spec"]),
        *(
            f"{each['name']}: {problem}"
            for each in (*pod["initContainers"], *task["spec"]["containers"])
            for problem in _contained(each)
        ),
        *_rights(manifests, pod),
        *_of_a_task(task["spec"], pod),
    ]


def _rights(manifests: Sequence[Manifest], pod: Manifest) -> Iterator[str]:
    allowed = {
        (kind, verb)
        for each in manifests
        if each["kind"] == "Role"
        for rule in each["rules"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    if others := {kind for kind, _ in allowed} - {"pods", "pods/log"}:
        yield f"Role: may do something with {', '.join(sorted(others))}"
    tokens = {each["name"] for each in pod["volumes"] if "projected" in each}
    for container in (*pod["initContainers"], *pod["containers"]):
        if tokens & {each["name"] for each in container["volumeMounts"]} and container["name"] != "scheduler":
            yield f"{container['name']}: has a token of the cluster"


def _of_a_task(task: Manifest, pod: Manifest) -> Iterator[str]:
    secrets = [{each["secretRef"]["name"] for each in part["envFrom"] if "secretRef" in each} for part in (
        *pod["containers"], *task["containers"])]  # fmt: skip
    *airflows, of_the_task = secrets
    if of_the_task & set().union(*airflows):
        yield "task: knows Airflow's keys"
    if task["restartPolicy"] != "Never":
        yield "task: starts again by itself"
    if not task.get("activeDeadlineSeconds"):
        yield "task: may run for ever"


def _schema(manifest: Manifest) -> Iterator[str]:
    if problem := _against_the_schema(json.dumps(manifest)):
        yield f"{manifest['kind']}: {problem}"


@cache
def _against_the_schema(text: str) -> str:
    try:
        kubernetes_validate.validate(json.loads(text), VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def _deployment(manifest: Manifest) -> Iterator[str]:
    pod = manifest["spec"]["template"]["spec"]
    yield from _pod(pod)
    if manifest["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "rollout: takes a pod away before the new one is ready"
    for container in pod["containers"]:
        yield from (f"{container['name']}: {problem}" for problem in _container(container))


def _pod(pod: Manifest) -> Iterator[str]:
    if pod.get("automountServiceAccountToken") is not False:
        yield "pod: has a token of the cluster"
    safe = pod.get("securityContext") or {}
    if safe.get("runAsNonRoot") is not True or not safe.get("runAsUser"):
        yield "pod: may run as root"
    if (safe.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "pod: no seccomp profile"


def _container(container: Manifest) -> Iterator[str]:
    yield from _contained(container)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"no {probe}"


def _contained(container: Manifest) -> Iterator[str]:
    if "@sha256:" not in container["image"]:
        yield f"image {container['image']} is not named by its digest"
    safe = container.get("securityContext") or {}
    if safe.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if safe.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root"
    if (safe.get("capabilities") or {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    for part in ("requests", "limits"):
        missing = {"cpu", "memory"} - set((container.get("resources") or {}).get(part) or ())
        if missing:
            yield f"no {part} of {', '.join(sorted(missing))}"
    for variable in container.get("env") or ():
        if any(word in variable["name"] for word in ("KEY", "PASSWORD", "SECRET", "STORE_URL")) and "value" in variable:
            yield f"{variable['name']} is in the manifest"


def _together(manifests: Sequence[Manifest]) -> Iterator[str]:
    kinds = {each["kind"]: each for each in manifests}
    wanted = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    if missing := wanted - set(kinds):
        yield f"there is no {', '.join(sorted(missing))}"
        return
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = {
        "Service": kinds["Service"]["spec"]["selector"],
        "Deployment": kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        "PodDisruptionBudget": kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    for kind, selector in selectors.items():
        if not selector or any(labels.get(name) != value for name, value in selector.items()):
            yield f"{kind}: does not select the pods"
    if kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] != kinds["Deployment"]["metadata"]["name"]:
        yield "HorizontalPodAutoscaler: scales something else"
    if set(kinds["NetworkPolicy"]["spec"]["policyTypes"]) != {"Ingress", "Egress"}:
        yield "NetworkPolicy: leaves a direction open"
