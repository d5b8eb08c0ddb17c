"""A release and its rollback, with a real registry; the targets themselves are tested with Docker in tests/containers."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.training import BASE_DT, embedded, smoke_training
from typer.testing import CliRunner

from ctcd.cli.app import app
from ctcd.deployment.target import Deployment, Probe, Target, unprobed
from ctcd.errors import DeploymentBroken, GateRefused, NotFound, UsageError
from ctcd.promotion.decision import Decision
from ctcd.promotion.gate import gate
from ctcd.promotion.policy import Policy, load_policy
from ctcd.registry import tracking
from ctcd.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, Registry
from ctcd.settings import Settings
from ctcd.stages import connections, deployment

pytestmark = pytest.mark.integration

FIRST, SECOND = (f"registry.example/api@sha256:{digit * 64}" for digit in "12")


@dataclass
class Host:
    """A target that only remembers: what is tested here is what happens around one."""

    image: str | None = None
    broken: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        self.asked.append((tag, version))
        assert probe is not unprobed, "a release is probed"
        if tag in self.broken:
            raise DeploymentBroken("planted", where="host")
        before, self.image = self.image, tag
        return Deployment(url="", tag=tag, version=version, digest=digest, before=before, changed=before != tag)

    def stop(self) -> bool:
        return False


@dataclass(frozen=True)
class Trained:
    """A store with a version that the gate passed, a good training that was not judged, and a version it refused."""

    home: Path
    decision: Decision
    second: str
    weak: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings = embedded(tmp_path_factory.mktemp("trained"))
    rows = snapshot_frame(CONTRACT, rows=3_000)
    weak, good, better = (smoke_training(settings, rows, iterations=each).run_id for each in (1, 8, 120))
    client = tracking.connect(settings)
    refused = gate(
        Registry(client, CONTRACT),
        settings,
        CONTRACT,
        load_policy(INSTANCE.promotion_policy),
        run_id=weak,
        today=BASE_DT,
    )
    passed = gate(Registry(client, CONTRACT), settings, CONTRACT, lenient(), run_id=good, today=BASE_DT)
    assert (refused.promote, passed.promote) == (False, True)
    return Trained(settings.home, passed.decision, better, refused.version)


def lenient() -> Policy:
    """Return the shipped policy with floors that a tiny model reaches."""
    rules = load_policy(INSTANCE.promotion_policy).model_dump()
    rules["floors"] = {"accuracy": 0.4, "macro_f1": 0.3, "recall": dict.fromkeys(CONTRACT.classes, 0.1)}
    rules["calibration"]["max_ece"] = 0.5
    rules["speed"] = {"max_row_p95_ms": 1_000.0, "max_batch_row_ms": 100.0}
    rules["slices"] |= {"min_rows": 30, "accuracy": 0.1, "max_drop": 0.25}
    return Policy.model_validate(rules)


@dataclass(frozen=True)
class Desk:
    settings: Settings
    registry: Registry
    host: Host
    trained: Trained

    @property
    def first(self) -> str:
        return self.trained.decision.candidate

    def aliases(self) -> dict[str, str]:
        found = {alias: self.registry.find(alias) for alias in (CHAMPION, PREVIOUS)}
        return {alias: info.version for alias, info in found.items() if info}

    def ship(self, version: str, image: str, *, promoted: bool = True) -> None:
        deployment.ship(self.settings, version, image=image, target="compose", promoted=promoted)

    def pass_second(self) -> str:
        """Record for the second version what the gate said about the first: the gate has tests of its own."""
        version = self.registry.register(self.trained.second)
        decision = replace(self.trained.decision, candidate=version, champion=self.aliases().get(CHAMPION))
        self.registry.record_decision(version, decision)
        return version


@pytest.fixture
def desk(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copy(trained.home / "mlflow.db", tmp_path / "mlflow.db")
    settings, host = embedded(tmp_path), Host()

    def target(_settings: Settings, _name: str, _progress: object) -> Target:
        return host

    monkeypatch.setattr(deployment, "_target", target)
    return Desk(settings, connections.open_registry(settings), host, trained)


def test_a_version_that_passed_is_deployed_and_becomes_the_champion(desk: Desk) -> None:
    """First to staging, where the champion stays what it is, then to production; the registry knows the image."""
    desk.ship(desk.first, FIRST, promoted=False)
    assert desk.aliases() == {}
    desk.ship(desk.first, FIRST)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert desk.host.asked == [(FIRST, desk.first)] * 2
    assert deployment.released_image(desk.settings) == FIRST


@pytest.mark.parametrize("promoted", [False, True])
def test_a_version_that_was_refused_or_not_judged_goes_nowhere(desk: Desk, promoted: bool) -> None:
    """Neither to staging nor to production: the target is not even asked, and no image is recorded."""
    unjudged = desk.registry.register(desk.trained.second)
    for version in (desk.trained.weak, unjudged):
        with pytest.raises(GateRefused):
            desk.ship(version, FIRST, promoted=promoted)
        with pytest.raises(NotFound):
            deployment.released_image(desk.settings, version=version)
    assert desk.host.asked == []
    assert desk.aliases() == {}


def test_a_tag_goes_nowhere(desk: Desk) -> None:
    """It is refused before anything is changed."""
    with pytest.raises(UsageError, match="by digest"):
        desk.ship(desk.first, "registry.example/api:v1")
    assert desk.host.asked == []
    assert desk.aliases() == {}


def test_a_failed_probe_takes_the_champion_back(desk: Desk) -> None:
    """The alias is where it was, the version is marked, and the gate will not pass it again."""
    desk.ship(desk.first, FIRST)
    second = desk.pass_second()
    desk.host.broken = {SECOND}
    with pytest.raises(DeploymentBroken, match="planted"):
        desk.ship(second, SECOND)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert ROLLED_BACK in desk.registry.info(second).tags
    assert desk.host.image == FIRST
    with pytest.raises(GateRefused):
        desk.ship(second, SECOND)


def test_a_failed_probe_in_staging_leaves_the_registry_alone(desk: Desk) -> None:
    """A version that does not work there may be released again, from another image."""
    desk.ship(desk.first, FIRST)
    second = desk.pass_second()
    desk.host.broken = {SECOND}
    with pytest.raises(DeploymentBroken):
        desk.ship(second, SECOND, promoted=False)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert ROLLED_BACK not in desk.registry.info(second).tags


def test_a_rollback_brings_back_image_and_champion(desk: Desk) -> None:
    """The image that the registry has for the previous champion is deployed, then the alias moves."""
    desk.ship(desk.first, FIRST)
    second = desk.pass_second()
    desk.ship(second, SECOND)
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}
    report = deployment.unship(desk.settings, to=None, reason="planted", target="compose", demoted=True)
    assert (report.deployment.tag, report.rolled_back) == (FIRST, second)
    assert desk.host.image == FIRST
    assert desk.aliases() == {CHAMPION: desk.first}


def test_a_rollback_of_the_image_only_leaves_the_champion(desk: Desk) -> None:
    """As in staging."""
    desk.ship(desk.first, FIRST)
    second = desk.pass_second()
    desk.ship(second, SECOND)
    deployment.unship(desk.settings, to=desk.first, reason="planted", target="compose", demoted=False)
    assert desk.host.image == FIRST
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}


def test_a_rollback_to_an_image_that_does_not_answer_changes_nothing(desk: Desk) -> None:
    """The alias moves last; run again when the image answers, it comes to its end."""
    desk.ship(desk.first, FIRST)
    second = desk.pass_second()
    desk.ship(second, SECOND)
    desk.host.broken = {FIRST}
    with pytest.raises(DeploymentBroken):
        deployment.unship(desk.settings, to=None, reason="planted", target="compose", demoted=True)
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}
    desk.host.broken = set()
    deployment.unship(desk.settings, to=None, reason="planted", target="compose", demoted=True)
    assert desk.aliases() == {CHAMPION: desk.first}


def test_a_rollback_to_a_version_without_an_image_says_so(desk: Desk) -> None:
    """A champion of before that was never released as an image cannot be deployed."""
    desk.registry.promote(desk.first)
    second = desk.pass_second()
    desk.ship(second, SECOND)
    with pytest.raises(NotFound, match="no image was released"):
        deployment.unship(desk.settings, to=None, reason="planted", target="compose", demoted=True)
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}


def test_the_threshold_verb_names_the_version_only_if_it_passed(desk: Desk, tmp_path: Path) -> None:
    """A refused version ends in exit code 4 and leaves no output that a later job could go on with."""
    weak = desk.trained.weak
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    arguments = ["release", "judge", "--version", weak, "--summary", str(summary), "--outputs", str(outputs)]
    environment = {name: value for name, value in desk.settings.environment_variables().items() if value}
    done = CliRunner().invoke(app, arguments, env=environment)
    assert isinstance(done.exception, GateRefused)
    assert not outputs.exists()
    assert summary.read_text().startswith(f"# Version {weak}: refuse")
