"""Deployments and rollbacks with a real registry; the targets are tested with Docker in tests/containers."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.training import BASE_DT, embedded, smoke_training

from ctcd.cli.app import run
from ctcd.deployment import client
from ctcd.deployment.rollback import Rollback
from ctcd.deployment.target import Deployment, Probe, Target, TargetName, unprobed
from ctcd.errors import DeploymentBroken, GateRefused, NotFound, Unreachable, UsageError
from ctcd.promotion import policy as policies
from ctcd.promotion.decision import Decision
from ctcd.promotion.gate import gate
from ctcd.promotion.policy import Policy, load_policy
from ctcd.registry import tracking
from ctcd.registry.history import What
from ctcd.registry.versions import CHAMPION, PREVIOUS, ROLLBACK_REASON, ROLLED_BACK, Registry
from ctcd.settings import Environment, Settings
from ctcd.stages import connections, deployment, promotion
from ctcd.stages.deployment import Stopped

pytestmark = pytest.mark.integration

FIRST, SECOND = (f"registry.example/api@sha256:{digit * 64}" for digit in "12")


@dataclass
class Host:
    """A target that only records its calls: the tests are about what happens around one."""

    image: str | None = None
    broken: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    probed: list[bool] = field(default_factory=list)

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        self.calls.append((tag, version))
        self.probed.append(probe is not unprobed)
        if tag in self.broken:
            raise DeploymentBroken("injected", where="host")
        before, self.image = self.image, tag
        return Deployment(url="", tag=tag, version=version, digest=digest, before=before, changed=before != tag)

    def stop(self) -> bool:
        before, self.image = self.image, None
        return before is not None


@dataclass(frozen=True)
class Trained:
    """A store with a version that the gate passed, a good training that was not judged, and a version it refused."""

    home: Path
    decision: Decision
    second: str
    weak: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Trained:
    settings = embedded(tmp_path_factory.mktemp("trained"))
    shutil.copy(empty_mlflow, settings.home)
    rows = snapshot_frame(CONTRACT, rows=3_000)
    weak, good, better = (smoke_training(settings, rows, iterations=each).run_id for each in (1, 8, 120))
    client = tracking.connect(settings)
    refused = gate(
        Registry(client, CONTRACT),
        settings,
        CONTRACT,
        load_policy(INSTANCE),
        request=PAYLOAD.request,
        run_id=weak,
        today=BASE_DT,
    )
    passed = gate(
        Registry(client, CONTRACT), settings, CONTRACT, lenient(), request=PAYLOAD.request, run_id=good, today=BASE_DT
    )
    assert (refused.promote, passed.promote) == (False, True)
    return Trained(settings.home, passed.decision, better, refused.version)


def lenient() -> Policy:
    """Return the shipped policy with floors that a tiny model reaches, on a busy machine."""
    rules = load_policy(INSTANCE).model_dump()
    rules["floors"] = {"accuracy": 0.4, "macro_f1": 0.3, "recall": dict.fromkeys(CONTRACT.classes, 0.1)}
    rules["calibration"]["max_ece"] = 0.5
    rules["speed"] = {"max_row_p95_ms": 1_000.0, "max_batch_row_ms": 1_000.0}
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

    def deploy(
        self, version: str | None = None, image: str | None = None, *, promote: bool = True, probed: bool = True
    ) -> Deployment:
        return deployment.deploy(
            self.settings, target=TargetName.COMPOSE, version=version, image=image, promote=promote, probed=probed
        )

    def roll_back(self, to: str | None = None, *, image_only: bool = False) -> Rollback:
        return deployment.roll_back(
            self.settings, to=to, reason="injected", target=TargetName.COMPOSE, image_only=image_only
        )

    def command(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        """Run the command line in this process, on the same home and target; return its exit code."""
        for name, value in self.settings.environment_variables().items():
            if value:
                monkeypatch.setenv(name, value)
        return run(list(arguments))

    def pass_second(self) -> str:
        """Record for the second version what the gate said about the first: the gate has tests of its own."""
        version = self.registry.register(self.trained.second)
        self.registry.record_decision(
            version,
            1,
            passed=True,
            reasons=(),
            champion=self.aliases().get(CHAMPION),
            files={"1.md": "passed"},
        )
        return version


@pytest.fixture
def desk(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copy(trained.home / "mlflow.db", tmp_path / "mlflow.db")
    settings, host = embedded(tmp_path), Host()

    def target(_settings: Settings, _name: TargetName, _progress: object) -> Target:
        return host

    monkeypatch.setattr(deployment, "_target", target)
    return Desk(settings, connections.open_registry(settings), host, trained)


def test_a_version_that_passed_is_deployed_and_becomes_the_champion(desk: Desk) -> None:
    """First to staging, where the champion stays what it is, then to production; the registry knows the image."""
    desk.deploy(desk.first, FIRST, promote=False)
    assert desk.aliases() == {}
    desk.deploy(desk.first, FIRST)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert desk.host.calls == [(FIRST, desk.first)] * 2
    assert desk.host.probed == [True] * 2
    assert deployment.released_image(desk.settings) == FIRST


@pytest.mark.parametrize("promote", [False, True])
def test_a_version_that_was_refused_or_not_judged_goes_nowhere(desk: Desk, promote: bool) -> None:
    """Neither to staging nor to production: the target is not even asked, and no image is recorded."""
    unjudged = desk.registry.register(desk.trained.second)
    for version in (desk.trained.weak, unjudged):
        with pytest.raises(GateRefused):
            desk.deploy(version, FIRST, promote=promote)
        with pytest.raises(NotFound):
            deployment.released_image(desk.settings, version=version)
    assert desk.host.calls == []
    assert desk.aliases() == {}


def test_a_contract_with_drafts_goes_nowhere_in_production(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not with a version that the gate passed in another environment, by deployment or by promotion."""
    drafted = replace(INSTANCE, contract=replace(CONTRACT, draft="roles and personal columns"))
    monkeypatch.setattr(connections, "instance", lambda _: drafted)
    desk = replace(desk, settings=desk.settings.model_copy(update={"environment": Environment.PRODUCTION}))
    for attempt in (lambda: desk.deploy(desk.first, FIRST), lambda: promotion.promote(desk.settings)):
        with pytest.raises(GateRefused, match="drafts in the contract: 1, the first: contract, roles"):
            attempt()
    assert desk.host.calls == []
    assert desk.aliases() == {}


