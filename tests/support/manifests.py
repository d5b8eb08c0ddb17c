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
    if pod.get("automountServiceAccountToken") is not False:
        yield "pod: has a token of the cluster"
    safe = pod.get("securityContext") or {}
    if safe.get("runAsNonRoot") is not True or not safe.get("runAsUser"):
        yield "pod: may run as root"
    if (safe.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "pod: no seccomp profile"
    if manifest["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "rollout: takes a pod away before the new one is ready"
    for container in pod["containers"]:
        yield from (f"{container['name']}: {problem}" for problem in _container(container))


def _container(container: Manifest) -> Iterator[str]:
    if "@sha256:" not in container["image"]:
        yield f"image {container['image']} is not named by its digest"
    safe = container.get("securityContext") or {}
    if safe.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if safe.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root"
    if (safe.get("capabilities") or {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"no {probe}"
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
