"""A challenger in a running service: in the champion's shadow, for a share of the groups, or where a condition is met."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.load import wait
from support.serving import (
    EXAMPLE,
    INFO,
    answering_the_less_probable,
    empty_store,
    logged,
    pinned,
    row_of,
    save_model,
    served,
    small_scorer,
)

from ctcd.contract.instance import Instance
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, Variant, chosen
from ctcd.errors import NotFound, Unreachable
from ctcd.model.probes import PROBES_FILE
from ctcd.model.scorer import PROBABILITY, Predictions, Scorer
from ctcd.model.served import Served
from ctcd.registry.versions import RegisteredVersion
from ctcd.serving.batch_predictor import BatchPredictor
from ctcd.serving.champion.challenger import ChallengerFollower, Running
from ctcd.serving.champion.poller import RegistryPoller
from ctcd.serving.champion.state import CHALLENGER_FILE, Challenger, Champion
from ctcd.serving.loops import TimeoutRunner
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records, shadow
from ctcd.serving.prediction_log.shadow import Shadow
from ctcd.serving.traffic import PATIENCE, Split, assignment
from ctcd.settings import ModelSource, Settings
from ctcd.store.prediction_log import LoggedPrediction, shadow_id

POLICY = TrafficPolicy.model_validate(
    {
        "shadow": {"share": 1.0},
        "canary": {"steps": [{"share": 0.25, "min_answers": 1}, {"share": 0.5, "min_answers": 1}]},
        "default": "champion",
        "route": [{"when": "stops > 4", "alias": "champion"}, {"when": "hours > 5000", "alias": "challenger"}],
    }
)
OTHER = replace(INFO, version="8", alias="challenger", run_id="f" * 32)
PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
IDLE = ("cat",)
"""Stands for the poller, which does here what a test does; like the poller it ends with its input."""


def experiment(mode: Mode, share: float = 0.5, **changed: Any) -> Experiment:
    """Return an experiment that is in effect."""
    given = {"id": "0123456789abcdef", "started": PAST.isoformat(), "effective": PAST.isoformat()} | changed
    return Experiment(version=OTHER.version, mode=mode, share=share, **given)


def challenger() -> Scorer:
    return small_scorer(25)


def with_traffic(policy: TrafficPolicy | None = POLICY) -> Instance:
    """Return the tests' instance with a policy."""
    made = replace(INSTANCE)
    vars(made)["traffic"] = policy
    return made


@dataclass
class Service:
    """A running service with a champion, and the folder in which a poller would write what it follows."""

    client: TestClient
    settings: Settings

    def run(self, running: Experiment, *, loaded: bool = True) -> None:
        """Do what the poller does when the registry has an experiment; wait until it is known."""
        folder = self.settings.champions / "8-a"
        if not folder.exists():
            save_model(challenger(), folder, OTHER)
        state = Challenger(
            version=OTHER.version, run_id=OTHER.run_id, folder="8-a", experiment=json.dumps(vars(running))
        )
        state.save(self.settings.champions, CHALLENGER_FILE)
        wait(lambda: self.info() is not None and self.info().effective == running.effective)
        assert (self.info().loaded, self.info().mode, self.info().share) == (loaded, running.mode, running.share)

    def end(self) -> None:
        Challenger(looked_at="2025-08-31").save(self.settings.champions, CHALLENGER_FILE)
        wait(lambda: self.info() is None)

    def info(self) -> Any:
        return PAYLOAD.model_info.model_validate_json(self.client.get("/model-info").content).challenger  # type: ignore[attr-defined] # a field

    def ask(self, data: Sequence[dict[str, Any]]) -> list[str]:
        """Send rows one by one and as a batch; return who answers each, the same both ways, as all of the answer says."""
        answers = []
        for row in data:
            response = self.client.post("/predict", json={"data": row})
            assert response.status_code == 200, response.text
            answers.append(
                _checked(response.json(), row, response.headers["x-variant"], response.json()["model_version"])
            )
        batch = self.client.post("/predict_batch", json={"data": list(data)})
        assert batch.status_code == 200, batch.text
        PAYLOAD.batch_prediction.model_validate_json(batch.content, strict=True)
        assert batch.json()["model_version"] == batch.headers["x-model-version"] == INFO.version
        named = [each.get("model_version", INFO.version) for each in batch.json()["predictions"]]
        assert "model_version" not in batch.json()["predictions"][named.index(INFO.version)]
        for row, each, version, variant in zip(data, batch.json()["predictions"], named, answers, strict=True):
            assert _checked(each, row, variant, version) == variant
        assert batch.headers["x-variant"] == ", ".join(sorted(set(answers)))
        return answers

    def log(self, rows: int) -> list[dict[str, Any]]:
        """Return the prediction log, once it has so many rows."""
        wait(lambda: len(logged(self.settings.store_url)) >= rows)
        return logged(self.settings.store_url)

    def counted(self, name: str, label: str) -> dict[str, float]:
        found: Counter[str] = Counter()
        for value, count in re.findall(
            rf'^{name}_total{{.*{label}="(\w+)".*}} (\S+)$', self.client.get("/metrics").text, re.MULTILINE
        ):
            found[value] += float(count)  # type: ignore[assignment] # floats can be counted too
        return {value: count for value, count in found.items() if count}


