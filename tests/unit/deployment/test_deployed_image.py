"""What runs is the digest that was verified: on every target that runs images, in a deployment and in a rollback.

No marked secret is in what Docker and kubectl are told, or in a file.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import yaml
from pydantic import SecretStr
from support.marks import API_KEY, METRICS_KEY, SECRETS, in_files, unreachable
from support.processes import start_cat

from ctcd.deployment import rollback
from ctcd.deployment.compose import SLOTS, ComposeTarget, _Slot
from ctcd.deployment.process import ProcessTarget
from ctcd.deployment.smoke import SmokeReport
from ctcd.deployment.target import TargetName
from ctcd.errors import DeploymentBroken, UsageError
from ctcd.progress import silent
from ctcd.registry.versions import IMAGE, Move
from ctcd.serving import launch
from ctcd.serving.launch import RunningService
from ctcd.settings import Settings
from ctcd.stages import deployment

ROOT = Path(__file__).parents[3]
OLD, VERIFIED = (f"registry.example/api@sha256:{digit * 64}" for digit in "1b")

# Programs that act as an empty host and an empty cluster, and note what they are told and which image they run.
DOCKER = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>told
case "$*" in
  *" up "*blue) echo "$IMAGE" >>ran; echo true >blue ;;
  *" up "*) echo "$IMAGE" >>ran ;;
  ps*service=proxy*) echo proxy ;;
  ps*service=blue*) [ ! -f blue ] || echo blue ;;
  "container inspect blue") cat <<JSON ;;
[{"State": {"Running": true, "Restarting": false, "Health": {"Status": "healthy"}}, "Created": "2025-08-31",
  "Config": {"Labels": {}}, "NetworkSettings": {"Ports": {"3000/tcp": [{"HostPort": "1"}]}, "Networks": {}}}]
JSON
  *"show stat") printf '# pxname,svname,status,scur\\napi,blue,UP,0\\n' ;;
esac
"""
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>told
case "$1" in
  kustomize) printf 'name: slug-set-by-the-deployment\\nimage: image-set-by-the-deployment\\nv: version-set-by-the-deployment\\n' ;;
  apply) tee -a told | sed -n 's/^image: //p' >>ran ;;
esac
"""

HOST = """#!/bin/sh
# Keeps its containers: of each a file with its labels, and one with the network that it is attached to.
cd "$(dirname "$0")"
for last; do :; done
case "$*" in
  compose*" up "*proxy) ;;
  compose*" up "*)
    printf '{"ctcd.image": "%s", "ctcd.version": "%s", "ctcd.settings": "%s"}' "$IMAGE" "$VERSION" "$SETTINGS" >"slot-$last" ;;
  ps*service=proxy*) echo proxy ;;
  ps*service=blue*) [ ! -f slot-blue ] || echo blue ;;
  ps*service=green*) [ ! -f slot-green ] || echo green ;;
  "network connect"*) echo "\\"$5\\": {}" >"network-$last" ;;
  "rm --force"*) rm -f "slot-$last" "network-$last" ;;
  "container inspect"*) cat <<JSON ;;
[{"State": {"Running": true, "Restarting": false, "Health": {"Status": "$(cat "health-$last" 2>/dev/null || echo healthy)"}},
  "Created": "2025-08-31", "Config": {"Labels": $(cat "slot-$last")},
  "NetworkSettings": {"Ports": {"3000/tcp": [{"HostPort": "1"}]}, "Networks": {$(cat "network-$last" 2>/dev/null)}}}]
JSON
  *"show stat") printf '# pxname,svname,status,scur\\napi,blue,UP,0\\napi,green,UP,0\\n' ;;
