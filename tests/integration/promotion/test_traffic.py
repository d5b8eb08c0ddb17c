"""A challenger is started, judged by the log, withdrawn or promoted: with a real MLflow store, whose versions have no models."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import insert
from support.instance import CONTRACT, INSTANCE
from support.rollouts import LIMITS
from support.stores import TABLES
from support.training import embedded

from ctcd.cli.app import run
from ctcd.contract.traffic import Canary, Experiment, Mode, Shadow, Step, TrafficPolicy, Variant
from ctcd.errors import GateRefused, NotFound, Unreachable, UsageError
from ctcd.monitoring.findings import list_findings
from ctcd.registry import tracking, traffic
from ctcd.registry.history import What
from ctcd.registry.versions import AGAINST, CHAMPION, GATE, PASSED, PENDING, ROLLED_BACK, Registry
from ctcd.settings import Settings
from ctcd.stages import traffic as stages
from ctcd.stages.connections import open_store
from ctcd.store.engine import transaction
from ctcd.store.prediction_log import shadow_id
from ctcd.traffic.judging import Verdict

pytestmark = pytest.mark.integration

LOOSE = LIMITS.model_copy(
    update={
        "false_withdrawals": 0.1,
        "max_errors": 0.05,
        "max_slowdown": 3.0,
        "max_class_change": 0.4,
        "min_hours": 0.0,
    }
)
"""Limits that 400 requests can be sure to keep."""
POLICY = TrafficPolicy(
    shadow=Shadow(share=1.0),
    canary=Canary(steps=[Step(share=0.1, min_answers=100), Step(share=0.5, min_answers=100)]),
    limits=LOOSE,
)
GROUP = CONTRACT.group.name


def request_id(variant: Variant, number: int) -> str:
    """Return an id; the shadow's rows are beside those of the champion."""
    if variant is Variant.SHADOW:
        return shadow_id(request_id(Variant.CHAMPION, number))
    return f"{list(Variant).index(variant)}{number:031x}"


@dataclass(frozen=True)
class Desk:
    """A registry with a champion, version 1, and two versions that passed the gate against it."""

    settings: Settings
    client: MlflowClient
    registry: Registry
    use: Callable[[TrafficPolicy | None], None]

    def start(self, *, kind: str = "canary", step: int = 1) -> Experiment:
        """Start an experiment with version 2, and let it be in force for an hour."""
        began = stages.start(self.settings, "2", kind=kind, reason="the spring model")
        past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        changed = replace(began, effective=past, step=step if began.step else 0)
        traffic.write(self.client, CONTRACT.name, changed)
        return changed

    def log(self, version: str, variant: Variant, rows: int, **given: Any) -> None:
        made = datetime.now(UTC) - timedelta(minutes=30)
        run_id = self.registry.info(version).run_id
        with transaction(open_store(self.settings)) as connection:
            connection.execute(
                insert(TABLES.predictions),
                [
                    {
                        GROUP: number + 1, "features": {}, "prediction": CONTRACT.classes[number % 2],
                        "confidence": 0.5, "elapsed_ms": 5.0 + number % 7, "created_at": made,
                        "request_id": request_id(variant, number), "model_version": version, "run_id": run_id,
                        "variant": variant.value,
                    } | given
                    for number in range(rows)
                ],
            )  # fmt: skip

    def sound(self) -> None:
        """Log what a challenger without a fault answers."""
        self.log("1", Variant.CHAMPION, 1_000)
        self.log("2", Variant.CHALLENGER, 400)

    def changes(self) -> list[tuple[str, str, str]]:
        return [(each.what, each.version, each.target) for each in self.registry.changes()]