def _checked(answer: dict[str, Any], row: dict[str, Any], variant: str, version: str) -> str:
    """Return the variant of an answer, which has to be what its model computes."""
    by = challenger() if variant == "challenger" else small_scorer()
    assert version == (OTHER.version if variant == "challenger" else INFO.version)
    assert list(answer["probabilities"].values()) == by.probabilities_of([row]).tolist()[0]
    assert answer["machine"] == row["machine"]
    return variant


@contextmanager
def running(model_folder: Path, home: Path, policy: TrafficPolicy | None = POLICY) -> Iterator[Service]:
    settings = empty_store(pinned(home, model_folder, ship_in_process=False))
    settings = settings.model_copy(update={"model_source": ModelSource.REGISTRY})
    with (
        patch("ctcd.serving.champion.follower.POLLER", IDLE),
        patch("ctcd.serving.champion.follower.CHECK_SECONDS", 0.02),
        patch("ctcd.serving.runtime.CHALLENGER_SECONDS", 0.0),
        patch("ctcd.serving.traffic.PATIENCE", 30.0),  # on a busy machine, too
        patch.object(shadow, "CHECK_SECONDS", 0.02),
        served(settings, with_traffic(policy)) as client,
    ):
        yield Service(client, settings)


@pytest.fixture
def service(model_folder: Path, tmp_path: Path) -> Iterator[Service]:
    with running(model_folder, tmp_path) as found:
        yield found


def machines(count: int) -> list[dict[str, Any]]:
    return [row_of(number) | {"machine": number + 1} for number in range(count)]


@pytest.mark.slow
def test_a_canary_answers_its_groups(service: Service) -> None:
    """Begun, made larger and ended: each group has the answer that its hash says, in all of the answer, log and metric."""
    data = machines(40)
    first = experiment(Mode.CANARY, 0.25, step=1)
    mine = {share: {row["machine"] for row in data if chosen(first.id, row["machine"], share)} for share in (0.25, 0.5)}
    assert 0 < len(mine[0.25]) < len(mine[0.5]) < 40

    def expected(share: float) -> list[str]:
        return ["challenger" if row["machine"] in mine[share] else "champion" for row in data]

    champion = ["champion"] * 40
    assert service.ask(data) == champion
    service.run(replace(first, effective=FUTURE.isoformat()))
    assert service.ask(data) == champion
    service.run(first)
    assert service.ask(data) == expected(0.25)
    service.run(replace(first, share=0.5, step=2, before=0.25, effective=FUTURE.isoformat()))
    assert service.ask(data) == expected(0.25)
    service.run(replace(first, share=0.5, step=2, before=0.25, effective=(PAST + timedelta(hours=1)).isoformat()))
    assert service.ask(data) == expected(0.5)
    service.end()
    assert service.ask(data) == champion
    rows = service.log(6 * 80)
    assert len(rows) == len({row["request_id"] for row in rows}) == 6 * 80
    challenged = 2 * (2 * len(mine[0.25]) + len(mine[0.5]))
    wanted = {("champion", INFO.version, INFO.run_id): 480 - challenged}
    wanted["challenger", OTHER.version, OTHER.run_id] = challenged
    assert Counter((row["variant"], row["model_version"], row["run_id"]) for row in rows) == wanted
    for row in rows:
        by = challenger() if row["variant"] == "challenger" else small_scorer()
        [probabilities] = by.probabilities_of([row["features"] | {"machine": row["machine"]}]).tolist()
        assert list(row["probabilities"].values()) == probabilities
    assert service.counted("ctcd_predictions", "variant") == {"champion": 480 - challenged, "challenger": challenged}
    assert service.counted("ctcd_challenger_swaps", "outcome") == {"swapped": 1}


@pytest.mark.slow
def test_conditions_choose_who_answers(service: Service) -> None:
    """The first that a row meets, in one request or in a batch, from the time on at which it takes effect."""
    data = [EXAMPLE | {"hours": hours, "stops": stops} for hours in (4_000, 6_000) for stops in (3.0, 5.0)]
    service.run(experiment(Mode.ROUTE, 1.0, effective=FUTURE.isoformat()))
    assert service.ask(data) == ["champion"] * 4
    service.run(experiment(Mode.ROUTE, 1.0))
    assert service.ask(data) == ["champion", "champion", "challenger", "champion"]