def test_a_tag_goes_nowhere(desk: Desk) -> None:
    """It is refused before anything is changed."""
    with pytest.raises(UsageError, match="by digest"):
        desk.deploy(desk.first, "registry.example/api:v1")
    assert desk.host.calls == []
    assert desk.aliases() == {}


def test_a_failed_probe_takes_the_champion_back(desk: Desk) -> None:
    """The alias is where it was, the version is marked, and the gate will not pass it again."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.host.broken = {SECOND}
    with pytest.raises(DeploymentBroken, match="injected"):
        desk.deploy(second, SECOND)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert ROLLED_BACK in desk.registry.info(second).tags
    assert desk.host.image == FIRST
    with pytest.raises(GateRefused):
        desk.deploy(second, SECOND)


def test_a_failed_probe_in_staging_leaves_the_registry_alone(desk: Desk) -> None:
    """A version that does not work there may be released again, from another image."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.host.broken = {SECOND}
    with pytest.raises(DeploymentBroken):
        desk.deploy(second, SECOND, promote=False)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert ROLLED_BACK not in desk.registry.info(second).tags


def test_a_rollback_brings_back_image_and_champion(desk: Desk) -> None:
    """The image that the registry has for the previous champion is deployed, then the alias moves."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}
    report = desk.roll_back()
    assert report.deployment is not None
    assert (report.deployment.tag, report.champion, report.rolled_back) == (FIRST, desk.first, second)
    assert desk.host.image == FIRST
    assert desk.aliases() == {CHAMPION: desk.first}


def test_a_rollback_of_the_image_only_leaves_the_champion(desk: Desk) -> None:
    """A rollback with `image_only`, as in staging, deploys the image of that version and moves no alias."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    desk.roll_back(desk.first, image_only=True)
    assert desk.host.image == FIRST
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}


