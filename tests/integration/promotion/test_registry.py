"""First promotion, refusal, tie, replacement, rollback and interruption, with real models in a real MLflow store."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.raw import feature_row, label_row, write_tables
from support.stores import TABLES, load, rows_of
from support.training import BASE_DT, embedded, smoke_training

from ctcd.contract.traffic import Mode, TrafficPolicy
from ctcd.errors import CtcdError, GateRefused, NotFound, UsageError
from ctcd.model.scorer import Scorer
from ctcd.promotion.decision import Decision, Status
from ctcd.promotion.gate import GateOutcome, gate
from ctcd.promotion.plots import draw
from ctcd.promotion.policy import Policy, load_policy
from ctcd.registry import history, tracking, traffic
from ctcd.registry.versions import CHAMPION, DECISION, GATE, PREVIOUS, PROMOTED_AT, PROMOTED_BY, REASONS, Registry
from ctcd.settings import Environment, Settings
from ctcd.stages import promotion
from ctcd.stages.connections import open_store
from ctcd.stages.scoring import predict_new
from ctcd.training.runs import TrainingRuns

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Trained:
    """A store with three trainings: two that differ in their seed only and are far better than the third."""

    home: Path
    weak: str
    good: str
    better: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Trained:
    home = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_mlflow, home)
    settings = embedded(home)
    rows = snapshot_frame(CONTRACT, rows=3_000)
    runs = {name: smoke_training(settings, rows, iterations=n).run_id for name, n in STEPS.items()}
    return Trained(home, **runs)


STEPS = {"weak": 1, "good": 8, "better": 120}


@dataclass(frozen=True)
class Desk:
    """A fresh registry over the trained runs."""

    settings: Settings
    client: MlflowClient
    registry: Registry
    runs: Trained

    def judge(self, run_id: str, policy: Policy | None = None, *, without_champion: str | None = None) -> GateOutcome:
        return gate(
            Registry(self.client, CONTRACT),
            self.settings,
            CONTRACT,
            policy or lenient(),
            request=PAYLOAD.request,
            run_id=run_id,
            today=BASE_DT,
            without_champion=without_champion,
        )

    def trainings(self) -> TrainingRuns:
        return TrainingRuns(self.client, CONTRACT, self.settings)

    def ship(self, run_id: str) -> str:
        outcome = self.judge(run_id)
        assert outcome.promote, outcome.reasons
        assert self.registry.promote(outcome.version).changed
        return outcome.version

    def aliases(self) -> dict[str, str]:
        found = {alias: self.registry.find(alias) for alias in (CHAMPION, PREVIOUS)}
        return {alias: info.version for alias, info in found.items() if info}


@pytest.fixture
def desk(trained: Trained, tmp_path: Path) -> Desk:
    settings = embedded(_copy_of(trained, tmp_path))
    client = tracking.connect(settings)
    return Desk(settings, client, Registry(client, CONTRACT), trained)


def _copy_of(trained: Trained, home: Path) -> Path:
    # Artifacts are read from where they were logged; each copy has aliases, versions and tags of its own.
    home.mkdir(exist_ok=True)
    shutil.copy(trained.home / "mlflow.db", home / "mlflow.db")
    return home


def lenient(**comparison: Any) -> Policy:
    """Return the shipped policy with floors that a tiny model on 600 rows of holdout can reach, on a busy machine."""
    rules = load_policy(INSTANCE).model_dump()
    rules["floors"] = {"accuracy": 0.4, "macro_f1": 0.3, "recall": dict.fromkeys(CONTRACT.classes, 0.1)}
    rules["calibration"]["max_ece"] = 0.5
    rules["speed"] = {"max_row_p95_ms": 1_000.0, "max_batch_row_ms": 1_000.0}
    rules["slices"] |= {"min_rows": 30, "accuracy": 0.1, "max_drop": 0.25}
    rules["comparison"] |= comparison
    return Policy.model_validate(rules)


def test_a_model_that_is_made_again_is_not_taken_for_the_old_one(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the registered model was deleted, the new champion has version 1 too, and scores what the old one had scored."""
    raw = write_tables(tmp_path_factory.mktemp("raw"), [feature_row(1, machine=1)], [label_row(9, machine=9)])
    load(open_store(desk.settings), raw)
    for run_id in (desk.runs.good, desk.runs.better):
        assert desk.ship(run_id) == "1"
        assert [predict_new(desk.settings).rows for _again in range(2)] == [1, 0]
        desk.client.delete_registered_model(CONTRACT.name)
    scored = rows_of(open_store(desk.settings), TABLES.scores)
    assert {row["run_id"] for row in scored} == {desk.runs.good, desk.runs.better}