@pytest.mark.slow
@answering_the_less_probable()
def test_a_shadow_is_logged_and_never_given(service: Service) -> None:
    """Beside each answer the log has what the challenger would have said, for one row and for a batch, and counts it apart."""
    data = machines(30)
    service.run(experiment(Mode.SHADOW, 1.0))
    # In effect once the shipping part has seen it, too.
    wait(lambda: service.ask(data[:1]) == ["champion"] and "logged" in service.counted("ctcd_shadow_rows", "outcome"))
    before = len(logged(service.settings.store_url))
    assert service.ask(data) == ["champion"] * 30
    rows = service.log(before + 120)
    given = {row["request_id"]: row for row in rows if row["variant"] == "champion"}
    shadows = {row["request_id"]: row for row in rows if row["variant"] == "shadow"}
    assert len(given) + len(shadows) == len(rows)
    assert {shadow_id(request_id) for request_id in list(given)[-60:]} <= set(shadows)
    for request_id, row in given.items():
        shadowed = shadows.get(shadow_id(request_id))
        if shadowed is None:  # of before it was seen
            continue
        for name in ("machine", "features", "created_at", "served_by", "contract_version"):
            assert shadowed[name] == row[name]
        assert (shadowed["model_version"], shadowed["run_id"]) == (OTHER.version, OTHER.run_id)
        [probabilities] = challenger().probabilities_of([row["features"]]).tolist()
        assert list(shadowed["probabilities"].values()) == probabilities
        assert shadowed["confidence"] == shadowed["probabilities"][shadowed["prediction"]]
    assert service.counted("ctcd_predictions", "variant") == {"champion": len(given)}
    # Counted a moment after they are logged.
    wait(lambda: service.counted("ctcd_shadow_rows", "outcome") == {"logged": len(shadows)})


def _failing(scorer: Scorer, rows: Any) -> Predictions:
    if scorer.params["iterations"] == 25 and any(row["hours"] == 666 for row in rows):
        raise SystemExit
    return PREDICT(scorer, rows)


PREDICT = Scorer.predict


@pytest.mark.slow
def test_a_challenger_that_fails_leaves_the_answer_to_the_champion(service: Service) -> None:
    """Each request is answered, and the log says in whose place; of rows that are scored together, that is one."""
    service.run(experiment(Mode.CANARY, 0.5))
    rows = [row for row in machines(40) if chosen(experiment(Mode.CANARY).id, row["machine"], 0.5)][:3]
    rows[1]["hours"] = 666
    other = next(number for number in range(40) if not chosen(experiment(Mode.CANARY).id, number, 0.5))
    with patch.object(Scorer, "predict", _failing):
        assert [service.client.post("/predict", json={"data": row}).headers["x-variant"] for row in rows] == [
            "challenger",
            "fallback",
            "challenger",
        ]
        batch = service.client.post("/predict_batch", json={"data": [EXAMPLE | {"machine": other}, *rows]})
    assert (batch.status_code, batch.headers["x-variant"]) == (200, "challenger, champion, fallback")
    named = [each.get("model_version") for each in batch.json()["predictions"]]
    assert named == [None, OTHER.version, None, OTHER.version]
    found = service.log(7)
    assert Counter((row["variant"], row["model_version"]) for row in found) == {
        ("challenger", "8"): 4,
        ("fallback", "7"): 2,
        ("champion", "7"): 1,
    }
    [probabilities] = small_scorer().probabilities_of([rows[1]]).tolist()
    assert list(next(row for row in found if row["variant"] == "fallback")["probabilities"].values()) == probabilities


@pytest.mark.slow
def test_a_shadow_that_fails_is_counted_and_holds_up_nothing(service: Service) -> None:
    """Of rows that were scored together, the others are logged with its answers, and this one with its failure."""
    service.run(experiment(Mode.SHADOW, 1.0))
    wait(
        lambda: service.ask(machines(1)) == ["champion"] and "logged" in service.counted("ctcd_shadow_rows", "outcome")
    )
    data = machines(9)
    data[4]["hours"] = 666
    with patch.object(Scorer, "predict", _failing):
        response = service.client.post("/predict_batch", json={"data": data})
        wait(lambda: service.counted("ctcd_shadow_rows", "outcome").get("failed") == 1)
    ids = [shadow_id(each["request_id"]) for each in response.json()["predictions"]]
    wait(lambda: {row["request_id"] for row in logged(service.settings.store_url)} >= {*ids})
    rows = {row["request_id"]: row for row in logged(service.settings.store_url)}
    failed, champion = rows[ids[4]], rows[response.json()["predictions"][4]["request_id"]]
    assert [rows[each]["variant"] for each in ids] == ["shadow"] * 4 + ["shadow_failed"] + ["shadow"] * 4
    for name in ("prediction", "probabilities", "features", "created_at", "model_version", "run_id"):
        assert failed[name] == champion[name]