@pytest.fixture
def desk(tmp_path: Path, empty_mlflow: Path, migrated_file: bytes, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copy(empty_mlflow, tmp_path)
    (tmp_path / "store.db").write_bytes(migrated_file)
    settings = embedded(tmp_path).model_copy(update={"contracts": INSTANCE.folder, "actor": "Ann"})
    of_commands = {
        "CTCD_HOME": tmp_path,
        "CTCD_CONTRACTS": INSTANCE.folder,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    for name, value in of_commands.items():
        monkeypatch.setenv(name, str(value))
    client = tracking.connect(settings)
    experiment = tracking.experiment_id(client, CONTRACT, settings)
    client.create_registered_model(CONTRACT.name)
    for _ in range(3):
        client.create_model_version(CONTRACT.name, f"{tmp_path}/none", client.create_run(experiment).info.run_id)
    client.set_registered_model_alias(CONTRACT.name, CHAMPION, "1")
    for version in ("2", "3"):
        for tag, value in ((GATE, PASSED), (AGAINST, "1")):
            client.set_model_version_tag(CONTRACT.name, version, tag, value)

    def use(policy: TrafficPolicy | None) -> None:
        monkeypatch.setitem(vars(INSTANCE), "traffic", policy)

    use(POLICY)
    return Desk(settings, client, Registry(client, CONTRACT, settings), use)


def test_an_experiment_is_started_changed_and_ended_on_record(desk: Desk) -> None:
    """Who, why and which requests; what was stopped may be promoted."""
    assert stages.start(desk.settings, "2", kind="shadow", reason="first look").mode is Mode.SHADOW
    canary = stages.start(desk.settings, "2", kind="canary")
    assert (canary.step, canary.share) == (1, 0.1)
    assert stages.step(desk.settings, reason="quiet").share == 0.5
    with pytest.raises(UsageError, match="there is no step 3"):
        stages.step(desk.settings)
    assert stages.step(desk.settings, to=1).id == canary.id
    assert desk.registry.challenger() is not None
    stages.stop(desk.settings, reason="the campaign begins")
    assert desk.registry.challenger() is None
    assert desk.changes() == [
        ("challenges", "2", "shadow, 100%"),
        ("challenges", "2", "canary, step 1, 10%"),
        ("challenges", "2", "canary, step 2, 50%"),
        ("challenges", "2", "canary, step 1, 10%"),
        ("ended as challenger", "2", ""),
    ]
    found = desk.registry.changes()
    assert {each.by for each in found} == {"Ann"}
    assert [each.why for each in found] == ["first look", "not given", "quiet", "not given", "the campaign begins"]
    assert desk.registry.promote("2").changed


def test_whatever_runs_can_be_ended(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """An alias, tag or version changed by hand is told in one line by each command, and ended, on record, by `stop`."""
    damages: list[tuple[Callable[[], object], str]] = [
        (lambda: desk.client.set_registered_model_alias(CONTRACT.name, traffic.CHALLENGER, "3"), "names version 3"),
        (lambda: desk.client.set_registered_model_tag(CONTRACT.name, traffic.TAG, "{}"), "is not an experiment"),
        (lambda: desk.client.delete_model_version(CONTRACT.name, "2"), "no experiment runs"),  # so is its alias
    ]
    for damage, problem in damages:
        stages.start(desk.settings, "2", kind="canary")
        damage()
        if problem != "no experiment runs":
            for command in (["status"], ["judge"], ["step"], ["start", "2"]):
                assert run(["traffic", *command]) == UsageError.exit_code
                shown = capsys.readouterr().err
                assert problem in shown
                assert "it is ended by: ctcd traffic stop" in shown
        assert run(["traffic", "stop", "--reason", "moved"]) == 0
        assert capsys.readouterr().out == "ended: an experiment that was changed by hand\n"
        assert traffic.named(desk.client, CONTRACT.name) == (None, None)
        change = desk.registry.changes()[-1]
        assert (change.what, change.version) == (What.CHALLENGE_ENDED, "2")
        assert change.why.startswith("moved; ")
        assert problem in change.why
    assert run(["traffic", "stop"]) == NotFound.exit_code
    desk.client.set_registered_model_alias(CONTRACT.name, traffic.CHALLENGER, "3")
    assert run(["traffic", "stop"]) == 0
    assert traffic.named(desk.client, CONTRACT.name) == (None, None)


def test_only_what_the_gate_has_passed_challenges(desk: Desk) -> None:
    """Nor the champion itself, nor a second challenger, nor what the policy does not have, or has no limits for."""
    desk.client.set_model_version_tag(CONTRACT.name, "3", AGAINST, "7")
    with pytest.raises(GateRefused, match="compared with champion 7"):
        stages.start(desk.settings, "3", kind="canary")
    with pytest.raises(UsageError, match="version 1 is the champion"):
        stages.start(desk.settings, "1", kind="canary")
    with pytest.raises(UsageError, match="is not in the policy"):
        stages.start(desk.settings, "2", kind="route")
    for policy, problem in (
        (None, "there is no such file"),
        (POLICY.model_copy(update={"limits": None}), "no limits to judge by"),
    ):
        desk.use(policy)
        with pytest.raises(UsageError, match=problem):
            stages.start(desk.settings, "2", kind="canary")
    desk.use(POLICY)
    stages.start(desk.settings, "2", kind="shadow")
    with pytest.raises(UsageError, match="version 2 is the challenger"):
        stages.start(desk.settings, "3", kind="shadow")
    with pytest.raises(UsageError, match="a shadow has no steps"):
        stages.step(desk.settings)
    assert desk.changes() == [("challenges", "2", "shadow, 100%")]


def test_a_bad_challenger_withdraws_itself(desk: Desk) -> None:
    """The champion answers everything again, nothing promotes the version any more, and there is a finding."""
    experiment = desk.start()
    desk.sound()
    desk.log("1", Variant.FALLBACK, 200)
    assert stages.status(desk.settings).verdict is Verdict.WITHDRAW
    assert desk.registry.challenger() is not None  # a look changes nothing
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.WITHDRAW, "withdrawn")
    assert desk.registry.challenger() is None
    assert ROLLED_BACK in desk.registry.info("2").tags
    assert desk.registry.newest_passed() == "3"
    with pytest.raises(GateRefused, match=r"rolled back.*errors: worse by at least"):
        desk.registry.promote("2")
    [finding] = list_findings(open_store(desk.settings), CONTRACT)
    assert (finding.kind, finding.subject) == ("challenger", f"version 2, experiment {experiment.id}")
    assert finding.evidence["errors"]["limit"] == LOOSE.max_errors
    assert [each.id for each in report.findings] == [finding.id]
    change = desk.registry.changes()[-1]
    assert (change.what, change.version, change.by) == ("withdrawn as challenger", "2", "Ann")
    assert "errors: worse by at least" in change.why
    again = stages.judge(desk.settings)
    assert (again.verdict, again.done, again.why) == (None, "", "no experiment runs")


def test_a_withdrawal_that_was_killed_is_completed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next judgement ends what the first one could not, and raises no second finding."""
    desk.start()
    desk.sound()
    desk.log("1", Variant.FALLBACK, 200)
    with monkeypatch.context() as killed:
        killed.setattr(traffic, "clear", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stages.judge(desk.settings)
    assert ROLLED_BACK in desk.registry.info("2").tags
    assert desk.registry.challenger() is not None
    assert stages.judge(desk.settings).done == "withdrawn"
    assert desk.registry.challenger() is None
    assert len(list_findings(open_store(desk.settings), CONTRACT)) == 1


def test_a_withdrawal_does_not_wait_for_its_finding(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that can be read, but not written to, such as one whose disk is full, keeps no bad challenger in service."""
    desk.start()
    desk.sound()
    desk.log("1", Variant.FALLBACK, 200)

    def full(*_: object) -> None:
        raise Unreachable("its disk is full")

    monkeypatch.setattr(stages, "_raise", full)  # no disk of a test can be filled
    with pytest.raises(Unreachable, match="its disk is full"):
        stages.judge(desk.settings)
    assert desk.registry.challenger() is None
    assert ROLLED_BACK in desk.registry.info("2").tags


def test_a_repeated_start_changes_nothing(desk: Desk) -> None:
    """The step goes on, and what was seen in it counts, unless the policy has another share for it now."""
    desk.start(step=2)
    running = stages.start(desk.settings, "2", kind="canary")  # with the share that the second step has
    assert (running.step, running.share) == (2, 0.5)
    before = desk.changes()
    assert stages.start(desk.settings, "2", kind="canary") == running
    assert desk.changes() == before


def test_a_good_challenger_goes_on_step_by_step(desk: Desk) -> None:
    """After the last step its promotion is recommended, and done only if the policy says so; then it is the champion."""
    desk.start()
    desk.sound()
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.NEXT_STEP, "step 2 begins")
    [_, challenger] = report.variants
    assert (challenger.version, challenger.requests, challenger.failed, challenger.median_ms) == ("2", 400, 0, 8.0)
    assert stages.judge(desk.settings).verdict is Verdict.CONTINUE  # what was seen in the first step does not count
    desk.start(step=2)
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.PROMOTE, "")
    assert desk.registry.champion().version == "1"
    desk.use(POLICY.model_copy(update={"limits": LOOSE.model_copy(update={"promote": True})}))
    assert stages.judge(desk.settings).done == "promoted"
    assert desk.registry.champion().version == "2"
    assert desk.registry.challenger() is None
    assert [what for what, *_ in desk.changes()][-2:] == ["promoted", "ended as challenger"]