def test_a_rollback_to_an_image_that_does_not_answer_changes_nothing(desk: Desk) -> None:
    """The alias moves last; run again when the image answers, it comes to its end."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    desk.host.broken = {FIRST}
    with pytest.raises(DeploymentBroken):
        desk.roll_back()
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}
    desk.host.broken = set()
    desk.roll_back()
    assert desk.aliases() == {CHAMPION: desk.first}


def test_a_rollback_to_a_version_without_an_image_says_so(desk: Desk) -> None:
    """A previous champion that was never released as an image cannot be deployed."""
    desk.registry.promote(desk.first)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    with pytest.raises(NotFound, match="no image was released"):
        desk.roll_back()
    assert desk.aliases() == {CHAMPION: second, PREVIOUS: desk.first}


def test_by_default_the_champion_is_deployed_from_the_image_that_was_released_of_it(desk: Desk) -> None:
    """No other version is, and the champion needs no second verdict of the gate."""
    with pytest.raises(NotFound, match="no champion"):
        desk.deploy(promote=False)
    desk.deploy(desk.first, FIRST)
    report = desk.deploy(promote=False)
    assert (report.tag, report.version, report.changed, report.promoted) == (FIRST, desk.first, False, False)


def test_the_report_says_what_was_promoted_and_what_was_champion_before(desk: Desk) -> None:
    """The report of a promoting deployment names the version and the champion before it, for the summary and a rollback."""
    first = desk.deploy(desk.first, FIRST)
    second = desk.deploy(desk.pass_second(), SECOND)
    assert (first.promoted, first.champion_before) == (True, None)
    assert (second.promoted, second.champion_before, second.before) == (True, desk.first, FIRST)
    on_record = [each.before for each in desk.registry.changes() if each.what == What.DEPLOYED]
    assert on_record == [first.before or "", FIRST]


def test_an_image_is_recorded_only_once_it_is_deployed(desk: Desk) -> None:
    """An image that failed its probes is not what the next deployment takes."""
    desk.deploy(desk.first, FIRST)
    desk.host.broken = {SECOND}
    with pytest.raises(DeploymentBroken):
        desk.deploy(desk.first, SECOND, promote=False)
    assert deployment.released_image(desk.settings) == FIRST
    desk.host.broken = set()
    desk.deploy(desk.first, SECOND, promote=False)
    assert deployment.released_image(desk.settings) == SECOND


def test_a_forgotten_image_changes_nothing(desk: Desk) -> None:
    """Without an image, given or released, the version is neither promoted nor marked as rolled back."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    with pytest.raises(NotFound, match="no image was released"):
        desk.deploy(second)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert ROLLED_BACK not in desk.registry.info(second).tags
    assert desk.deploy(second, SECOND).promoted


def test_probes_can_be_left_out(desk: Desk) -> None:
    """--no-probe hands the target no probe."""
    desk.deploy(desk.first, FIRST, probed=False)
    assert desk.host.probed == [False]


def test_a_rollback_without_a_target_changes_the_champion_only(desk: Desk) -> None:
    """What is deployed stays, and the report holds no deployment."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    report = deployment.roll_back(desk.settings, reason="injected")
    assert (report.champion, report.rolled_back, report.deployment) == (desk.first, second, None)
    assert desk.aliases() == {CHAMPION: desk.first}
    assert desk.host.image == SECOND
    again = deployment.roll_back(desk.settings, to=desk.first, reason="injected")
    assert (again.champion, again.rolled_back) == (desk.first, None)


def test_a_failed_version_is_rolled_back_once_however_often_it_is_asked(desk: Desk) -> None:
    """The champion before it is deployed without probes, and a second call neither changes the champion nor fails."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    desk.deploy(second, SECOND)
    for rolled_back in (second, None):
        report = deployment.roll_back_failed(desk.settings, second, reason="injected", target=TargetName.COMPOSE)
        assert (report.champion, report.rolled_back, report.reason) == (desk.first, rolled_back, "injected")
        assert report.deployment is not None
        assert report.deployment.tag == FIRST
        assert desk.aliases() == {CHAMPION: desk.first}
        assert desk.host.image == FIRST
    assert desk.host.probed == [True, True, False, False]
    assert desk.registry.info(second).tags[ROLLBACK_REASON] == "injected"


def test_a_failed_version_that_is_not_the_champion_leaves_the_champion(desk: Desk) -> None:
    """Somebody promoted another one in the meantime: that one is deployed."""
    desk.deploy(desk.first, FIRST)
    desk.deploy(desk.pass_second(), SECOND)
    before = desk.aliases()
    report = deployment.roll_back_failed(desk.settings, desk.first, reason="injected", target=TargetName.COMPOSE)
    assert (report.rolled_back, report.champion) == (None, before[CHAMPION])
    assert desk.aliases() == before
    assert desk.host.image == SECOND


@pytest.mark.parametrize("answering", [True, False])
def test_a_failed_first_version_is_stopped_where_it_answers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answering: bool
) -> None:
    """There is nothing to go back to: then there is no champion. Another version that answers is left alone."""
    desk.deploy(desk.first, FIRST)
    version = desk.first if answering else "another"
    monkeypatch.setattr(client, "model_info", lambda *_: {"version": version})
    for rolled_back in (desk.first, None):
        report = deployment.roll_back_failed(desk.settings, desk.first, reason="injected", target=TargetName.COMPOSE)
        assert (report.champion, report.rolled_back, report.deployment) == (None, rolled_back, None)
        assert desk.host.image == (None if answering else FIRST)
        assert desk.aliases() == {}
    ends = [each for each in desk.registry.changes() if each.what == What.STOPPED]
    assert [(each.version, each.artifact, each.why) for each in ends] == [(desk.first, FIRST, "injected")] * answering
    assert desk.registry.info(desk.first).tags[ROLLBACK_REASON] == "injected"
    with pytest.raises(GateRefused, match="it was rolled back"):
        desk.registry.promote(desk.first)
    # It was not the model: it may become the champion again by name.
    assert deployment.roll_back(desk.settings, to=desk.first).champion == desk.first
    assert desk.aliases() == {CHAMPION: desk.first}