@pytest.mark.slow
def test_a_challenger_that_cannot_be_loaded_leaves_the_champion_alone(service: Service) -> None:
    """The service says why, the champion answers everything, and the next champion is followed all the same."""
    home = service.settings.champions
    (save_model(challenger(), home / "8-a", OTHER) / PROBES_FILE).unlink()
    service.run(experiment(Mode.CANARY, 1.0), loaded=False)
    refused = service.info().refused
    assert (refused.version, PROBES_FILE in refused.reason) == ("8", True)
    assert service.ask(machines(3)) == ["champion"] * 3
    assert service.counted("ctcd_challenger_swaps", "outcome") == {"refused": 1}
    save_model(small_scorer(), home / "9-a", replace(INFO, version="9"))
    Champion(version="9", run_id=INFO.run_id, folder="9-a").save(home)
    wait(lambda: service.client.get("/model-info").json()["version"] == "9")
    assert service.client.get("/model-info").json()["refused"] is None


@pytest.mark.slow
def test_a_worker_that_starts_knows_the_challenger_before_it_answers(model_folder: Path, tmp_path: Path) -> None:
    """So that its answers are those of the others; before, nobody has asked it anything."""
    home = tmp_path / "champions"
    save_model(challenger(), home / "8-a", OTHER)
    always = json.dumps(vars(experiment(Mode.CANARY, 1.0)))
    Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment=always).save(home, CHALLENGER_FILE)
    with patch.object(ChallengerFollower, "start"), running(model_folder, tmp_path) as service:  # not by its thread
        assert service.client.post("/predict", json={"data": EXAMPLE}).headers["x-variant"] == "challenger"


def test_a_worker_that_applies_a_step_late_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By how many seconds in the log, and how often in a metric; a step from before the worker's start is not late."""
    save_model(challenger(), tmp_path / "8-a", OTHER)
    metrics = Metrics()
    follower = ChallengerFollower(tmp_path, CONTRACT, metrics=metrics, change=lambda _running: None)

    def warnings(share: float, effective: datetime, after: float) -> list[str]:
        """Return what is logged about a step that the worker reads so many seconds after it took effect."""
        step = json.dumps(vars(experiment(Mode.CANARY, share, effective=effective.isoformat())))
        Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment=step).save(tmp_path, CHALLENGER_FILE)
        with patch("ctcd.serving.champion.challenger.time.time", return_value=effective.timestamp() + after):
            follower.check()
        found = [each.message for each in caplog.records if each.levelname == "WARNING"]
        caplog.clear()
        return found

    def counted() -> bool:
        return 'ctcd_challenger_late_changes_total{model="m"} 1.0' in metrics.page("m").decode()

    assert warnings(0.1, PAST, 86_400) == []
    assert warnings(0.2, FUTURE, -4) == []
    (tmp_path / CHALLENGER_FILE).write_text("not readable for once")
    follower.check()
    assert warnings(0.2, FUTURE, 86_400) == []  # known in time, and read again
    assert not counted()
    [late] = warnings(0.3, FUTURE, 7.26)
    assert "7.3 s after" in late
    assert counted()


@pytest.mark.parametrize(("seconds", "late"), [(14.0, 0.0), (18.26, 1.0)])
def test_a_worker_that_learns_late_of_the_end_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: float, late: float
) -> None:
    """Once, if the registry said nothing for longer than all workers take to learn of it; its errors say nothing."""
    save_model(challenger(), tmp_path / "8-a", OTHER)
    metrics = Metrics()
    follower = ChallengerFollower(tmp_path, CONTRACT, metrics=metrics, change=lambda _running: None)
    step = json.dumps(vars(experiment(Mode.CANARY)))

    def looked_at(after: float) -> str:
        return (FUTURE + timedelta(seconds=after)).isoformat()

    known = Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment=step, looked_at=looked_at(0))
    for state in (
        replace(known, looked_at=looked_at(-40)),
        known,
        replace(known, looked_at=looked_at(9), error="the registry does not answer"),
        Challenger(looked_at=looked_at(seconds)),
        Challenger(looked_at=looked_at(seconds + 20)),
    ):
        state.save(tmp_path, CHALLENGER_FILE)
        follower.check()
        follower.check()
    assert f'ctcd_challenger_late_changes_total{{model="m"}} {late}' in metrics.page("m").decode()
    assert [each.message[:60] for each in caplog.records if each.levelname == "WARNING"] == (
        ["the challenger's traffic ended here up to 18.3 s after it wa"] if late else []
    )


