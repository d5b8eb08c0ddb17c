"""The commands that the Kubernetes target runs, recorded by a stand-in for kubectl; no cluster is needed."""

import os
from pathlib import Path

import pytest

from ctcd.deployment.kubernetes import IMAGE, SLUG, VERSION, KubernetesTarget
from ctcd.errors import DeploymentBroken, Unreachable, UsageError
from ctcd.settings import Settings

OLD, NEW = (f"registry.example/api@sha256:{digit * 64}" for digit in "12")
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1 $2" >>asked
[ "$1" != apply ] || cat >applied
if [ -f "fails-$1" ]; then cat "fails-$1" >&2; exit 1; fi
case "$1 $*" in
  kustomize*) printf 'name: slug-set-by-the-deployment\\nimage: image-set-by-the-deployment\\nversion: version-set-by-the-deployment\\n' ;;
  get*image*) cat image ;;
  get*) cat version ;;
esac
"""


class Cluster:
    """What the stand-in answers, and the commands that it received."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "kubectl").write_text(KUBECTL)
        (folder / "kubectl").chmod(0o755)
        self.says()

    def says(self, image: str = OLD, version: str = "v1", **fails: str) -> None:
        (self.folder / "image").write_text(image)
        (self.folder / "version").write_text(version)
        for left in self.folder.glob("fails-*"):
            left.unlink()
        for word, told in fails.items():
            (self.folder / f"fails-{word}").write_text(told)

    def asked(self) -> list[str]:
        path = self.folder / "asked"
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
    return KubernetesTarget(settings, "machine-condition")


def test_an_image_is_rolled_out_and_probed(cluster: Cluster, target: KubernetesTarget) -> None:
    """The manifests hold name, digest and version; once the pods are ready, the address of clients is probed."""
    probed: list[str] = []
    done = target.deploy(NEW, version="2", digest="", probe=probed.append)
    assert (done.before, done.changed, probed) == ("1", True, ["http://api.example"])
    assert (cluster.folder / "applied").read_text() == f"name: machine-condition\nimage: {NEW}\nversion: v2"
    assert cluster.asked()[-2:] == ["apply --filename=-", "rollout status"]


def test_a_failed_probe_undoes_the_rollout(cluster: Cluster, target: KubernetesTarget) -> None:
    """The rollout is undone, and the old pods are waited for."""

    def probe(url: str) -> None:
        raise DeploymentBroken("planted", where=url)

    with pytest.raises(DeploymentBroken, match="planted"):
        target.deploy(NEW, version="2", digest="", probe=probe)
    assert cluster.asked()[-2:] == ["rollout undo", "rollout status"]


def test_pods_that_do_not_get_ready_are_undone(cluster: Cluster, target: KubernetesTarget) -> None:
    """The error holds the message of kubectl."""
    cluster.says(rollout="error: deployment exceeded its progress deadline")
    with pytest.raises(Unreachable, match="progress deadline"):
        target.deploy(NEW, version="2", digest="")
    assert "rollout undo" in cluster.asked()


def test_a_first_version_that_fails_is_removed(cluster: Cluster, target: KubernetesTarget) -> None:
    """Without a previous version the deployment is deleted."""
    cluster.says(image="", version="", rollout="error: timed out")
    with pytest.raises(Unreachable):
        target.deploy(NEW, version="2", digest="")
    assert cluster.asked()[-1] == "delete deployment/machine-condition-api"


def test_a_tag_never_reaches_the_cluster(cluster: Cluster, target: KubernetesTarget) -> None:
    """A tag is refused before kubectl is run."""
    with pytest.raises(UsageError, match="by digest"):
        target.deploy("registry.example/api:latest", version="2", digest="")
    assert cluster.asked() == []


def test_an_unreachable_cluster_and_a_refused_manifest_are_different_errors(
    cluster: Cluster, target: KubernetesTarget
) -> None:
    """The first is worth another try, the second is not."""
    cluster.says(get="The connection to the server 127.0.0.1:6443 was refused")
    with pytest.raises(Unreachable, match="was refused"):
        target.deployed()
    cluster.says(apply="error: error validating data")
    with pytest.raises(UsageError, match="validating"):
        target.deploy(NEW, version="2", digest="")


def test_the_manifests_hold_the_placeholders() -> None:
    """What the command replaces is what the files hold."""
    folder = Path(__file__).parents[3] / "deploy" / "kubernetes"
    text = (folder / "base" / "deployment.yaml").read_text()
    assert text.count(f"image: {IMAGE}\n") == 1
    assert text.count(f"ctcd/model-version: {VERSION}\n") == 2
    names = [
        line.split()[1]
        for path in folder.rglob("*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("  name: ")
    ]
    assert names == [f"{SLUG}-api"] * 6