def test_a_shadow_that_keeps_its_limits_waits_for_a_person(desk: Desk) -> None:
    """That it answers clients is not begun by itself."""
    desk.start(kind="shadow")
    desk.log("1", Variant.CHAMPION, 400)
    desk.log("2", Variant.SHADOW, 400)
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.NEXT_STEP, "")
    assert [each.agreement for each in report.variants] == [None, 1.0]
    assert desk.registry.challenger() is not None


@pytest.mark.parametrize("promote", [True, False])
def test_no_promotion_goes_around_the_gate(desk: Desk, promote: bool) -> None:
    """A challenger that the gate passed against another champion is ended, however good its answers are."""
    desk.start(step=2)
    desk.sound()
    desk.use(POLICY.model_copy(update={"limits": LOOSE.model_copy(update={"promote": promote})}))
    desk.client.set_model_version_tag(CONTRACT.name, "2", AGAINST, "3")
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.END, "ended")
    assert "compared with champion 3" in report.why
    assert desk.registry.champion().version == "1"
    assert ROLLED_BACK not in desk.registry.info("2").tags
    assert [what for what, *_ in desk.changes()] == [What.CHALLENGES, What.CHALLENGE_ENDED]


def test_an_experiment_goes_on_while_the_gate_decides(desk: Desk) -> None:
    """A new decision about the challenger has not refused it while it is written; without the pass there is no next step."""
    desk.start()
    desk.sound()
    desk.client.set_model_version_tag(CONTRACT.name, "2", GATE, PENDING)
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done) == (Verdict.CONTINUE, "")
    assert "the gate has not passed it" in report.why
    assert desk.registry.challenger() is not None