def test_a_challenger_whose_state_cannot_be_read_has_not_ended_late(tmp_path: Path) -> None:
    """The champion answers until it can be read again; nobody knows of an end."""
    save_model(challenger(), tmp_path / "8-a", OTHER)
    metrics = Metrics()
    follower = ChallengerFollower(tmp_path, CONTRACT, metrics=metrics, change=lambda _running: None)
    step = json.dumps(vars(experiment(Mode.CANARY)))
    state = Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment=step, looked_at=FUTURE.isoformat())
    state.save(tmp_path, CHALLENGER_FILE)
    follower.check()
    (tmp_path / CHALLENGER_FILE).write_text("not readable for once")
    follower.check()
    assert follower.information is None
    assert 'ctcd_challenger_late_changes_total{model="m"} 0.0' in metrics.page("m").decode()


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, TrafficPolicy.model_validate({"shadow": {"share": 1.0}})])
def test_without_a_challenger_nothing_is_added_to_the_path_of_a_request(
    model_folder: Path, tmp_path: Path, policy: TrafficPolicy | None
) -> None:
    """Without a policy no challenger is even read; a shadow needs no choice between predictors either."""
    with (
        patch("ctcd.serving.runtime.assignment", side_effect=AssertionError),
        running(model_folder, tmp_path, policy) as service,
    ):
        if policy:
            service.run(experiment(Mode.SHADOW, 1.0))
        else:
            state = Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment="{}")
            state.save(service.settings.champions, CHALLENGER_FILE)
        assert service.ask(machines(2)) == ["champion", "champion"]
        assert (service.info() is not None) is bool(policy)


def test_without_a_group_each_request_is_one_of_its_own() -> None:
    """A contract whose requests name nothing has no other choice."""
    contract = replace(CONTRACT)
    vars(contract)["identity"] = ()
    assigned = assignment(experiment(Mode.CANARY, 0.5), POLICY, contract)
    found = sum(assigned({}, f"{number:08}", time.time()) for number in range(1_000))
    assert 400 < found < 600


@dataclass
class FakeRegistry:
    """A registry whose champion and challenger are the same model in a folder."""

    model: Path
    running: Experiment | None = None
    fails: bool = False
    broken: bool = False
    challenger_run: str = OTHER.run_id

    def champion(self) -> RegisteredVersion:
        if self.broken:
            raise NotFound("there is no champion")
        return _registered(INFO.version, INFO.run_id)

    def challenger(self) -> tuple[RegisteredVersion, Experiment] | None:
        if self.fails:
            raise NotFound("there is no version 8")
        return (_registered(OTHER.version, self.challenger_run), self.running) if self.running else None

    def fetch_scorer(self, version: str, into: Path) -> Path:
        into.mkdir(parents=True)
        (into / "fetched").write_text(version)
        return into


def _registered(version: str, run_id: str) -> RegisteredVersion:
    return RegisteredVersion(
        model_name=CONTRACT.name,
        version=version,
        run_id=run_id,
        aliases=(),
        created_at="",
        tags={},
        uri=f"models:/{version}",
    )


def test_the_poller_fetches_the_challenger_beside_the_champion(tmp_path: Path) -> None:
    """It keeps the files of both, and records what is wrong with the challenger with the challenger."""
    registry = FakeRegistry(tmp_path)
    poller = RegistryPoller(open_registry=lambda: registry, home=tmp_path / "home", seconds=1, challenger=True)

    def polled() -> tuple[Champion, Challenger]:
        poller.poll(registry)
        return Champion.load(poller.home), Challenger.load(poller.home, CHALLENGER_FILE)

    champion, none = polled()
    assert (champion.version, none.version, none.looked_at != "") == ("7", "", True)
    registry.running = experiment(Mode.CANARY)
    _, found = polled()
    assert (found.version, found.run_id, json.loads(found.experiment)) == ("8", OTHER.run_id, vars(registry.running))
    registry.running = replace(registry.running, share=0.9)
    champion, again = polled()
    assert (again.folder, json.loads(again.experiment)["share"]) == (found.folder, 0.9)
    assert {path.name for path in poller.home.iterdir() if path.is_dir()} == {champion.folder, found.folder}
    registry.fails = True
    champion, kept = polled()
    assert (champion.error, kept.version, kept.folder) == ("", "8", found.folder)
    assert "there is no version 8" in kept.error
    registry.fails, registry.challenger_run = False, INFO.run_id
    assert polled()[1].version == "", "a challenger that was promoted is none"
    registry.challenger_run, registry.broken = OTHER.run_id, True
    for running, version in ((registry.running, "8"), (None, "")):
        registry.running = running
        with pytest.raises(NotFound, match="no champion"):
            poller.poll(registry)
        assert Challenger.load(poller.home, CHALLENGER_FILE).version == version, "it is followed without a champion"
    registry.broken = False
    poller = replace(poller, home=tmp_path / "other", challenger=False)
    poller.poll(registry)
    assert not (poller.home / CHALLENGER_FILE).exists()


def row(number: int, **changed: Any) -> LoggedPrediction:
    given: dict[str, Any] = {"variant": "champion", "created_at": datetime.now(UTC)} | changed
    return LoggedPrediction(
        request_id=f"{number:08x}-5a53-4a39-9a55-1f0f6f3c2a77",
        group=1,
        features={},
        prediction="worn",
        confidence=1.0,
        model_version="7",
        run_id="",
        elapsed_ms=1.0,
        **given,
    )