def test_first_model_is_promoted_and_can_be_scored(desk: Desk, tmp_path: Path) -> None:
    """From a training to a champion whose scorer loads, with the decision in registry, run and reports."""
    outcome = desk.judge(desk.runs.good)
    assert outcome.status is Status.PROMOTE
    assert desk.aliases() == {}
    move = desk.registry.promote(outcome.version)
    assert (move.version, move.before, move.changed) == (outcome.version, None, True)
    champion = desk.registry.champion()
    assert champion.run_id == desk.runs.good
    assert champion.aliases == (CHAMPION,)
    assert champion.tags[GATE] == "passed"
    assert champion.tags["contract_version"] == CONTRACT.version
    assert champion.tags["base_dt"] == BASE_DT.isoformat()
    assert PROMOTED_AT in champion.tags
    scorer = desk.registry.scorer(champion, tmp_path / "scorers")
    assert scorer.classes == CONTRACT.classes
    written = json.loads(Path(outcome.json_file).read_text())
    recorded = f"gate/{written['number']}.json"
    kept = download_artifacts(run_id=champion.run_id, artifact_path=recorded, dst_path=str(tmp_path))
    assert json.loads(Path(kept).read_text()) == written
    assert written["promote"] is True
    assert Path(outcome.markdown_file).read_text().startswith(f"# Version {outcome.version}: promote")


