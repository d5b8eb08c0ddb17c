"""The order of kubectl's commands; no cluster is at hand, so a stand-in on the path writes down what it is asked."""

import os
from pathlib import Path

import pytest

from ctcd.deployment.kubernetes import PLACEHOLDER, VERSION_PLACEHOLDER, KubernetesTarget
from ctcd.errors import DeploymentBroken, Unreachable, UsageError
from ctcd.settings import Settings

OLD, NEW = (f"registry.example/api@sha256:{digit * 64}" for digit in "12")
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1 $2" >>asked
[ "$1" != apply ] || cat >applied
if [ -f "fails-$1" ]; then cat "fails-$1" >&2; exit 1; fi
case "$1 $*" in
  kustomize*) printf 'image: set-by-the-deployment\\nversion: version-set-by-the-deployment\\n' ;;
  get*image*) cat image ;;
  get*) cat version ;;
esac
"""


class Cluster:
    """What the stand-in says, and what it was asked."""

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
    return KubernetesTarget(Settings(home=tmp_path, deploy_folder=tmp_path / "deploy", deploy_url="http://api.example"))


def test_an_image_is_rolled_out_and_probed(cluster: Cluster, target: KubernetesTarget) -> None:
    """The manifests carry the digest; the probe comes once the pods are ready, at the address that clients use."""
    probed: list[str] = []
    done = target.deploy(NEW, version="2", digest="", probe=probed.append)
    assert (done.before, done.changed, probed) == ("1", True, ["http://api.example"])
    assert (cluster.folder / "applied").read_text() == f"image: {NEW}\nversion: v2"
    assert cluster.asked()[-2:] == ["apply --filename=-", "rollout status"]


def test_a_failed_probe_undoes_the_rollout(cluster: Cluster, target: KubernetesTarget) -> None:
    """And waits until the old pods are back."""

    def probe(url: str) -> None:
        raise DeploymentBroken("planted", where=url)

    with pytest.raises(DeploymentBroken, match="planted"):
        target.deploy(NEW, version="2", digest="", probe=probe)
    assert cluster.asked()[-2:] == ["rollout undo", "rollout status"]


def test_pods_that_do_not_get_ready_are_undone(cluster: Cluster, target: KubernetesTarget) -> None:
    """The error says what kubectl said."""
    cluster.says(rollout="error: deployment exceeded its progress deadline")
    with pytest.raises(Unreachable, match="progress deadline"):
        target.deploy(NEW, version="2", digest="")
    assert "rollout undo" in cluster.asked()


def test_a_first_version_that_fails_is_removed(cluster: Cluster, target: KubernetesTarget) -> None:
    """There is nothing to go back to."""
    cluster.says(image="", version="", rollout="error: timed out")
    with pytest.raises(Unreachable):
        target.deploy(NEW, version="2", digest="")
    assert cluster.asked()[-1] == "delete deployment/credit-score-api"


def test_a_tag_never_reaches_the_cluster(cluster: Cluster, target: KubernetesTarget) -> None:
    """It is refused before kubectl is asked anything."""
    with pytest.raises(UsageError, match="by digest"):
        target.deploy("registry.example/api:latest", version="2", digest="")
    assert cluster.asked() == []


def test_a_cluster_that_does_not_answer_is_told_from_a_manifest_that_it_refuses(
    cluster: Cluster, target: KubernetesTarget
) -> None:
    """The first may pass by itself, the second will not."""
    cluster.says(get="The connection to the server 127.0.0.1:6443 was refused")
    with pytest.raises(Unreachable, match="was refused"):
        target.deployed()
    cluster.says(apply="error: error validating data")
    with pytest.raises(UsageError, match="validating"):
        target.deploy(NEW, version="2", digest="")


def test_the_placeholders_stand_in_the_manifests() -> None:
    """What the verb replaces is what the files have."""
    text = (Path(__file__).parents[3] / "deploy" / "kubernetes" / "base" / "deployment.yaml").read_text()
    assert text.count(f"image: {PLACEHOLDER}\n") == 1
    assert text.count(f"ctcd/model-version: {VERSION_PLACEHOLDER}\n") == 2