def test_a_promotion_that_was_killed_is_completed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new champion is no challenger any more; its experiment ends, and the repetition reports it for deployment."""
    desk.start(step=2)
    desk.sound()
    desk.use(POLICY.model_copy(update={"limits": LOOSE.model_copy(update={"promote": True})}))
    with monkeypatch.context() as killed:
        killed.setattr(Registry, "end_challenge", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stages.judge(desk.settings)
    assert desk.registry.champion().version == "2"
    report = stages.judge(desk.settings)
    assert (report.verdict, report.done, report.why) == (Verdict.END, "promoted", "it is the champion")
    assert (desk.registry.champion().version, desk.registry.challenger()) == ("2", None)


def test_commands_show_what_is_known(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """As tables and as one JSON document, and say what is missing with an exit code."""
    assert [run(["traffic", "stop"]), run(["traffic", "status"]), run(["traffic", "start", "9"])] == [5, 0, 5]
    assert "no experiment runs" in capsys.readouterr().out
    desk.start()
    desk.sound()
    assert run(["traffic", "status"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "challenger: version 2, canary, step 1: 10%",
        "challenger 2",
        "median of the time",
        "verdict: next step",
        "kept",
    ):
        assert text in shown
    assert run(["traffic", "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["experiment"]["version"] == "2"
    assert [each["variant"] for each in document["variants"]] == ["champion", "challenger"]
    assert {each["state"] for each in document["measures"]} == {"kept", "open"}
    assert run(["traffic", "judge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == "step 2 begins"
    assert run(["traffic", "stop", "--reason", "enough", "--json"]) == 0
    with pytest.raises(NotFound, match="no experiment runs"):
        stages.step(desk.settings)