esac
"""


class Registry:
    """A registry in memory: a real one takes seconds to make, and tests/integration/deployment has it."""

    def __init__(self, **images: str) -> None:
        self.versions = {version: SimpleNamespace(version=version[1:], model_name="m", tags={IMAGE: image}) for version, image in images.items()}  # fmt: skip
        self.recorded: list[tuple[str, str]] = []
        self.deployed: list[tuple[str, str, str, str]] = []

    def info(self, version: str) -> Any:
        return self.versions[f"v{version}"]

    rollback_target = champion = info

    def require_pass(self, version: str) -> None:
        """Every version has passed."""

    def record_image(self, version: str, image: str) -> None:
        self.recorded.append((version, image))

    def record_deployment(self, info: Any, *, before: str | None, reason: str, target: str, artifact: str) -> None:
        assert before is None
        self.deployed.append((info.version, reason, target, artifact))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("docker", DOCKER), ("kubectl", KUBECTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    yield folder
    assert in_files(SECRETS, tmp_path) == []


def ran(programs: Path) -> set[str]:
    return set((programs / "ran").read_text().split())


def settings(home: Path) -> Settings:
    return Settings(
        home=home,
        deploy_folder=ROOT / "deploy",
        deploy_url="http://api.example",
        feature_store_url=SecretStr(unreachable()["FEATURE_STORE_URL"]),
        api_keys=SecretStr(API_KEY),
        metrics_keys=SecretStr(METRICS_KEY),
    )


IMAGES = [TargetName.COMPOSE, TargetName.KUBERNETES]


def test_every_target_is_tested() -> None:
    """A new target that runs images is added here."""
    assert set(TargetName) == {*IMAGES, TargetName.PROCESS}


@pytest.mark.parametrize("target", IMAGES)
def test_a_deployment_runs_and_records_the_given_digest(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: TargetName
) -> None:
    """The given digest is deployed and recorded, not a tag and not the image that an earlier release recorded."""
    registry = Registry(v7=OLD)
    monkeypatch.setattr(deployment, "open_registry", lambda _: registry)
    done = deployment.deploy(
        settings(tmp_path), target=target, version="7", image=VERIFIED, reason="Monday", probed=False
    )
    assert ran(programs) == {VERIFIED}
    assert registry.recorded == [("7", VERIFIED)]
    assert registry.deployed == [("7", "Monday", f"{target.value} (local)", VERIFIED)]
    assert (done.tag, done.digest) == (VERIFIED, VERIFIED.partition("@")[2])


PROBED = {
    TargetName.COMPOSE: ["http://127.0.0.1:1", "http://api.example"],  # the container, and then the proxy
    TargetName.KUBERNETES: ["http://api.example"],
    TargetName.PROCESS: ["http://127.0.0.1:3000"],
}


@pytest.mark.parametrize(
    ("target", "broken"), [(target, place) for target, urls in PROBED.items() for place in (None, *range(len(urls)))]
)
@pytest.mark.usefixtures("programs")
def test_what_is_deployed_is_probed_as_its_version_where_clients_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: TargetName, broken: int | None
) -> None:
    """A probe that finds a problem, whichever it is, ends the deployment, and its image is not recorded."""
    registry, asked, started = Registry(v7=OLD), [], []

    def smoke(_: Settings, *, version: str, url: str) -> SmokeReport:
        asked.append((version, url))
        problems = ("its answers differ",) if len(asked) - 1 == broken else ()
        return SmokeReport(url=url, version=version, probes=1, problems=problems, median_ms=1.0)

    def start(tag: str, *_: object) -> RunningService:
        started.append(tag)
        process: Any = SimpleNamespace(pid=os.getpid())  # that of a process that runs
        return RunningService(url="", process=process, log=tmp_path / "log")

    monkeypatch.setattr(deployment, "open_registry", lambda _: registry)
    monkeypatch.setattr(deployment, "smoke", smoke)
    monkeypatch.setattr(deployment, "build", lambda *_, **__: SimpleNamespace(tag="m:7", digest="d"))
    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(launch, "wait_until_ready", lambda *_: None)
    monkeypatch.setattr(launch, "end", lambda *_: started.append("ended"))
    image = None if target is TargetName.PROCESS else VERIFIED
    with nullcontext() if broken is None else pytest.raises(DeploymentBroken, match="its answers differ"):
        deployment.deploy(settings(tmp_path), target=target, version="7", image=image)
    probed = PROBED[target] if broken is None else PROBED[target][: broken + 1]
    assert asked == [("7", url) for url in probed]
    assert registry.recorded == ([("7", VERIFIED)] if image and broken is None else [])
    if target is TargetName.PROCESS:
        assert started == (["m:7"] if broken is None else ["m:7", "ended"])


def test_a_process_with_other_settings_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same Bento is left alone, unless a setting has changed: a withdrawn API key would still be accepted."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(_: str, settings: Settings, *__: object) -> RunningService:
        process = start_cat(settings)
        processes.append(process)
        [url] = PROBED[TargetName.PROCESS]
        return RunningService(url=url, process=process, log=tmp_path / "log")

    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(launch, "wait_until_ready", lambda *_: None)
    monkeypatch.setattr(launch, "end", lambda process, _: process.terminate())
    first = settings(tmp_path)
    other = first.model_copy(update={"api_keys": SecretStr(METRICS_KEY)})
    try:
        changed = [ProcessTarget(each).deploy("m:7", version="7", digest="d").changed for each in (first, first, other)]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert changed == [True, False, True]
    assert in_files(SECRETS, tmp_path) == []


def test_the_store_of_the_machine_that_deploys_is_not_that_of_the_container(tmp_path: Path) -> None:
    """A container has no file of that machine: it is given a store only if the settings name one."""
    given = settings(tmp_path)
    embedded = given.model_copy(update={"feature_store_url": SecretStr("")})
    passed = [ComposeTarget(each, "m")._passed_on()["FEATURE_STORE_URL"] for each in (given, embedded)]
    assert passed == [unreachable()["FEATURE_STORE_URL"], ""]


def slots(programs: Path) -> set[str]:
    """Return the containers that a host keeps."""
    return {path.name.partition("-")[2] for path in programs.glob("slot-*")}


@pytest.mark.slow
def test_a_container_with_other_settings_is_replaced(programs: Path, tmp_path: Path) -> None:
    """The same image is probed and left alone, unless a setting has changed, such as an API key, or it is not healthy."""
    (programs / "docker").write_text(HOST)
    probed: list[str] = []
    container, clients = PROBED[TargetName.COMPOSE]
    first = settings(tmp_path)
    other = first.model_copy(update={"api_keys": SecretStr(METRICS_KEY)})
    for given, changed, slot in ((first, True, "blue"), (first, False, "blue"), (other, True, "green")):
        done = ComposeTarget(given, "m").deploy(VERIFIED, version="7", digest="d", probe=probed.append)
        assert (done.changed, slots(programs)) == (changed, {slot})
    assert probed == [container, clients, clients, container, clients]
    (programs / "health-green").write_text("unhealthy")
    assert ComposeTarget(other, "m").deploy(VERIFIED, version="7", digest="d").changed
    assert slots(programs) == {"blue"}


def test_a_container_that_runs_is_in_service_rather_than_an_older_one_that_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that the proxy can reach; one that has stopped is only if nothing else is left of a deployment."""
    target = ComposeTarget(settings(tmp_path), "m")
    known = _Slot(
        name="blue", container="b", image=OLD, version="6", settings="", created="2025-08-30", running=False,
        healthy=False, attached=True, port=0,
    )  # fmt: skip
    running = replace(known, name="green", container="g", image=VERIFIED, created="2025-08-31", running=True)
    for found, image in (([known, running], VERIFIED), ([known], OLD), ([replace(running, attached=False)], None)):
        monkeypatch.setattr(target, "_slots", lambda found=found: found)
        slot = target._in_service()
        assert (slot and slot.image) == image