@pytest.fixture
def late(tmp_path: Path) -> Callable[[float], tuple[Shadow, list[tuple[str, int]]]]:
    """Makes a shadow whose thread does not run, and what it counts."""

    def make(share: float) -> tuple[Shadow, list[tuple[str, int]]]:
        counted: list[tuple[str, int]] = []
        metrics = Metrics()
        metrics.shadowed = lambda outcome, rows: counted.append((outcome, rows))  # type: ignore[method-assign] # counts them
        found = Shadow(tmp_path, CONTRACT, lambda _rows: None, metrics)
        found._to(Running(experiment(Mode.SHADOW, share), None))  # type: ignore[arg-type] # nothing is scored
        return found, counted

    return make


def test_a_shadow_that_is_late_drops_rows_and_counts_them(late: Any) -> None:
    """Its queue is bounded; so is what a worker that ends leaves behind."""
    found, counted = late(1.0)
    with patch.object(shadow, "WAITING_ROWS", 10):
        for start in range(0, 24, 6):
            found.offer([row(number) for number in range(start, start + 6)])
    assert len(found._waiting) == 10
    assert counted == [("dropped", 2), ("dropped", 6), ("dropped", 6)]
    found.stop()
    assert counted[3:] == [("dropped", 10)]


def _scored_in(cpu_seconds: float, probability: float = 1.0) -> Running:
    """Return a shadow whose challenger needs so much processor time for each call, and gives each class this probability."""
    clock = iter(number * cpu_seconds for number in range(1_000))

    def predict(rows: Sequence[Any]) -> Predictions:
        none = [0.0] * (len(CONTRACT.classes) - 1)
        return Predictions(
            classes=[CONTRACT.classes[0]] * len(rows),
            confidences=[probability] * len(rows),
            probabilities=[[probability, *none]] * len(rows),
            class_order=CONTRACT.classes,
        )

    scorer = SimpleNamespace(predict=predict, contract_version="", clock=lambda: next(clock))
    return Running(experiment(Mode.SHADOW, 1.0), Served(scorer=cast("Scorer", scorer), info=OTHER))


def test_a_shadow_that_is_always_late_hears_of_its_end(tmp_path: Path) -> None:
    """It looks before each batch, as rows may come faster than the challenger scores them: another one's would be judged."""
    written: list[LoggedPrediction] = []
    looks, stop = 0, Event()

    def write(rows: Sequence[LoggedPrediction]) -> None:
        written.extend(rows)
        found.offer([row(len(written))])
        if len(written) > 9:  # in vain, as nobody looks
            stop.set()

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            found._to(None)
        if looks == 5:
            stop.set()

    found = Shadow(tmp_path, CONTRACT, write, Metrics())
    found._to(_scored_in(0.0))
    found.offer([row(0)])
    with (
        patch.object(found._challenger, "check", look),
        patch.object(shadow, "CHECK_SECONDS", 0),
        patch.object(shadow, "lower_priority"),
    ):
        found._run(stop)
    assert (looks, len(written)) == (5, 2)


@pytest.mark.parametrize(
    ("cpu_seconds", "probability", "variants"),
    [
        (PATIENCE * 3.9, 1.0, {"shadow": 4}),
        (PATIENCE * 4.1, 1.0, {"shadow_failed": 4}),
        (0.0, float("nan"), {"shadow_failed": 4}),
    ],
)
def test_a_shadow_that_a_canary_would_not_wait_for_has_failed(
    tmp_path: Path, cpu_seconds: float, probability: float, variants: dict[str, int]
) -> None:
    """If its processor time alone is longer for each row, however busy the machine is; so has one without an answer."""
    written: list[LoggedPrediction] = []
    found, running = Shadow(tmp_path, CONTRACT, written.extend, Metrics()), _scored_in(cpu_seconds, probability)
    with patch("ctcd.serving.prediction_log.shadow.time.thread_time", running.served.scorer.clock):  # type: ignore[attr-defined] # of the stand-in
        found._log([row(number) for number in range(4)], running)
    assert Counter(each.variant for each in written) == variants


def test_the_time_of_a_shadows_answer_is_that_of_its_batch(tmp_path: Path) -> None:
    """In milliseconds, as that of the champion, with which it is compared."""
    written: list[LoggedPrediction] = []
    found = Shadow(tmp_path, CONTRACT, written.extend, Metrics())
    clock = SimpleNamespace(perf_counter=iter((5.0, 5.25)).__next__, thread_time=lambda: 0.0)
    with patch.object(shadow, "time", clock):
        found._log([row(number) for number in range(4)], _scored_in(0.0))
    assert [each.elapsed_ms for each in written] == [250.0] * 4


