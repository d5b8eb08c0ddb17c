"""Airflow beyond one machine: its workers in docker/compose.yaml, and the pods of its tasks in deploy/kubernetes/airflow."""

import re
from collections.abc import Callable
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient
from support.airflow_home import ROOT
from support.manifests import Manifest, broken_airflow_rules

from ctcd.airflow.defaults import TASKS
from ctcd.deployment.kubernetes import IMAGE, SLUG

FOLDER = ROOT / "deploy" / "kubernetes" / "airflow"
DIGEST = f"registry.example/airflow@sha256:{'a' * 64}"
NAME = f"{SLUG}-airflow"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    return found


def manifest(name: str) -> Manifest:
    found: Manifest = yaml.safe_load((FOLDER / name).read_text().replace(IMAGE, DIGEST))
    return found


def manifests() -> list[Manifest]:
    """Return the resources, with the image that a person puts in."""
    return [manifest(name) for name in manifest("kustomization.yaml")["resources"]]


def of(kind: str, found: list[Manifest]) -> Any:
    return next(each for each in found if each["kind"] == kind)


def task_pod() -> Manifest:
    """Return the pod that the executor makes of the template for a task."""
    base = PodGenerator.deserialize_model_file(str(FOLDER / "pod-template.yaml"))
    pod = PodGenerator.construct_pod(
        dag_id="d",
        task_id="t",
        pod_id="d-t-1",
        try_number=1,
        kube_image=None,  # type: ignore[arg-type] # what its setting is if it names no image
        date=None,
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=None,
        base_worker_pod=base,
        namespace="n",
        scheduler_job_id="1",
    )
    found: Manifest = ApiClient().sanitize_for_serialization(pod)
    filled: Manifest = yaml.safe_load(yaml.safe_dump(found).replace(IMAGE, DIGEST))
    return filled


