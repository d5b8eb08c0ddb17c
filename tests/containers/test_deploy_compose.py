"""The compose target on this machine's Docker: real images, a real proxy, and continuous requests."""

import http.client
import json
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.containers import OWN, OWN_EXAMPLE, docker
from support.images import pushed, registry, with_model
from support.network import free_port
from support.serving import small_scorer

from ctcd.deployment.compose import ComposeTarget
from ctcd.deployment.image import digest_of
from ctcd.deployment.smoke import smoke
from ctcd.deployment.target import Probe
from ctcd.errors import CtcdError, DeploymentBroken, UsageError
from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo
from ctcd.registry.versions import RegisteredVersion
from ctcd.settings import Environment, Settings

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

CLIENTS = 6
SLUG = "ctcd-test"
"""Names the compose project, so that a deployment of the instance on this machine is left alone."""
BODY = json.dumps({"data": OWN_EXAMPLE})
COUNT = """
import pathlib, sqlite3
boxes = pathlib.Path("/var/lib/ctcd/outbox").glob("*.outbox")
print(sum(sqlite3.connect(box).execute("select rows from depth").fetchone()[0] for box in boxes))
"""
"""Counts predictions on the volume: the store of these containers has no tables, so they stay there."""


class Image:
    """An image by digest, with the answers expected of its model."""

    def __init__(self, reference: str, info: ModelInfo, scorer: Scorer) -> None:
        self.reference, self.version = reference, info.version
        self._scorer = scorer
        self._info = RegisteredVersion(
            model_name=info.model_name,
            version=info.version,
            run_id=info.run_id,
            aliases=(),
            created_at=info.creation_time,
            tags={},
            uri=info.model_uri,
        )

    def probe(self, url: str) -> None:
        smoke(url, self._info, self._scorer, OWN.contract).require_passed()

    def deploy(self, target: ComposeTarget, probe: Probe | None = None) -> None:
        target.deploy(self.reference, version=self.version, digest=digest_of(self.reference), probe=probe or self.probe)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with registry() as started:
        yield started


@pytest.fixture(scope="module")
def first(address: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    scorer = small_scorer(20, OWN.contract)
    return Image(*with_model(address, scorer, "1", tmp_path_factory.mktemp("first")), scorer)


@pytest.fixture(scope="module")
def second(address: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    scorer = small_scorer(40, OWN.contract)
    return Image(*with_model(address, scorer, "2", tmp_path_factory.mktemp("second")), scorer)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[ComposeTarget]:
    """The Docker host; everything deployed on it is removed afterwards."""
    assert address, "the registry must outlive the containers of its images"
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), environment=Environment.CI, port=free_port(), drain_seconds=5
    )
    target = ComposeTarget(settings, SLUG)
    try:
        yield target
    finally:
        target.stop()
        docker("volume", "rm", "--force", f"{target._project}_home")


@pytest.fixture
def target(host: ComposeTarget, first: Image) -> ComposeTarget:
    """The host with the first version deployed."""
    first.deploy(host)
    return host


def slots(target: ComposeTarget) -> list[tuple[str, bool, bool]]:
    """Return for each container its version, whether it runs and whether the proxy reaches it."""
    return [(slot.version, slot.running, slot.attached) for slot in target._slots()]