def test_what_the_store_does_not_accept_is_no_failure_of_the_challenger(tmp_path: Path) -> None:
    """Its rows are dropped, and counted as that."""
    metrics = Metrics()

    def refuse(_rows: Sequence[LoggedPrediction]) -> None:
        raise Unreachable("the store does not answer")

    found = Shadow(tmp_path, CONTRACT, refuse, metrics)
    found._log([row(number) for number in range(4)], _scored_in(0.0))
    assert re.findall(r'shadow_rows_total.*outcome="(\w+)"} (\S+)', metrics.page("m").decode()) == [
        ("logged", "0.0"), ("failed", "0.0"), ("dropped", "4.0"),
    ]  # fmt: skip


def test_a_shadow_takes_its_share_of_what_the_champion_has_answered(late: Any) -> None:
    """Since it began, and no answers of others."""
    found, _ = late(0.3)
    found.offer([row(number) for number in range(3_000)])
    assert abs(len(found._waiting) - 900) < 5 * (3_000 * 0.3 * 0.7) ** 0.5
    found, _ = late(1.0)
    found.offer([row(1, variant=variant) for variant in (*Variant, None) if variant != Variant.CHAMPION])
    found.offer([row(2, created_at=PAST - timedelta(seconds=1))])
    assert list(found._waiting) == []


def test_a_shadow_takes_all_rows_of_a_request_or_none(late: Any) -> None:
    """A batch of which half is compared would be half a request."""
    found, _ = late(0.5)
    batches = [f"{number:032x}" for number in range(40)]
    found.offer([replace(row(0), request_id=f"{batch}{place:04d}") for batch in batches for place in range(10)])
    taken = Counter(each.request_id[:32] for each in found._waiting)
    assert set(taken.values()) == {10}
    assert 5 < len(taken) < 35


def test_a_shadow_takes_part_in_no_other_kind_of_traffic(tmp_path: Path) -> None:
    """A challenger that answers requests itself scores none a second time."""
    save_model(challenger(), tmp_path / "8-a", OTHER)
    found = Shadow(tmp_path, CONTRACT, lambda _rows: None, Metrics())
    waiting = []
    for mode in (Mode.CANARY, Mode.ROUTE, Mode.SHADOW):
        step = json.dumps(vars(experiment(mode, 1.0)))
        Challenger(version="8", run_id=OTHER.run_id, folder="8-a", experiment=step).save(tmp_path, CHALLENGER_FILE)
        found._challenger.check()
        found.offer([row(1)])
        waiting.append(len(found._waiting))
    assert waiting == [0, 0, 1]


def test_rows_of_a_file_have_their_answers_in_their_order() -> None:
    """Each from the model that it is assigned to, beside its own request id and who answered."""
    models = Split(
        Served(scorer=small_scorer(), info=INFO),
        Served(scorer=challenger(), info=OTHER, variant=Variant.CHALLENGER),
        lambda row, _id, _now: row["machine"] % 2 == 1,
    )
    data, ids = machines(9), [f"id-{number}" for number in range(9)]
    unused: Any = None  # the outbox: its caller logs what is scored
    batches = BatchPredictor(CONTRACT, PAYLOAD, unused, lambda: models)
    try:
        with patch("ctcd.serving.traffic.PATIENCE", 30.0):
            found, bodies, sizes = batches.score_rows(data, ids, started=time.perf_counter())
    finally:
        batches.close()
    assert found["request_id"].tolist() == ids
    assert found["model_version"].tolist() == ["8" if each["machine"] % 2 else "7" for each in data]
    assert found["variant"].tolist() == ["challenger" if each["machine"] % 2 else "champion" for each in data]
    by = [challenger() if each["machine"] % 2 else small_scorer() for each in data]
    expected = [scorer.probabilities_of([each]).tolist()[0] for scorer, each in zip(by, data, strict=True)]
    assert found[[f"{PROBABILITY}{name}" for name in CONTRACT.classes]].to_numpy().tolist() == expected
    logged_ids = [each.request_id for body in bodies for each in records.decode(body)]
    assert (sorted(logged_ids), sorted(sizes)) == (ids, [4, 5])


def model(before: Callable[[Sequence[Any]], object], variant: Variant = Variant.CHAMPION) -> Served:
    """Return a model that calls something with the rows before it scores them."""

    def predict(rows: Sequence[Any]) -> Predictions:
        before(rows)
        return Predictions(classes=[""] * len(rows), confidences=[], probabilities=[], class_order=())

    return Served(scorer=cast("Scorer", SimpleNamespace(predict=predict)), info=INFO, variant=variant)


def split(challenging: Callable[[Sequence[Any]], object], championing: Callable[[Any], object] = len) -> Split:
    """Return a champion and a challenger that answers the odd rows."""
    return Split(model(championing), model(challenging, Variant.CHALLENGER), lambda row, _id, _now: row % 2 == 1)  # type: ignore[operator] # here a row is a number