@pytest.mark.slow
def test_the_workers_take_what_the_scheduler_sends() -> None:
    """Airflow reads the command, broker and volumes are the scheduler's, and no task runs so long that it would come again."""
    worker, scheduler = services()["airflow-worker"], services()["airflow-scheduler"]
    program, *options = worker["command"]
    assert (program, get_parser().parse_args(options).skip_serve_logs) == ("airflow", True)
    assert worker["environment"] == scheduler["environment"]
    assert worker["volumes"] == scheduler["volumes"]
    assert worker["profiles"] == services()["redis"]["profiles"]
    environment = worker["environment"]
    broker = urlsplit(environment["AIRFLOW__CELERY__BROKER_URL"].replace("${REDIS_PASSWORD:?run make up}", "p"))
    assert (broker.scheme, broker.hostname in services(), broker.port) == ("redis", True, 6379)
    seconds = int(environment["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    assert timedelta(seconds=seconds) >= 2 * TASKS["execution_timeout"]


@pytest.mark.slow
def test_the_manifests_keep_the_rules() -> None:
    """No rule is broken by the manifests of the repository, or by the pod that the executor makes of the template."""
    assert broken_airflow_rules(manifests(), manifest("pod-template.yaml")) == []
    assert broken_airflow_rules(manifests(), task_pod()) == []


DEFECTS: list[tuple[str, Callable[[list[Manifest], Manifest], object]]] = [
    ("base: may write to its root", lambda _, task: task["spec"]["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")),
    ("base: no limits of memory", lambda _, task: task["spec"]["containers"][0]["resources"]["limits"].pop("memory")),
    ("is not named by its digest", lambda _, task: task["spec"]["containers"][0].update(image="airflow:latest")),
    ("pod: has a token", lambda _, task: task["spec"].pop("automountServiceAccountToken")),
    ("pod: may run as root", lambda _, task: task["spec"]["securityContext"].pop("runAsUser")),
    ("task: knows Airflow's keys", lambda _, task: task["spec"]["containers"][0]["envFrom"].append({"secretRef": {"name": NAME}})),
    ("task: starts again", lambda _, task: task["spec"].update(restartPolicy="OnFailure")),
    ("task: may run for ever", lambda _, task: task["spec"].pop("activeDeadlineSeconds")),
    ("Pod: ", lambda _, task: task["spec"]["containers"][0].update(imagePullPolicy=["Always"])),
    ("Role: may do something with secrets", lambda all_, _: of("Role", all_)["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})),
    ("api-server: has a token", lambda all_, _: of("Deployment", all_)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].append({"name": "token", "mountPath": "/t"})),
    ("scheduler: no livenessProbe", lambda all_, _: of("Deployment", all_)["spec"]["template"]["spec"]["containers"][1].pop("livenessProbe")),
    ("prepare: keeps capabilities", lambda all_, _: of("Deployment", all_)["spec"]["template"]["spec"]["initContainers"][0].update(securityContext={})),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "plant"), DEFECTS)
def test_each_rule_is_noticed_when_it_is_broken(
    problem: str, plant: Callable[[list[Manifest], Manifest], object]
) -> None:
    """One change breaks one rule; the problem names the object."""
    found, task = manifests(), manifest("pod-template.yaml")
    plant(found, task)
    assert problem in "; ".join(broken_airflow_rules(found, task))


def test_the_executor_fills_in_the_template() -> None:
    """It finds the container `base`, whose image, secret and volumes stay, and adds its labels to ours."""
    template, pod = manifest("pod-template.yaml"), task_pod()
    (container,) = pod["spec"]["containers"]
    assert (container["name"], container["image"]) == ("base", DIGEST)
    assert container["args"][-1] == "airflow.sdk.execution_time.execute_workload"
    assert container["envFrom"] == template["spec"]["containers"][0]["envFrom"]
    assert container["volumeMounts"] == template["spec"]["containers"][0]["volumeMounts"]
    assert pod["metadata"]["labels"].items() >= template["metadata"]["labels"].items()
    assert pod["metadata"]["labels"]["kubernetes_executor"] == "True"
    assert timedelta(seconds=pod["spec"]["activeDeadlineSeconds"]) >= 2 * TASKS["execution_timeout"]


def test_the_scheduler_may_do_what_the_executor_does() -> None:
    """Each call of the Kubernetes API in the executor is one that its role allows, and the role allows no other."""
    package = resources.files("airflow.providers.cncf.kubernetes.executors")
    code = "".join(Path(str(each)).read_text() for each in package.iterdir() if each.name.endswith(".py"))
    calls = set(re.findall(r"\b(create|delete|list|patch|read)_namespaced_pod(_log)?\b", code))
    used = {("pods/log" if log else "pods", "get" if verb == "read" else verb) for verb, log in calls}
    assert "watcher.stream(kube_client.list_namespaced_pod" in code
    allowed = {
        (kind, verb)
        for rule in of("Role", manifests())["rules"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == used | {("pods", "watch")}


def test_what_the_manifests_name_is_there() -> None:
    """Tasks reach the API at the port of its service, claim the volume that is claimed, and have the policy that is theirs."""
    found, template, kustomization = manifests(), manifest("pod-template.yaml"), manifest("kustomization.yaml")
    pod = of("Deployment", found)["spec"]["template"]
    settings, files = kustomization["configMapGenerator"]
    literals = dict(each.split("=", 1) for each in settings["literals"])
    service, variable = of("Service", found), "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
    url = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}/execution/"
    of_the_task = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
    assert literals[variable] == of_the_task[variable] == url
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    policy = of("NetworkPolicy", found)["spec"]
    assert policy["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    assert policy["egress"][1]["to"][0]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    claims = {
        each["persistentVolumeClaim"]["claimName"]
        for spec in (pod["spec"], template["spec"])
        for each in spec["volumes"]
        if "persistentVolumeClaim" in each
    }
    assert claims == {each["metadata"]["name"] for each in found if each["kind"] == "PersistentVolumeClaim"}
    (scheduler,) = [each for each in pod["spec"]["containers"] if each["name"] == "scheduler"]
    mounted = {each["name"]: each["mountPath"] for each in scheduler["volumeMounts"]}
    template_file = literals["AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"]
    assert template_file == f"{mounted['template']}/{files['files'][0]}"
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "template"]
    assert volume["configMap"]["name"] == files["name"]
    binding = of("RoleBinding", found)
    account = of("ServiceAccount", found)["metadata"]["name"]
    assert binding["roleRef"]["name"] == of("Role", found)["metadata"]["name"]
    assert binding["subjects"][0]["name"] == pod["spec"]["serviceAccountName"] == account