class Traffic:
    """Clients that send requests all the time, half of them on persistent connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._end = threading.Event()
        self._lock = threading.Lock()

    def ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self._end.is_set():
            try:
                connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                failure = f"status {response.status}" if response.status != 200 else ""
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure, answer = f"{type(error).__name__}: {error}", {}
                connection.close()
            with self._lock:
                if failure:
                    self.failures.append(failure)
                else:
                    self.answers[answer["model_version"]] += 1
            if not keep:
                connection.close()
            self._end.wait(0.005)
        connection.close()

    @contextmanager
    def running(self) -> Iterator["Traffic"]:
        threads = [threading.Thread(target=self.ask, args=(number % 2 == 0,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            time.sleep(1)  # so that requests follow the last step, too
            self._end.set()
            for thread in threads:
                thread.join()


def traffic(target: ComposeTarget) -> Traffic:
    return Traffic(target._settings.port)


def test_a_new_version_takes_over_without_a_failed_request(target: ComposeTarget, first: Image, second: Image) -> None:
    """Under load, every request is answered and logged while a version is replaced and then restored."""
    with traffic(target).running() as clients:
        second.deploy(target)
        between = clients.answers["1"]
        first.deploy(target)
    assert clients.failures == []
    assert between > 50
    assert clients.answers["2"] > 50
    assert clients.answers["1"] > between
    assert slots(target) == [("1", True, True)]
    container = next(slot.container for slot in target._slots())
    assert int(docker("exec", container, "python", "-c", COUNT).stdout) >= sum(clients.answers.values())


def test_a_version_that_fails_its_probes_never_gets_a_request(
    target: ComposeTarget, first: Image, second: Image
) -> None:
    """The probes fail before the proxy knows the new container; it is removed, and no client is affected."""
    with traffic(target).running() as clients, pytest.raises(DeploymentBroken, match="version 2 answers instead of 1"):
        second.deploy(target, first.probe)
    assert clients.failures == []
    assert set(clients.answers) == {"1"}
    assert slots(target) == [("1", True, True)]


def test_a_version_that_fails_behind_the_proxy_is_rolled_back(target: ComposeTarget, second: Image) -> None:
    """The old container runs until the new one has passed its probes through the proxy, so it takes over again."""
    urls: list[str] = []

    def fails_in_public(url: str) -> None:
        urls.append(url)
        second.probe(url)
        if len(urls) == 2:
            raise DeploymentBroken("planted", where=url)

    with traffic(target).running() as clients, pytest.raises(DeploymentBroken, match="planted"):
        second.deploy(target, fails_in_public)
    assert len(urls) == 2
    assert clients.failures == []
    assert set(clients.answers) == {"1", "2"}
    assert slots(target) == [("1", True, True)]


def test_a_container_that_does_not_start_changes_nothing(target: ComposeTarget, address: str, tmp_path: Path) -> None:
    """The error shows its output, and the container is removed."""
    broken = pushed(address, "broken", 'ENTRYPOINT ["/bin/sh", "-c", "echo planted; exit 3"]', tmp_path)
    with traffic(target).running() as clients, pytest.raises(UsageError, match="planted"):
        target.deploy(broken, version="3", digest=digest_of(broken))
    assert clients.failures == []
    assert slots(target) == [("1", True, True)]


def test_the_next_deployment_cleans_up_after_one_that_was_killed(target: ComposeTarget, second: Image) -> None:
    """Killed while both containers get requests, a deployment leaves a working service; the next leaves one container."""

    def dies_in_public(url: str) -> None:
        if url.endswith(f":{target._settings.port}"):
            os.kill(os.getpid(), signal.SIGKILL)

    with traffic(target).running() as clients:
        process = multiprocessing.get_context("fork").Process(target=second.deploy, args=(target, dies_in_public))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert slots(target) == [("1", True, True), ("2", True, True)]
        second.deploy(target)
    assert clients.failures == []
    assert slots(target) == [("2", True, True)]


def test_the_same_image_again_changes_nothing(target: ComposeTarget, first: Image) -> None:
    """Deploying the image in service again only probes it."""
    before = target._slots()
    done = target.deploy(first.reference, version="1", digest=digest_of(first.reference), probe=first.probe)
    assert not done.changed
    assert target._slots() == before


def test_other_settings_replace_the_container(target: ComposeTarget, first: Image) -> None:
    """A new API key is in force after the next deployment, even of the same image."""
    keyed = target._settings.model_copy(update={"api_keys": SecretStr(secrets.token_hex(16))})
    host = ComposeTarget(keyed, SLUG)
    done = host.deploy(first.reference, version="1", digest=digest_of(first.reference))
    assert done.changed
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=30)
    connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 401
    connection.close()


def test_a_tag_is_refused(target: ComposeTarget, second: Image) -> None:
    """A tag may be moved between the gate's decision and the deployment."""
    with pytest.raises(CtcdError, match="by digest"):
        target.deploy(second.reference.partition("@")[0] + ":latest", version="2", digest="")
    assert slots(target) == [("1", True, True)]


def test_the_containers_are_hardened(target: ComposeTarget) -> None:
    """Proxy and service run without root, without capabilities and with a read-only root."""
    for container in (target._slots()[0].container, target._container("proxy")):
        host = json.loads(docker("container", "inspect", "--format={{json .HostConfig}}", container).stdout)
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert docker("exec", container, "id", "-u").stdout.strip() != "0"