def test_the_evidence_of_a_version_is_that_of_its_own_run(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, plots, description and tags are those of the judged run, not of the champion's, and have no group of the holdout."""
    monkeypatch.setattr("ctcd.promotion.gate.draw", draw)
    desk.ship(desk.runs.weak)
    champion = desk.registry.champion()
    desk.registry.record_deployment(champion, before=None, reason="", target="compose (local)", artifact="model:weak")
    outcome = desk.judge(desk.runs.better)
    written = json.loads(Path(outcome.json_file).read_text())
    evidence, number = written["evidence"], written["number"]
    assert dict(evidence["lineage"])["training run"] == written["candidate_run"] == desk.runs.better
    assert dict(evidence["lineage"])["deployed"] == "not when this was decided"
    assert outcome.candidate is not None
    assert outcome.champion is not None
    assert evidence["scores"]["this version"]["accuracy"]["point"] == outcome.candidate.accuracy
    assert evidence["scores"]["champion"]["accuracy"]["point"] == outcome.champion.accuracy
    trained = desk.trainings().report(desk.runs.better)
    assert evidence["parameters"]["rounds"] == str(trained.trials[trained.best].iterations)
    assert evidence["curve"]["validation"] == trained.trials[trained.best].curve["validation"]
    features = {feature["name"] for feature in evidence["about"]["features"]}
    assert {column.name for column in CONTRACT.model_inputs if column.list_of is None} <= features
    assert evidence["about"]["environment"]["python"] == platform.python_version()
    folder = Path(download_artifacts(run_id=desk.runs.better, artifact_path="gate", dst_path=str(tmp_path)))
    page = Path(outcome.page_file).read_text()
    assert (folder / f"{number}.html").read_text() == page
    plots = sorted((folder / str(number)).glob("*.svg"))
    assert len(plots) == 6
    assert all(plot.read_text() in page for plot in plots)
    info = desk.client.get_model_version(CONTRACT.name, outcome.version)
    assert f"accuracy {outcome.candidate.accuracy:.4f} [" in str(info.description)
    assert f"/runs/{desk.runs.better}/artifacts/gate/{number}.html)" in str(info.description)
    assert info.tags["estimator"] == "catboost"
    assert desk.client.get_run(desk.runs.better).data.tags[GATE] == "passed"
    assert CONTRACT.label.name in str(desk.client.get_registered_model(CONTRACT.name).description)
    inputs = desk.client.get_run(desk.runs.better).inputs
    assert inputs is not None
    [found] = inputs.dataset_inputs
    assert found.dataset.digest == trained.data_hash[:36]
    assert (
        desk.client.get_metric_history(desk.runs.better, "loss_validation")[-1].step == evidence["curve"]["round"][-1]
    )
    compared = promotion.compare(desk.settings, "1", outcome.version, page=tmp_path / "compared.html")
    assert compared.same_rows
    assert (tmp_path / "compared.html").read_text().count("<svg") == 12


def test_a_description_that_a_person_wrote_stays(desk: Desk) -> None:
    """The gate replaces its own description of a version, and no other."""
    outcome = desk.judge(desk.runs.good)
    desk.client.update_model_version(CONTRACT.name, outcome.version, "ask Jo before you use it")
    desk.judge(desk.runs.good)
    assert desk.client.get_model_version(CONTRACT.name, outcome.version).description == "ask Jo before you use it"


def test_without_its_page_nothing_is_decided(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot that fails is an error that names the reason: no refusal, no decision, no file; the next one has the number."""

    def fail(_: object) -> NoReturn:
        raise ZeroDivisionError

    first = desk.judge(desk.runs.good)
    before = desk.registry.decisions(first.version), desk.registry.info(first.version)
    with monkeypatch.context() as patch:
        patch.setattr("ctcd.promotion.gate.draw", fail)
        with pytest.raises(CtcdError, match="evidence of the decision cannot be written: ZeroDivisionError") as found:
            desk.judge(desk.runs.good)
    assert found.value.exit_code == 1
    assert (desk.registry.decisions(first.version), desk.registry.info(first.version)) == before
    files = sorted(path.name for path in Path(first.page_file).parent.iterdir())
    assert files == sorted(Path(name).name for name in (first.page_file, first.json_file, first.markdown_file))
    assert int(Path(desk.judge(desk.runs.good).json_file).stem) == int(Path(first.json_file).stem) + 1


def test_refused_model_is_registered_as_refused(desk: Desk) -> None:
    """A model below the shipped floors gets a version that says refused and why, and cannot be promoted."""
    outcome = desk.judge(desk.runs.weak, load_policy(INSTANCE))
    assert outcome.status is Status.REFUSE
    info = desk.registry.info(outcome.version)
    assert info.tags[GATE] == "refused"
    assert tuple(json.loads(info.tags[REASONS])) == outcome.reasons != ()
    with pytest.raises(GateRefused, match="macro F1"):
        desk.registry.promote(outcome.version)
    assert desk.aliases() == {}


def test_gate_and_promotion_run_twice_leave_the_same(desk: Desk) -> None:
    """Repeating gate and promotion gives the same version and decision, and does not change the champion."""
    first, again = desk.judge(desk.runs.good), desk.judge(desk.runs.good)
    assert again.version == first.version
    desk.registry.promote(first.version)
    champion = desk.registry.champion()
    assert not desk.registry.promote(first.version).changed
    kept = Path(first.json_file).read_text()
    once_more = desk.judge(desk.runs.good)
    assert once_more.status is Status.ALREADY_CHAMPION
    assert desk.registry.champion() == champion
    assert Path(first.json_file).read_text() == kept


def test_every_decision_is_kept_and_the_one_that_promoted_stays_marked(desk: Desk, tmp_path: Path) -> None:
    """Judging again replaces nothing: each decision has a number and a time, in the reports and in the run.

    A champion that was judged again once another had replaced it says which decision had promoted it.
    """
    first = desk.judge(desk.runs.good)
    desk.registry.promote(first.version)
    outcomes = [first, desk.judge(desk.runs.good)]
    desk.ship(desk.runs.better)
    outcomes += [desk.judge(desk.runs.good), desk.judge(desk.runs.good)]
    refused = Status.REFUSE
    assert [each.status for each in outcomes] == [Status.PROMOTE, Status.ALREADY_CHAMPION, refused, refused]
    folder = Path(download_artifacts(run_id=desk.runs.good, artifact_path="gate", dst_path=str(tmp_path)))
    # Other tests judge the same run: decisions are numbered within the run, and theirs stay on record too.
    began = int(Path(first.json_file).stem)
    assert {path.name for path in folder.iterdir()} == {
        f"{number}{kind}" for number in range(1, began + 4) for kind in ("", ".html", ".json", ".md")
    }
    for number, outcome in enumerate(outcomes, began):
        assert Path(outcome.json_file).name == f"{number}.json"
        for written in (outcome.json_file, outcome.markdown_file, outcome.page_file):
            assert Path(written).read_bytes() == (folder / Path(written).name).read_bytes()
        content = json.loads(Path(outcome.json_file).read_text())
        assert (content["number"], content["status"]) == (number, outcome.status)
        assert datetime.fromisoformat(content["decided_at"]).tzinfo is UTC
        decided_at = content["decided_at"].replace("+00:00", "Z")
        assert f"Decision {number} about this version, {decided_at}." in Path(outcome.markdown_file).read_text()
    tags = desk.registry.info(first.version).tags
    assert (tags[GATE], tags[DECISION], tags[PROMOTED_BY]) == ("refused", str(began + 3), str(began))
    desk.registry.rollback(reason="a test")
    assert desk.registry.champion().tags[PROMOTED_BY] == str(began)


def test_history_of_a_version_can_be_read_again(desk: Desk) -> None:
    """All versions are listed with their aliases, the newest first; each decision reads back as it was made."""
    assert desk.registry.versions() == []
    outcome = desk.judge(desk.runs.good)
    desk.registry.promote(outcome.version)
    better = desk.ship(desk.runs.better)
    listed = desk.registry.versions()
    assert [(each.version, each.aliases) for each in listed] == [(better, (CHAMPION,)), (outcome.version, (PREVIOUS,))]
    assert listed == [desk.registry.info(each.version) for each in listed]
    again = desk.judge(desk.runs.good)
    *_, first, last = promotion.why(desk.settings, outcome.version)
    assert (first.decision, last.decision) == (outcome.decision, again.decision)
    assert (first.promoted, last.promoted) == (True, False)
    # A training of its own: the artifacts of the others, and so their decisions, are those of all tests.
    unjudged = desk.registry.register(smoke_training(desk.settings, iterations=2).run_id)
    with pytest.raises(NotFound, match=f"has not judged version {unjudged}"):
        promotion.why(desk.settings, unjudged)
    # As of a record that was deleted, or made before decisions had numbers.
    desk.client.set_model_version_tag(CONTRACT.name, unjudged, GATE, "passed")
    with pytest.raises(
        NotFound, match=f"the verdict on version {unjudged} is 'passed', but its decision is not on record"
    ):
        promotion.why(desk.settings, unjudged)


def test_rolled_back_version_is_refused_for_that_reason(desk: Desk) -> None:
    """Promoting it again says when and why it was rolled back, not that the gate has not passed it."""
    desk.ship(desk.runs.good)
    better = desk.ship(desk.runs.better)
    desk.registry.rollback(reason="complaints")
    with pytest.raises(GateRefused, match=r"was rolled back at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, reason: complaints"):
        desk.registry.promote(better)


def test_better_model_replaces_the_champion_and_worse_does_not(desk: Desk) -> None:
    """Only a better model replaces the champion, which becomes `previous`."""
    weak = desk.ship(desk.runs.good)
    better = desk.ship(desk.runs.better)
    assert desk.aliases() == {CHAMPION: better, PREVIOUS: weak}
    outcome = desk.judge(desk.runs.weak)
    assert outcome.status is Status.REFUSE
    assert any("champion" in reason for reason in outcome.reasons)
    assert outcome.champion is not None
    assert outcome.candidate is not None
    assert outcome.candidate.macro_f1 < outcome.champion.macro_f1


def test_same_model_trained_again_ties_and_the_champion_stays(desk: Desk) -> None:
    """A second identical training is another run with the same answers: the policy keeps the champion."""
    desk.ship(desk.runs.good)
    twin = smoke_training(
        desk.settings, snapshot_frame(CONTRACT, rows=3_000), iterations=STEPS["good"], force=True
    ).run_id
    assert twin != desk.runs.good
    outcome = desk.judge(twin)
    assert outcome.status is Status.REFUSE
    assert [reason.partition(":")[0] for reason in outcome.reasons] == ["macro f1 compared with the champion"]
    assert "exact tie" in outcome.reasons[0]
    assert desk.judge(twin, lenient(tie="replace")).promote


def test_stale_decision_is_refused(desk: Desk) -> None:
    """A version that passed without a champion must pass the gate again once there is one."""
    good, better = desk.judge(desk.runs.good), desk.judge(desk.runs.better)
    desk.registry.promote(good.version)
    with pytest.raises(GateRefused, match=f"compared with champion none, but the champion is {good.version}"):
        desk.registry.promote(better.version)
    assert desk.aliases() == {CHAMPION: good.version}
    desk.ship(desk.runs.better)


def test_version_that_was_never_judged_is_refused(desk: Desk) -> None:
    """Registration alone does not let a model through, nor does a decision that was only half written."""
    version = desk.registry.register(desk.runs.good)
    with pytest.raises(GateRefused, match="has not passed"):
        desk.registry.promote(version)
    outcome = desk.judge(desk.runs.good)
    desk.client.set_model_version_tag(CONTRACT.name, outcome.version, GATE, "pending")
    with pytest.raises(GateRefused, match="has not passed"):
        desk.registry.promote(version)


def record(desk: Desk, decision: Decision) -> None:
    number = desk.registry.next_decision(decision.candidate)
    desk.registry.record_decision(
        decision.candidate,
        number,
        passed=decision.promote,
        reasons=decision.reasons,
        champion=decision.champion,
        files={f"{number}.{kind}": "{}" for kind in ("html", "md", "json")},
    )


@pytest.mark.no_cover  # other tests here run the same lines, and measuring takes two thirds as long again
def test_decision_killed_while_it_is_recorded_is_no_pass(desk: Desk) -> None:
    """A refusal that is killed while it replaces an earlier pass leaves nothing that can be promoted."""
    outcome = desk.judge(desk.runs.good)
    refusal = replace(outcome.decision, status=Status.REFUSE)
    for calls in range(7):
        record(desk, outcome.decision)
        with pytest.MonkeyPatch.context() as patch:
            die_after(calls, desk.client, patch)
            with pytest.raises(Killed):
                record(desk, refusal)
        verdict = desk.registry.info(outcome.version).tags[GATE]
        assert verdict == ("passed" if calls == 0 else "pending")


class Killed(BaseException):
    """Stands for the death of the process."""


WRITES = (
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "delete_model_version_tag",
    "create_model_version",
    "create_registered_model",
    "create_run",
    "log_text",
)


def die_after(calls: int, client: MlflowClient, patch: pytest.MonkeyPatch) -> None:
    """Allow a number of writing calls, then raise."""
    left = iter(range(calls))

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return original(*args, **kwargs)

        return call

    for name in WRITES:
        patch.setattr(client, name, guarded(getattr(client, name)))


def killed_everywhere(desk: Desk, act: Callable[[], object], reset: Callable[[], object]) -> int:
    """Interrupt an action before each of its writes, run it again, and return the number of writes."""
    reset()
    act()
    expected, places = desk.aliases(), 0
    while True:
        reset()
        with pytest.MonkeyPatch.context() as patch:
            die_after(places, desk.client, patch)
            try:
                act()
            except Killed:
                # Whatever was cut off, a champion is in service.
                assert CHAMPION in desk.aliases()
            else:
                return places
        act()
        assert desk.aliases() == expected
        places += 1


@pytest.mark.no_cover  # other tests here run the same lines, and measuring takes two thirds as long again
def test_promotion_killed_anywhere_comes_to_its_end(desk: Desk) -> None:
    """A promotion killed before any of its writes leaves a champion in service, and completes when run again."""
    good, better = desk.ship(desk.runs.good), desk.judge(desk.runs.better).version

    def reset() -> None:
        desk.client.set_registered_model_alias(CONTRACT.name, CHAMPION, good)
        desk.client.delete_registered_model_alias(CONTRACT.name, PREVIOUS)

    assert killed_everywhere(desk, lambda: desk.registry.promote(better), reset) == 5
    assert desk.aliases() == {CHAMPION: better, PREVIOUS: good}
    assert PROMOTED_AT in desk.registry.info(better).tags


@pytest.mark.no_cover  # other tests here run the same lines, and measuring takes two thirds as long again
def test_rollback_killed_anywhere_comes_to_its_end(desk: Desk) -> None:
    """A rollback killed before any of its writes continues to the same target when run again."""
    good, better = desk.ship(desk.runs.good), desk.ship(desk.runs.better)

    def reset() -> None:
        for tag in ("rolled_back", "rolled_back_to", "rolled_back_reason"):
            desk.client.delete_model_version_tag(CONTRACT.name, better, tag)
        desk.client.set_registered_model_alias(CONTRACT.name, CHAMPION, better)
        desk.client.set_registered_model_alias(CONTRACT.name, PREVIOUS, good)

    def act() -> None:
        if desk.registry.champion().version != good:
            desk.registry.rollback(reason="a test")

    assert killed_everywhere(desk, act, reset) == 7
    assert desk.aliases() == {CHAMPION: good}


def test_every_change_of_the_champion_is_on_record_with_who_and_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was taken back, and also once the registered model was deleted; nothing that changed nothing is."""
    monkeypatch.setattr(history, "_PAGE", 2)
    settings = desk.settings.model_copy(update={"actor": "Ann"})
    ann = Registry(desk.client, CONTRACT, settings)
    good, better = desk.judge(desk.runs.good).version, desk.judge(desk.runs.better).version
    began = datetime.now(UTC)
    ann.promote(good, reason="the first one")
    ann.promote(good, reason="again, which changes nothing")
    desk.judge(desk.runs.better)
    desk.registry.promote(better)
    ann.rollback(reason="complaints " * 1_000)
    ann.rollback(better, reason="a mistake")
    ann.record_deployment(ann.info(better), before=good, reason="Monday", target="compose (production)", artifact="a@b")
    ann.withdraw(better, reason="it fails")
    expected = [
        ("promoted", good, "", "Ann", "the first one"),
        ("promoted", better, good, desk.settings.who, "not given"),
        ("rolled back to", good, better, "Ann", ("complaints " * 1_000)[:4_000]),
        ("rolled back to", better, good, "Ann", "a mistake"),
        ("deployed", better, good, "Ann", "Monday"),
        ("withdrawn", better, "", "Ann", "it fails"),
    ]
    found = desk.registry.changes()
    assert [(each.what, each.version, each.before, each.by, each.why) for each in found] == expected
    assert [each.run_id for each in found] == [
        {good: desk.runs.good, better: desk.runs.better}[each[1]] for each in expected
    ]
    assert [(each.target, each.artifact) for each in found if each.target] == [("compose (production)", "a@b")]
    times = [datetime.fromisoformat(each.at) for each in found]
    assert times == sorted(times)
    assert began <= times[0] <= times[-1] <= datetime.now(UTC)
    desk.client.delete_registered_model(CONTRACT.name)
    assert desk.registry.changes() == found
    experiment = desk.client.get_experiment_by_name(f"{CONTRACT.name}_history")
    assert experiment is not None
    desk.client.delete_experiment(experiment.experiment_id)
    again = desk.ship(desk.runs.good)
    assert [each.version for each in desk.registry.changes()] == [*(each.version for each in found), again]


def test_a_promotion_from_before_changes_were_recorded_is_known_by_its_time(desk: Desk) -> None:
    """Who and why of it are not, which is said."""
    version = desk.judge(desk.runs.good).version
    desk.client.set_model_version_tag(CONTRACT.name, version, PROMOTED_AT, "2025-08-31T12:00:00+00:00")
    [found] = desk.registry.changes()
    assert (found.at, found.what, found.by, found.why) == (
        "2025-08-31T12:00:00+00:00",
        "promoted",
        "not recorded",
        "not recorded",
    )


def test_rollback_after_a_promotion_that_was_cut_off_changes_nothing(desk: Desk) -> None:
    """With both aliases on one version, as a killed promotion leaves them, there is nothing to roll back to."""
    good = desk.ship(desk.runs.good)
    desk.client.set_registered_model_alias(CONTRACT.name, PREVIOUS, good)
    with pytest.raises(NotFound, match="no previous champion"):
        desk.registry.rollback()
    assert desk.aliases() == {CHAMPION: good, PREVIOUS: good}


def test_rollback_brings_the_previous_champion_back_once(desk: Desk) -> None:
    """The version rolled back is tagged and refused from then on; a second rollback has no target."""
    good, better = desk.ship(desk.runs.good), desk.ship(desk.runs.better)
    move = desk.registry.rollback(reason="complaints")
    assert (move.version, move.before, move.changed) == (good, better, True)
    assert desk.aliases() == {CHAMPION: good}
    assert desk.registry.info(better).tags["rolled_back_reason"] == "complaints"
    with pytest.raises(NotFound, match="no previous champion"):
        desk.registry.rollback()
    assert desk.aliases() == {CHAMPION: good}
    with pytest.raises(GateRefused):
        desk.registry.promote(better)
    outcome = desk.judge(desk.runs.better)
    assert outcome.status is Status.REFUSE
    assert "rolled back" in outcome.reasons[0]


def test_rollback_to_a_named_version_undoes_a_rollback(desk: Desk) -> None:
    """Any version that was champion can be named, also one rolled back by mistake; repeating it changes nothing."""
    good, better = desk.ship(desk.runs.good), desk.ship(desk.runs.better)
    desk.registry.rollback()
    assert desk.registry.rollback(better).changed
    assert not desk.registry.rollback(better).changed
    assert desk.aliases() == {CHAMPION: better}
    assert "rolled_back" not in desk.registry.info(better).tags
    refused = desk.judge(desk.runs.weak).version
    with pytest.raises(GateRefused, match="never passed"):
        desk.registry.rollback(refused)
    with pytest.raises(NotFound, match="version 99"):
        desk.registry.rollback("99")
    assert desk.aliases() == {CHAMPION: better}
    assert good != better


def test_promotion_waits_for_a_rollback_that_was_cut_off(desk: Desk) -> None:
    """A version whose rollback was interrupted cannot become `previous`."""
    good = desk.ship(desk.runs.good)
    better = desk.judge(desk.runs.better).version
    desk.client.set_model_version_tag(CONTRACT.name, good, "rolled_back_to", "1")
    with pytest.raises(GateRefused, match="rollback was interrupted"):
        desk.registry.promote(better)


def test_what_is_not_there_is_named(desk: Desk, tmp_path: Path) -> None:
    """No champion, no version, no run, no training for the day: each says what to run."""
    with pytest.raises(NotFound, match=r"no champion yet.*ctcd gate"):
        desk.registry.champion()
    with pytest.raises(NotFound, match="no champion yet"):
        desk.registry.rollback()
    for version in ("99", "abc"):
        with pytest.raises(NotFound, match=version):
            desk.registry.promote(version)
        with pytest.raises(NotFound, match=version):
            desk.registry.fetch_scorer(version, tmp_path / "scorer")
    for run in ("0" * 32, "abc"):
        with pytest.raises(NotFound, match=run):
            desk.registry.register(run)
    experiment = tracking.experiment_id(desk.client, CONTRACT, desk.settings)
    unfinished = desk.client.create_run(experiment).info.run_id
    with pytest.raises(NotFound, match="running and has no model"):
        desk.registry.register(unfinished)
    with pytest.raises(NotFound, match="no finished training"):
        TrainingRuns(desk.client, replace(CONTRACT, name="another"), desk.settings).newest()


def test_newest_finished_training_is_the_default_candidate(desk: Desk) -> None:
    """Without a run, the gate takes the last one that was finished; trials and failures do not count."""
    experiment = tracking.experiment_id(desk.client, CONTRACT, desk.settings)
    failed = desk.client.create_run(experiment, tags={"kind": "training"}).info.run_id
    desk.client.set_terminated(failed, "FAILED")
    assert desk.trainings().newest() == desk.runs.better


def test_a_version_of_the_same_number_in_another_registry_has_a_scorer_of_its_own(desk: Desk, tmp_path: Path) -> None:
    """Two registries that share a cache, and whose version 1 is another model each, give each its own scorer."""
    cache, other = tmp_path / "scorers", embedded(_copy_of(desk.runs, tmp_path / "other"))
    weak, better = desk.runs.weak, desk.runs.better
    found = {}
    for settings, run_id in ((desk.settings, weak), (other, better)):
        registry = Registry.open(settings, CONTRACT)
        info = registry.info(registry.register(run_id))
        assert (info.version, info.run_id) == ("1", run_id)
        found[run_id] = registry.scorer(info, cache)
    assert found[weak].estimator.rounds < found[better].estimator.rounds
    # The scorer of the first registry is still there.
    for run_id, scorer in found.items():
        assert Scorer.load(cache / f"1-{run_id}").params == scorer.params


def test_a_scorer_in_a_moved_home_says_so(desk: Desk, tmp_path: Path) -> None:
    """Whatever needs a model's files where the home was moved is told that, and not to train another model."""
    registry = Registry.open(desk.settings, CONTRACT)
    info = registry.info(registry.register(desk.runs.good))
    artifacts = desk.runs.home / "mlartifacts"
    moved = artifacts.rename(artifacts.with_name("moved"))
    try:
        with pytest.raises(NotFound, match="was CTCD_HOME moved") as refused:
            registry.scorer(info, tmp_path / "scorers")
        assert not artifacts.exists()
    finally:
        moved.rename(artifacts)
    assert f"ln -s {desk.settings.artifacts} {artifacts}" in refused.value.hint
    assert registry.scorer(info, tmp_path / "scorers").name == CONTRACT.name


def test_newest_version_that_passed_is_the_default_to_promote(desk: Desk) -> None:
    """The default is never a refused version; without a version that passed, there is an error."""
    with pytest.raises(NotFound):
        desk.registry.newest_passed()
    desk.ship(desk.runs.good)
    better = desk.ship(desk.runs.better)
    assert desk.judge(desk.runs.weak).status is Status.REFUSE
    assert desk.registry.newest_passed() == better


def test_policy_of_another_contract_is_refused_before_anything_is_written(desk: Desk) -> None:
    """Floors for other classes stop the gate, and no version is registered."""
    rules = lenient().model_dump()
    rules["floors"]["recall"] = {"Brilliant": 0.5}
    with pytest.raises(UsageError, match="no floor for class"):
        desk.judge(desk.runs.good, Policy.model_validate(rules))
    assert desk.client.search_registered_models() == []


def test_model_whose_files_are_spoiled_is_refused_with_the_reason(desk: Desk) -> None:
    """A model that cannot be loaded is refused, and the refusal is recorded."""
    outcome = judge_with_files(desk, desk.runs.good, _spoil)
    assert outcome.status is Status.REFUSE
    assert "could not be scored" in outcome.reasons[0]


def _spoil(folder: Path) -> None:
    next(folder.rglob("model.cbm")).write_bytes(b"no trees")


def judge_with_files(desk: Desk, run_id: str, change: Callable[[Path], None]) -> GateOutcome:
    """Judge a run's model whose files are changed on their way from the store."""
    original = Registry.model_folder

    def changed(self: Registry, version: str, into: Path) -> Path:
        folder = original(self, version, into)
        change(folder)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "model_folder", changed)
        return desk.judge(run_id)


def test_model_of_another_contract_or_too_big_is_refused(desk: Desk) -> None:
    """The decision considers the run's contract version and the size of the model's files."""

    def grow(folder: Path) -> None:
        with (folder / "ballast").open("wb") as file:
            file.truncate(101_000_000)

    desk.client.set_tag(desk.runs.good, "contract_version", "0.9.0")
    reasons = judge_with_files(desk, desk.runs.good, grow).reasons
    assert [reason.partition(":")[0] for reason in reasons] == ["contract version", "artifact in MB"]


def test_a_draft_in_the_contract_is_refused_in_production_only(desk: Desk) -> None:
    """A model whose contract nobody has confirmed may be tried anywhere, but becomes no champion in production."""
    contract = replace(CONTRACT, draft="roles and personal columns")
    production = desk.settings.model_copy(update={"environment": Environment.PRODUCTION})

    def reasons(settings: Settings) -> tuple[str, ...]:
        return gate(
            desk.registry, settings, contract, lenient(), request=PAYLOAD.request, run_id=desk.runs.good, today=BASE_DT
        ).reasons

    assert reasons(desk.settings) == ()
    (reason,) = reasons(production)
    assert reason == "drafts in the contract: confirm them, ctcd contract check lists them"


def test_a_champion_whose_run_is_gone_is_named_and_the_floors_decide_by_choice_only(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    """`mlflow gc` took the champion's run: the gate says what to do, and with a reason, which it records, the floors decide."""
    shutil.copy(empty_mlflow, tmp_path)
    settings = embedded(tmp_path)
    rows = snapshot_frame(CONTRACT, rows=3_000)
    runs = {name: smoke_training(settings, rows, iterations=STEPS[name]).run_id for name in ("good", "better")}
    client = tracking.connect(settings)
    desk = Desk(settings, client, Registry(client, CONTRACT), Trained(tmp_path, weak="", **runs))
    champion = desk.ship(runs["good"])
    chosen = "restored from a backup that lacked it"
    outcome = desk.judge(runs["better"], without_champion=chosen)
    # It can be compared: nothing is skipped.
    assert not any(chosen in rule.explanation for rule in outcome.decision.rules)

    client.delete_run(runs["good"])
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    collect = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store]
    subprocess.run(collect, env={**os.environ, "MLFLOW_TRACKING_URI": store}, check=True, capture_output=True)  # noqa: S603 -- fixed
    with pytest.raises(NotFound, match=f"champion {champion} cannot be compared.*--without-champion"):
        desk.judge(runs["better"])
    with pytest.raises(NotFound):
        desk.registry.decisions(champion)
    # MLflow keeps the model: it can be served.
    assert desk.registry.fetch_scorer(champion, tmp_path / "scorer").is_dir()
    outcome = desk.judge(runs["better"], without_champion=chosen)
    assert (outcome.promote, outcome.champion, outcome.decision.champion) == (True, None, champion)
    assert any(chosen in rule.explanation for rule in outcome.decision.rules)
    assert chosen in Path(outcome.json_file).read_text()
    assert desk.registry.promote(outcome.version).before == champion


def test_an_experiment_is_written_read_and_ended(desk: Desk) -> None:
    """All of it is an alias and one tag; half of it, as a process leaves that is killed, is no experiment."""
    first, second = desk.ship(desk.runs.weak), desk.registry.register(desk.runs.good)
    policy = TrafficPolicy.model_validate({"shadow": {"share": 1.0}})
    assert desk.registry.challenger() is None
    written = policy.experiment(Mode.SHADOW, second)
    traffic.write(desk.client, CONTRACT.name, written)
    found = desk.registry.challenger()
    assert found is not None
    assert (found[0].version, found[0].run_id, found[1]) == (second, desk.runs.good, written)
    changed = policy.experiment(Mode.SHADOW, second, running=written)
    traffic.write(desk.client, CONTRACT.name, changed)
    assert traffic.read(desk.client, CONTRACT.name) == changed
    desk.client.set_registered_model_alias(CONTRACT.name, traffic.CHALLENGER, first)
    with pytest.raises(UsageError, match=f"names version {first}, the experiment is about version {second}"):
        traffic.read(desk.client, CONTRACT.name)
    traffic.write(desk.client, CONTRACT.name, written)
    desk.client.set_registered_model_tag(CONTRACT.name, traffic.TAG, "{}")
    with pytest.raises(UsageError, match="not an experiment"):
        traffic.read(desk.client, CONTRACT.name)
    traffic.clear(desk.client, CONTRACT.name)
    assert traffic.read(desk.client, CONTRACT.name) is None
    assert CHAMPION in desk.registry.info(first).aliases
    traffic.clear(desk.client, CONTRACT.name)
    desk.client.set_registered_model_alias(CONTRACT.name, traffic.CHALLENGER, second)
    assert traffic.read(desk.client, CONTRACT.name) is None
    assert traffic.read(desk.client, "another") is None