def parts_of(models: Split, rows: int) -> dict[int, str]:
    """Return who has scored each of the rows 0, 1, 2, ..."""
    found = models.parts(range(rows), str)  # type: ignore[arg-type] # as above
    return {place: part.served.variant.value for part in found for place in part.places}


class Released(TimeoutRunner):
    """Calls something when it begins to wait for work."""

    def __init__(self, waits: Callable[[], object]) -> None:
        super().__init__()
        self.waits = waits

    def start(self, work: Callable[[], object]) -> Callable[[float], None]:
        wait = super().start(work)

        def called(seconds: float) -> None:
            self.waits()
            wait(seconds)

        return called


def test_the_time_of_an_answer_is_that_of_its_own_model() -> None:
    """Both models score at once; a slow one does not make the other look slow in the log, nor one of its own pieces."""
    begun, goes_on = Event(), Event()
    at_once: list[bool] = []

    def challenging(rows: Sequence[int]) -> None:
        begun.set()
        goes_on.wait(5)
        if len(rows) > 1:
            raise ValueError

    models = split(challenging, lambda _rows: at_once.append(begun.wait(5)))
    rows: Any = range(5)  # as in `split`
    with patch("ctcd.serving.traffic.PATIENCE", 30.0):
        parts = replace(models, runner=Released(goes_on.set)).parts(rows, str)
    assert [list(part.places) for part in parts] == [[0, 2, 4], [1], [3]]
    assert at_once == [True]
    assert parts[0].at < parts[1].at < parts[2].at, "the challenger ended only when the champion had its time"


@pytest.mark.slow
def test_a_challenger_that_hangs_holds_up_nobody() -> None:
    """Its rows are answered by the champion, at once while it hangs; another one, or this one later, answers again."""
    goes_on, calls = Event(), []

    def hang(rows: Sequence[int]) -> None:
        calls.append(list(rows))
        goes_on.wait(5)

    hanging = split(hang)
    instead = {0: "champion", 1: "fallback", 2: "champion", 3: "fallback"}
    assert parts_of(hanging, 4) == instead
    with patch("ctcd.serving.traffic.PATIENCE", 1_000.0):
        assert parts_of(replace(hanging, champion=model(len)), 4) == instead, "a new champion does not change that"
        assert calls == [[1, 3]]
        assert parts_of(split(len), 2) == {0: "champion", 1: "challenger"}
        goes_on.set()
        wait(lambda: parts_of(hanging, 2) == {0: "champion", 1: "challenger"})


def test_the_thread_of_a_challenger_ends_with_it() -> None:
    """Each thread that scores has one, for all of its batches; it ends with its caller, or with the experiment's models."""

    def beside() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "timeout-runner"}

    before, models = beside(), split(len)
    with patch("ctcd.serving.traffic.PATIENCE", 30.0):
        assert [parts_of(models, 2)[1] for _ in range(3)] == ["challenger"] * 3
        [mine] = beside() - before
        with ThreadPoolExecutor(1) as other:
            assert [other.submit(parts_of, models, 2).result()[1] for _ in range(3)] == ["challenger"] * 3
            [its] = beside() - before - {mine}
    its.join(20)
    assert (its.is_alive(), mine.is_alive()) == (False, True)
    del models
    mine.join(20)
    assert not mine.is_alive()


@pytest.mark.parametrize("bad", [{1}, {7, 9}, {1, 399}, set(range(400))])
def test_a_row_that_the_challenger_cannot_score_makes_no_other_one_an_error(bad: set[int]) -> None:
    """Errors of rows that are scored together are independent, as judging takes them to be."""

    def fail(rows: Sequence[int]) -> None:
        if bad & set(rows):
            raise SystemExit

    with patch("ctcd.serving.traffic.PATIENCE", 30.0):
        found = parts_of(split(fail), 400)
    assert {place for place, variant in found.items() if variant == "fallback"} == {each for each in bad if each % 2}
    assert Counter(found.values())["champion"] == 200


def test_the_longest_wait_for_a_challenger_is_in_proportion_to_its_rows() -> None:
    """A piece of a large batch takes longer than the few rows that wait together, and is no error for it."""
    with patch("ctcd.serving.traffic.TimeoutRunner.start") as start:
        for rows in (1, 128, 512, 2_560):
            split(len).parts(range(rows * 2), str)  # type: ignore[arg-type] # a row is a number
    waited = [call.args[0] for call in start.return_value.call_args_list]
    assert waited == [PATIENCE, PATIENCE, 4 * PATIENCE, 20 * PATIENCE]


def test_without_a_thread_the_champion_answers() -> None:
    """A machine that has none left loses no request."""
    with patch("ctcd.serving.loops.Thread.start", side_effect=RuntimeError("can't start new thread")):
        assert parts_of(split(len), 2) == {0: "champion", 1: "fallback"}
