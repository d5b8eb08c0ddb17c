"""The order of kubectl's commands, as a fake kubectl on the path records them: no cluster is needed."""

import os
from pathlib import Path

import pytest
from support.instance import CONTRACT

from ctcd.deployment.kubernetes import IMAGE, SLUG, VERSION, KubernetesTarget, render
from ctcd.errors import DeploymentBroken, Unreachable, UsageError
from ctcd.settings import Environment, Settings

OLD, NEW = (f"registry.example/api@sha256:{digit * 64}" for digit in "12")
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1 $2" >>calls
[ "$1" != apply ] || cat >applied
if [ -f "fails-$1" ]; then cat "fails-$1" >&2; exit 1; fi
case "$1 $*" in
  kustomize*) printf 'name: slug-set-by-the-deployment-api\\nimage: image-set-by-the-deployment\\nversion: version-set-by-the-deployment\\n' ;;
  get*image*) cat image ;;
  get*) cat version ;;
esac
"""


class Cluster:
    """What the fake kubectl answers, and how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "kubectl").write_text(KUBECTL)
        (folder / "kubectl").chmod(0o755)
        self.answers()

    def answers(self, image: str = OLD, version: str = "v1", **fails: str) -> None:
        (self.folder / "image").write_text(image)
        (self.folder / "version").write_text(version)
        for left in self.folder.glob("fails-*"):
            left.unlink()
        for command, message in fails.items():
            (self.folder / f"fails-{command}").write_text(message)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return Cluster(folder)


@pytest.fixture
def target(tmp_path: Path) -> KubernetesTarget:
    base = tmp_path / "deploy" / "kubernetes" / "base"
    base.mkdir(parents=True)
    (base / "kustomization.yaml").touch()
    settings = Settings(home=tmp_path, deploy_folder=tmp_path / "deploy", deploy_url="http://api.example")
    return KubernetesTarget(settings, CONTRACT.slug)


def test_an_image_is_rolled_out_and_probed(cluster: Cluster, target: KubernetesTarget) -> None:
    """The manifests carry the digest; the probe comes once the pods are ready, at the address that clients use."""
    probed: list[str] = []
    done = target.deploy(NEW, version="2", digest="", probe=probed.append)
    assert (done.before, done.changed, probed) == ("1", True, ["http://api.example"])
    assert (cluster.folder / "applied").read_text() == f"name: {CONTRACT.slug}-api\nimage: {NEW}\nversion: v2"
    assert cluster.calls()[-2:] == ["apply --filename=-", "rollout status"]


@pytest.mark.parametrize("environment", Environment)
def test_each_environment_has_its_own_manifests(
    cluster: Cluster, target: KubernetesTarget, environment: Environment
) -> None:
    """Staging and production add to the base; elsewhere it is used as it is."""
    folder = target._settings.deploy_folder / "kubernetes"
    for name in ("staging", "production"):
        (folder / "overlays" / name).mkdir(parents=True)
        (folder / "overlays" / name / "kustomization.yaml").touch()
    render(target._settings.model_copy(update={"environment": environment}), "slug", NEW, "2")
    own = environment in (Environment.STAGING, Environment.PRODUCTION)
    assert cluster.calls() == [f"kustomize {folder / (f'overlays/{environment.value}' if own else 'base')}"]


def test_a_failed_probe_undoes_the_rollout(cluster: Cluster, target: KubernetesTarget) -> None:
    """The old pods are waited for, and the error is that of the probe."""

    def probe(url: str) -> None:
        raise DeploymentBroken("injected", where=url)

    with pytest.raises(DeploymentBroken, match="injected"):
        target.deploy(NEW, version="2", digest="", probe=probe)
    assert cluster.calls()[-2:] == ["rollout undo", "rollout status"]


def test_the_image_that_is_in_place_is_not_undone(cluster: Cluster, target: KubernetesTarget) -> None:
    """If it fails its probes when it is deployed again, the image before it is not brought back: nothing was rolled out."""
    cluster.answers(image=NEW, version="v2")

    def probe(url: str) -> None:
        raise DeploymentBroken("injected", where=url)

    with pytest.raises(DeploymentBroken, match="injected"):
        target.deploy(NEW, version="2", digest="", probe=probe)
    assert "rollout undo" not in cluster.calls()


def test_a_rollout_whose_pods_are_not_ready_is_undone(cluster: Cluster, target: KubernetesTarget) -> None:
    """The error holds kubectl's message."""
    cluster.answers(rollout="error: deployment exceeded its progress deadline")
    with pytest.raises(Unreachable, match="progress deadline"):
        target.deploy(NEW, version="2", digest="")
    assert "rollout undo" in cluster.calls()


def test_a_first_version_that_fails_is_removed(cluster: Cluster, target: KubernetesTarget) -> None:
    """There is nothing to go back to."""
    cluster.answers(image="", version="", rollout="error: timed out")
    with pytest.raises(Unreachable):
        target.deploy(NEW, version="2", digest="")
    assert cluster.calls()[-1] == f"delete deployment/{CONTRACT.slug}-api"


def test_a_tag_never_reaches_the_cluster(cluster: Cluster, target: KubernetesTarget) -> None:
    """It is refused before kubectl is called."""
    with pytest.raises(UsageError, match="by digest"):
        target.deploy("registry.example/api:latest", version="2", digest="")
    assert cluster.calls() == []


def test_a_cluster_that_does_not_answer_is_distinguished_from_a_manifest_that_it_refuses(
    cluster: Cluster, target: KubernetesTarget
) -> None:
    """Trying again may help with the first, not with the second."""
    cluster.answers(get="The connection to the server 127.0.0.1:6443 was refused")
    with pytest.raises(Unreachable, match="was refused"):
        target.deployed()
    cluster.answers(apply="error: error validating data")
    with pytest.raises(UsageError, match="validating"):
        target.deploy(NEW, version="2", digest="")


def test_a_manifest_without_a_placeholder_is_refused(cluster: Cluster, target: KubernetesTarget) -> None:
    """The error names the missing placeholder, and nothing is applied."""
    program = cluster.folder / "kubectl"
    text = program.read_text()
    for placeholder in (IMAGE, VERSION, SLUG):
        program.write_text(text.replace(placeholder, "fixed"))
        with pytest.raises(UsageError, match=placeholder):
            target.deploy(NEW, version="2", digest="")
    assert not (cluster.folder / "applied").exists()


def test_the_manifests_hold_the_placeholders() -> None:
    """What a deployment replaces is what the files hold."""
    folder = Path(__file__).parents[3] / "deploy" / "kubernetes"
    text = (folder / "base" / "deployment.yaml").read_text()
    assert text.count(f"image: {IMAGE}\n") == 1
    assert text.count(f"ctcd/model-version: {VERSION}\n") == 2
    names = [
        line.split()[1]
        for part in ("base", "overlays")  # Airflow is no deployment of a version
        for path in (folder / part).rglob("*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("  name: ")
    ]
    assert names == [f"{SLUG}-api"] * 6