def test_a_stop_is_on_record_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With who, why and what ran there; a deployment that is not on record leaves none, and a registry that is away stops nobody."""
    desk.host.image = FIRST
    assert deployment.stop(desk.settings, target=TargetName.COMPOSE) == Stopped(stopped=True)
    before = desk.registry.changes()
    desk.deploy(desk.first, FIRST)
    for stopped in (True, False):
        found = deployment.stop(desk.settings, target=TargetName.COMPOSE, reason="end of the month")
        assert found == Stopped(stopped=stopped)
    _promoted, deployed, *ends = desk.registry.changes()[len(before) :]
    [end] = ends
    assert (end.what, end.why, end.by) == (What.STOPPED, "end of the month", desk.settings.who)
    assert [getattr(end, name) for name in ("version", "run_id", "target", "artifact")] == [
        getattr(deployed, name) for name in ("version", "run_id", "target", "artifact")
    ]

    def away(_: Settings) -> None:
        raise Unreachable("it does not answer", where="the registry")

    desk.host.image = FIRST
    monkeypatch.setattr(deployment, "open_registry", away)
    found = deployment.stop(desk.settings, target=TargetName.COMPOSE)
    assert found.stopped
    assert "it does not answer" in found.unrecorded


def test_a_second_version_that_fails_after_the_first_was_withdrawn_is_withdrawn_too(desk: Desk) -> None:
    """That a version was champion once does not mean that there is one to go back to; `previous` goes as well."""
    desk.deploy(desk.first, FIRST)
    second = desk.pass_second()
    for version in (desk.first, second):
        desk.registry.client.set_registered_model_alias(CONTRACT.name, CHAMPION, version)
        if version == desk.first:
            # A promotion that was killed halfway leaves both aliases on the same version.
            desk.registry.client.set_registered_model_alias(CONTRACT.name, PREVIOUS, version)
        report = deployment.roll_back_failed(desk.settings, version, reason="injected")
        assert (report.champion, report.rolled_back) == (None, version)
        assert desk.aliases() == {}


def test_the_gate_names_the_version_only_if_it_passed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused version ends in exit code 4 and leaves no output that a later job could go on with."""
    weak = desk.trained.weak
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    arguments = ["gate", "--version", weak, "--summary", str(summary), "--outputs", str(outputs)]
    assert desk.command(monkeypatch, *arguments) == 4
    assert not outputs.exists()
    assert summary.read_text().startswith(f"# Version {weak}: refuse")


def test_the_gate_writes_the_version_that_passed_for_later_jobs(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is appended to the outputs, as GitHub Actions reads them; an empty --version means the newest training."""
    monkeypatch.setattr(policies, "load_policy", lambda _: lenient())
    outputs = tmp_path / "outputs"
    outputs.write_text("other=1\n")
    today = ("--today", BASE_DT.isoformat())
    assert desk.command(monkeypatch, "gate", "--version", desk.first, *today, "--outputs", str(outputs)) == 0
    assert outputs.read_text() == f"other=1\nversion={desk.first}\n"


def test_the_commands_deploy_and_roll_back_with_summaries_and_json(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands deploy --promote, image, rollback --image-only and rollback --failed, as the workflows and the DAG call them."""
    summary = tmp_path / "summary.md"
    where = ("--target", "compose")

    def report(*arguments: str) -> dict[str, object]:
        capsys.readouterr()
        assert desk.command(monkeypatch, *arguments, "--json") == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    def deploy(version: str, image: str) -> None:
        release = ("--version", version, "--image", image, "--promote", "--summary", str(summary))
        deployed = report("deploy", *where, *release)
        assert (deployed["version"], deployed["tag"], deployed["promoted"]) == (version, image, True)
        assert report("image") == {"image": image}

    deploy(desk.first, FIRST)
    second = desk.pass_second()
    deploy(second, SECOND)
    assert report("image", "--version", desk.first) == {"image": FIRST}
    back = report("rollback", *where, "--image-only", "--summary", str(summary))
    assert (back["champion"], back["rolled_back"], desk.host.image) == (second, None, FIRST)
    back = report("rollback", *where, "--failed", second, "--reason", "injected")
    assert (back["champion"], back["rolled_back"], back["reason"]) == (desk.first, second, "injected")
    assert summary.read_text().splitlines() == [
        f"Version {desk.first} answers on : `{FIRST}`",
        f"Version {second} answers on : `{SECOND}`",
        f"Back to version {desk.first}: `{FIRST}`",
    ]