@pytest.mark.slow
@pytest.mark.parametrize("probes", [0, 1])
@pytest.mark.parametrize("error", [DeploymentBroken, KeyboardInterrupt])
def test_a_container_that_fails_or_is_given_up_leaves_the_one_before(
    programs: Path, tmp_path: Path, error: type[BaseException], probes: int
) -> None:
    """Whoever ends the deployment, before or after the switch: the one before gets the requests again, and is alone."""
    (programs / "docker").write_text(HOST)
    target = ComposeTarget(settings(tmp_path), "m")
    target.deploy(OLD, version="6", digest="d")
    asked: list[str] = []

    def probe(url: str) -> None:
        asked.append(url)
        if len(asked) > probes:
            raise error("it is over")

    with pytest.raises(error):
        target.deploy(VERIFIED, version="7", digest="d", probe=probe)
    assert asked == PROBED[TargetName.COMPOSE][: probes + 1]
    assert slots(programs) == {"blue"}
    assert OLD in (programs / "slot-blue").read_text()
    assert not target.deploy(OLD, version="6", digest="d").changed


@pytest.mark.parametrize("target", IMAGES)
def test_a_rollback_runs_the_digest_that_was_recorded(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: TargetName
) -> None:
    """That of the version that it goes back to, as which it is probed."""
    registry = Registry(v6=OLD, v7=VERIFIED)
    monkeypatch.setattr(deployment, "open_registry", lambda _: registry)
    monkeypatch.setattr(registry, "champion", lambda: registry.info("7"))
    probed: list[tuple[str, str]] = []

    def smoke(_: Settings, *, version: str, url: str) -> SmokeReport:
        probed.append((version, url))
        return SmokeReport(url=url, version=version, probes=1, problems=(), median_ms=1.0)

    monkeypatch.setattr(deployment, "smoke", smoke)
    deployment.roll_back(settings(tmp_path), to="6", target=target, image_only=True)
    assert ran(programs) == {OLD}
    assert probed == [("6", url) for url in PROBED[target]]


