"""The rules for the manifests: the base keeps them, and each planted defect breaks one."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.manifests import Manifest, broken_rules

from ctcd.deployment.kubernetes import SLUG

BASE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "base"
LABELS = {"app.kubernetes.io/name": SLUG, "app.kubernetes.io/component": "api"}


def resources() -> list[Manifest]:
    """Return the base with what kustomize and the command would add; tests/containers has kubectl render it."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    found: list[Manifest] = [yaml.safe_load((BASE / name).read_text()) for name in kustomization["resources"]]
    assert kustomization["labels"][0]["pairs"] == LABELS
    by_kind = {each["kind"]: each for each in found}
    spec = by_kind["Deployment"]["spec"]
    spec["template"]["metadata"]["labels"] |= LABELS
    spec["selector"] = {"matchLabels": LABELS}
    spec["template"]["spec"]["containers"][0]["image"] = f"api@sha256:{'a' * 64}"
    by_kind["Service"]["spec"]["selector"] = LABELS
    by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] = LABELS
    by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] = LABELS
    return found


def of(kind: str, found: list[Manifest]) -> Any:
    return next(each for each in found if each["kind"] == kind)


def container(found: list[Manifest]) -> Any:
    return of("Deployment", found)["spec"]["template"]["spec"]["containers"][0]


def test_the_base_keeps_the_rules() -> None:
    """No rule is broken by the manifests of the repository."""
    assert broken_rules(resources()) == []


DEFECTS: list[tuple[str, Callable[[list[Manifest]], object]]] = [
    ("not named by its digest", lambda all_: container(all_).update(image="api:latest")),
    ("may gain privileges", lambda all_: container(all_)["securityContext"].pop("allowPrivilegeEscalation")),
    ("may write to its root", lambda all_: container(all_)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("keeps capabilities", lambda all_: container(all_)["securityContext"].pop("capabilities")),
    ("no readinessProbe", lambda all_: container(all_).pop("readinessProbe")),
    ("no livenessProbe", lambda all_: container(all_).pop("livenessProbe")),
    ("no limits of memory", lambda all_: container(all_)["resources"]["limits"].pop("memory")),
    ("no requests of cpu, memory", lambda all_: container(all_)["resources"].pop("requests")),
    ("API_KEYS is in", lambda all_: container(all_)["env"].append({"name": "CTCD_API_KEYS", "value": "x"})),
    ("may run as root", lambda all_: of("Deployment", all_)["spec"]["template"]["spec"]["securityContext"].pop("runAsUser")),
    ("no seccomp", lambda all_: of("Deployment", all_)["spec"]["template"]["spec"]["securityContext"].pop("seccompProfile")),
    ("token", lambda all_: of("Deployment", all_)["spec"]["template"]["spec"].pop("automountServiceAccountToken")),
    ("takes a pod away", lambda all_: of("Deployment", all_)["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    ("there is no PodDisruptionBudget", lambda all_: all_.remove(of("PodDisruptionBudget", all_))),
    ("there is no NetworkPolicy", lambda all_: all_.remove(of("NetworkPolicy", all_))),
    ("Service: does not select", lambda all_: of("Service", all_)["spec"].update(selector={"app": "other"})),
    ("NetworkPolicy: does not select", lambda all_: of("NetworkPolicy", all_)["spec"]["podSelector"].update(matchLabels={})),
    ("leaves a direction open", lambda all_: of("NetworkPolicy", all_)["spec"].update(policyTypes=["Ingress"])),
    ("scales something else", lambda all_: of("HorizontalPodAutoscaler", all_)["spec"]["scaleTargetRef"].update(name="x")),
    ("Deployment: ", lambda all_: of("Deployment", all_)["spec"].update(replica=3)),
    ("Deployment: ", lambda all_: of("Deployment", all_)["metadata"]["labels"].update({"ctcd/model-version": 7})),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "plant"), DEFECTS, ids=[problem for problem, _ in DEFECTS])
def test_a_planted_defect_is_reported(problem: str, plant: Callable[[list[Manifest]], object]) -> None:
    """One change breaks one rule."""
    found = copy.deepcopy(resources())
    plant(found)
    assert problem in "; ".join(broken_rules(found))