@pytest.mark.parametrize("error", [DeploymentBroken("it is slow"), KeyboardInterrupt()], ids=["failed", "interrupted"])
@pytest.mark.parametrize("changed", [True, False])
def test_a_deployment_that_does_not_end_well_takes_its_own_promotion_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool, error: BaseException
) -> None:
    """Also if it is interrupted; a champion that is deployed once more, from another image, stays the champion."""
    registry, taken_back = Registry(v7=OLD), []

    def put(*_: object, **__: object) -> NoReturn:
        raise error

    move = Move(version="7", before=None, changed=changed)
    monkeypatch.setattr(registry, "promote", lambda *_, **__: move, raising=False)
    monkeypatch.setattr(deployment, "open_registry", lambda _: registry)
    monkeypatch.setattr(deployment, "_put", put)
    monkeypatch.setattr(rollback, "roll_back_failed", lambda _, version, why: taken_back.append((version, why)))
    with pytest.raises(type(error)):
        deployment.deploy(settings(tmp_path), target=TargetName.COMPOSE, version="7", image=VERIFIED, promote=True)
    assert [version for version, _ in taken_back] == ["7"] * changed
    assert all(why.startswith("its deployment failed: ") for _, why in taken_back)
    assert (registry.recorded, registry.deployed) == ([], [])


@pytest.mark.parametrize("target", TargetName)
def test_a_tag_reaches_no_target(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: TargetName
) -> None:
    """It is refused before the registry is asked or a program is called; so is any image where none is run."""
    monkeypatch.setattr(deployment, "open_registry", lambda _: pytest.fail("the registry was asked"))
    with pytest.raises(UsageError, match=r"by digest|runs no image"):
        deployment.deploy(settings(tmp_path), target=target, version="7", image="registry.example/api:v7")
    if target is not TargetName.PROCESS:  # whoever asks for it: a rollback runs what was recorded
        with pytest.raises(UsageError, match="by digest"):
            deployment._target(settings(tmp_path), target, silent).deploy(
                "registry.example/api:v7", version="7", digest=""
            )
    assert not (programs / "ran").exists()


def test_the_files_of_the_targets_run_the_image_that_they_are_given() -> None:
    """Each container of the service, and none has another tag, build or pull policy that could bring in another image."""
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    for slot in SLOTS:
        service = compose["services"][slot]
        assert service["image"] == service["labels"]["ctcd.image"] == "${IMAGE:?}"
        assert not {"build", "pull_policy", "entrypoint", "command"} & set(service)
    kubernetes = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    pod = kubernetes["spec"]["template"]["spec"]
    assert [each["image"] for each in pod["containers"]] == ["image-set-by-the-deployment"]
    assert "initContainers" not in pod
    for file in (ROOT / "deploy/kubernetes").rglob("kustomization.yaml"):
        assert not {"images", "replacements"} & set(yaml.safe_load(file.read_text())), file
