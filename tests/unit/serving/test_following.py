"""A service swaps in each new champion, or reports why not and keeps the one it has."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT, PAYLOAD
from support.load import wait
from support.serving import EXAMPLE, INFO, empty_store, pinned, save_model, served

from ctcd.contract.traffic import LEAD_SECONDS, Experiment
from ctcd.errors import NotFound, Unreachable
from ctcd.model.probes import PROBES_FILE
from ctcd.model.scorer import SCORER_FILE, SELF_DIGEST, Scorer
from ctcd.model.served import ModelInfo, Served, load
from ctcd.registry.versions import RegisteredVersion
from ctcd.serving import children
from ctcd.serving.champion.follower import Follower, last_fetched
from ctcd.serving.champion.poller import MAX_PAUSE, RegistryPoller
from ctcd.serving.champion.state import STATE_FILE, Champion
from ctcd.serving.metrics import Metrics
from ctcd.settings import ModelSource, Settings

pytestmark = pytest.mark.usefixtures("idle")
IDLE = (sys.executable, "-c", "import os; os.read(0, 1)")
"""Stands for the poller: ends when its parent does."""
OTHER = replace(INFO, version="8", run_id="f" * 32)


@dataclass
class Seen(Metrics):
    """Metrics that record what happened, in order."""

    events: list[str] = field(default_factory=list)

    def swapped(self) -> None:
        self.events.append("swapped")

    def swap_refused(self) -> None:
        self.events.append("refused")

    def followed(self, reachable: bool) -> None:
        self.events.append("followed" if reachable else "lost")

    def restarted(self, part: str) -> None:
        self.events.append(f"restarted {part}")


@dataclass
class FakeRegistry:
    """A registry whose champion is the model in a folder."""

    model: Path
    info: ModelInfo = INFO
    fetched: list[str] = field(default_factory=list)
    fails: bool = False

    def champion(self) -> RegisteredVersion:
        if self.fails:
            raise Unreachable("the registry is away")
        return RegisteredVersion(
            model_name=self.info.model_name,
            version=self.info.version,
            run_id=self.info.run_id,
            aliases=(self.info.alias,),
            created_at=self.info.creation_time,
            tags={},
            uri=self.info.model_uri,
        )

    def challenger(self) -> tuple[RegisteredVersion, Experiment] | None:
        return None

    def fetch_scorer(self, version: str, into: Path) -> Path:
        self.fetched.append(version)
        shutil.copytree(self.model, into)
        return into


def publish(home: Path, scorer: Scorer, info: ModelInfo, folder: str) -> Path:
    """Do what the poller does when there is a new champion; return the model's folder."""
    save_model(scorer, home / folder, info)
    Champion(version=info.version, run_id=info.run_id, folder=folder, looked_at="2025-08-31").save(home)
    return home / folder


@dataclass
class Parts:
    home: Path
    follower: Follower
    seen: Seen
    answering: list[Served]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poller that does nothing."""
    monkeypatch.setattr("ctcd.serving.champion.follower.POLLER", IDLE)


@pytest.fixture
def parts(model_folder: Path, tmp_path: Path) -> Iterator[Parts]:
    home, seen, answering = tmp_path / "champions", Seen(), [load(model_folder, CONTRACT)]
    follower = Follower(home, CONTRACT, served=answering[0], metrics=seen, environment={})
    follower._swap = answering.append
    yield Parts(home, follower, seen, answering)
    follower.stop()


def test_a_new_champion_is_swapped_in_once(parts: Parts, scorer: Scorer) -> None:
    """It answers from then on; looking again changes nothing, and going back swaps again."""
    parts.follower.check()
    publish(parts.home, scorer, OTHER, "8-a")
    parts.follower.check()
    parts.follower.check()
    publish(parts.home, scorer, INFO, "7-b")
    parts.follower.check()
    assert [served.version for served in parts.answering] == ["7", "8", "7"]
    assert parts.seen.events.count("swapped") == 2


def test_a_model_that_was_made_again_is_swapped_in(parts: Parts, scorer: Scorer) -> None:
    """A registered model that was deleted and made again has the same version: its run tells it from the old one."""
    publish(parts.home, scorer, replace(INFO, run_id="made again"), "7-b")
    parts.follower.check()
    assert [(served.version, served.info.run_id) for served in parts.answering[1:]] == [("7", "made again")]


def _without_probes(folder: Path) -> None:
    (folder / PROBES_FILE).unlink()


def _other_answers(folder: Path) -> None:
    probes = json.loads((folder / PROBES_FILE).read_text())
    probes["probabilities"][0] = probes["probabilities"][0][::-1]
    (folder / PROBES_FILE).write_text(json.dumps(probes))


def _torn(folder: Path) -> None:
    trees = (folder / "model.cbm").read_bytes()
    (folder / "model.cbm").write_bytes(trees[: len(trees) // 2])


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _other_feature(folder: Path) -> None:
    text = (folder / SCORER_FILE).read_text()
    assert "drive-shaft" in text
    (folder / SCORER_FILE).write_text(text.replace("drive-shaft", "drive-shfat"))


def _described(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a change of the description as earlier versions wrote it: without a digest of itself."""

    def break_it(folder: Path) -> None:
        description = json.loads((folder / SCORER_FILE).read_text())
        del description[SELF_DIGEST]
        change(description)
        (folder / SCORER_FILE).write_text(json.dumps(description))

    return break_it


def _not_numbers(description: dict[str, Any]) -> None:
    description["encoder"]["scale"][0] = "wide"


def _too_few_numbers(description: dict[str, Any]) -> None:
    description["encoder"]["center"].pop()


def _unknown_feature(description: dict[str, Any]) -> None:
    """The trees do not know it; CatBoost raises an error of its own."""
    description["encoder"]["lists"]["parts"]["items"][1] = "drive-shfat"


def _trees_of_nothing(folder: Path) -> None:
    (folder / "model.cbm").write_bytes(b"CBM1")
    digest = hashlib.sha256(b"CBM1").hexdigest()
    _described(lambda description: description.update(model_sha256=digest))(folder)


def _deep(folder: Path) -> None:
    (folder / PROBES_FILE).write_text("[" * 100_000)


def _folder_instead(folder: Path) -> None:
    (folder / PROBES_FILE).unlink()
    (folder / PROBES_FILE).mkdir()


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (_other_feature, "was changed after it was written"),
        (_described(_unknown_feature), "can answer: CatBoostError"),
        (_described(_not_numbers), "can answer: ValueError"),
        (_described(_too_few_numbers), "can answer: ValueError"),
        (_described(lambda described: described.update(contract_version="9.0.0")), "9.0.0 instead of"),
        (_trees_of_nothing, "is not a model of the estimator catboost"),
        (_deep, "can answer: RecursionError"),
        (_folder_instead, "cannot be read: Is a directory"),
        (_without_probes, "no probes"),
        (_other_answers, "does not answer its probes"),
        (_torn, "not the one that"),
        (_gone, "no model to serve"),
    ],
)
def test_a_champion_that_does_not_fit_is_refused_once_with_the_reason(
    parts: Parts, scorer: Scorer, break_it: Callable[[Path], None], reason: str
) -> None:
    """The old model goes on, the reason is kept, and it is not tried again until it is fetched again."""
    break_it(publish(parts.home, scorer, OTHER, "8-a"))
    parts.follower.check()
    parts.follower.check()
    refused = parts.follower.state.refused
    assert refused is not None
    assert refused.version == "8"
    assert reason in refused.reason
    assert (parts.seen.events.count("refused"), len(parts.answering)) == (1, 1)
    publish(parts.home, scorer, OTHER, "8-b")
    parts.follower.check()
    assert parts.follower.state.refused is None
    assert parts.answering[-1].version == "8"


def test_a_refusal_is_over_when_the_alias_moves_back(parts: Parts, scorer: Scorer) -> None:
    """The model that answers is the champion again, so nothing is refused any more."""
    _torn(publish(parts.home, scorer, OTHER, "8-a"))
    parts.follower.check()
    publish(parts.home, scorer, INFO, "7-b")
    parts.follower.check()
    assert (parts.follower.state.refused, len(parts.answering)) == (None, 1)


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"version": "8"', '{"volume": "8"}', '{"version": 8}', '{"folder": null}', "[" * 100_000]
)
def test_a_state_without_a_champion_changes_nothing(parts: Parts, text: str | None) -> None:
    """A state file that is missing, truncated or of another kind changes nothing."""
    if text is not None:
        parts.home.mkdir()
        (parts.home / STATE_FILE).write_text(text)
    parts.follower.check()
    assert len(parts.answering) == 1
    assert last_fetched(parts.home, CONTRACT) is None


def test_the_champion_fetched_last_is_known_after_a_restart(parts: Parts, scorer: Scorer) -> None:
    """A worker that is started again begins with it; with one that cannot be served it does not."""
    folder = publish(parts.home, scorer, OTHER, "8-a")
    found = last_fetched(parts.home, CONTRACT)
    assert found is not None
    assert found[1].version == "8"
    _torn(folder)
    assert last_fetched(parts.home, CONTRACT) is None


@pytest.mark.parametrize("swapped", [True, False], ids=["swapped in", "served from the start"])
def test_a_restart_with_a_champion_that_cannot_be_served_goes_back_to_the_one_before(
    parts: Parts, scorer: Scorer, model_folder: Path, swapped: bool
) -> None:
    """The champion that was served last is served again, however many broken ones were fetched after it."""
    registry = FakeRegistry(model_folder, replace(OTHER, version="8") if swapped else INFO)
    poller = RegistryPoller(open_registry=lambda: registry, home=parts.home, seconds=0.01)
    poller.poll(registry)
    parts.follower.check()
    broken = parts.home.parent / "broken"
    _other_feature(save_model(scorer, broken))
    registry.model = broken
    for version in ("9", "10", "11"):
        registry.info = replace(INFO, version=version)
        poller.poll(registry)
        parts.follower.check()
    found = last_fetched(parts.home, CONTRACT)
    assert found is not None
    assert found[1].version == ("8" if swapped else "7")


def test_a_champion_whose_files_cannot_be_read_now_is_tried_again(
    parts: Parts, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine is short of may be there later; a model that is wrong stays so, and is not loaded again."""
    monkeypatch.setattr("ctcd.serving.champion.follower.RETRY_SECONDS", 0.0)
    probes = publish(parts.home, scorer, OTHER, "8-a") / PROBES_FILE
    probes.rename(probes.with_suffix(".bak"))
    probes.mkdir()
    for _ in range(2):
        parts.follower.check()
    refused = parts.follower.state.refused
    assert refused is not None
    assert "Is a directory" in refused.reason
    probes.rmdir()
    probes.with_suffix(".bak").rename(probes)
    parts.follower.check()
    assert (parts.answering[-1].version, parts.follower.state.refused) == ("8", None)
    assert parts.seen.events.count("refused") == 2


def test_the_follower_goes_on_whatever_it_meets(parts: Parts, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of is counted; the next champion is followed, even while no poller can be started."""
    monkeypatch.setattr("ctcd.serving.loops.RESTART_SECONDS", 0.01)
    unknown = Event()

    def take(_self: object) -> bool:
        if not unknown.is_set():
            raise ArithmeticError
        raise OSError

    monkeypatch.setattr("ctcd.serving.champion.follower._SharedPoller._take", take)
    parts.follower.start(parts.answering.append)
    wait(lambda: "restarted follower" in parts.seen.events)
    unknown.set()
    publish(parts.home, scorer, OTHER, "8-a")
    wait(lambda: parts.answering[-1].version == "8")


@pytest.mark.slow
def test_without_a_model_the_first_champion_is_waited_for(scorer: Scorer, tmp_path: Path) -> None:
    """It is served as soon as it is there; if none comes, or a wrong one, the error says why."""
    follower = Follower(tmp_path, CONTRACT, served=None, metrics=Seen(), environment={})
    with pytest.raises(NotFound, match="named no champion within 0"):
        follower.wait_for_first(0)
    Champion(error="the registry is away").save(tmp_path)
    with pytest.raises(NotFound, match="the registry is away"):
        follower.wait_for_first(0)
    publish(tmp_path, scorer, OTHER, "8-a")
    assert follower.wait_for_first(5).version == "8"
    follower.stop()
    _torn(publish(tmp_path, scorer, OTHER, "8-b"))
    other = Follower(tmp_path, CONTRACT, served=None, metrics=Seen(), environment={})
    with pytest.raises(NotFound, match="not the one that"):
        other.wait_for_first(0.5)


@pytest.mark.slow
def test_a_broken_champion_of_before_is_no_reason_not_to_start(scorer: Scorer, tmp_path: Path) -> None:
    """The registry may have a good one by now, which is waited for; if it still names the broken one, nothing is."""
    _torn(publish(tmp_path, scorer, OTHER, "8-a"))
    follower = Follower(tmp_path, CONTRACT, served=None, metrics=Seen(), environment={})
    later = Timer(0.5, publish, (tmp_path, scorer, INFO, "7-a"))
    later.start()
    assert follower.wait_for_first(60).version == "7"
    later.join()
    follower.stop()
    _torn(publish(tmp_path, scorer, OTHER, "8-b"))
    now = datetime.now(UTC) + timedelta(hours=1)
    Champion(version="8", run_id=OTHER.run_id, folder="8-b", looked_at=now.isoformat()).save(tmp_path)
    other = Follower(tmp_path, CONTRACT, served=None, metrics=Seen(), environment={})
    began = time.monotonic()
    with pytest.raises(NotFound, match="not the one that"):
        other.wait_for_first(60)
    assert time.monotonic() - began < 30


def child(follower: Follower) -> "subprocess.Popen[bytes] | None":
    """The poller's process of a worker, if it has one."""
    return follower._poller._child.process


def test_one_poller_runs_for_all_workers_and_ends_with_its_own(parts: Parts, model_folder: Path) -> None:
    """A second worker leaves it alone while the first lives, and starts one of its own after that."""
    other = Follower(parts.home, CONTRACT, served=load(model_folder, CONTRACT), metrics=Seen(), environment={})
    for each in (parts.follower, other):
        each._poller.keep_running()
    first = child(parts.follower)
    assert first is not None
    assert child(other) is None
    parts.follower.stop()
    assert first.poll() is not None
    other._poller.keep_running()
    assert child(other) is not None
    other.stop()


@pytest.mark.slow
def test_a_poller_that_dies_is_started_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause, so that one that cannot run is not started over and over again."""
    monkeypatch.setattr(children, "RESTART_SECONDS", 0.2)
    parts.follower._poller.keep_running()
    first = child(parts.follower)
    assert first is not None
    first.kill()
    first.wait()
    began = time.monotonic()
    while child(parts.follower) in (None, first):
        parts.follower._poller.keep_running()
    assert time.monotonic() - began >= 0.2
    assert parts.seen.events.count("restarted poller") == 1


def test_the_poller_fetches_each_champion_once(model_folder: Path, tmp_path: Path) -> None:
    """A champion that stays is not fetched again; another one is, also one of the same number from another run."""
    registry = FakeRegistry(model_folder)
    poller = RegistryPoller(open_registry=lambda: registry, home=tmp_path, seconds=0.01)
    for info in (INFO, INFO, OTHER, replace(OTHER, run_id="0" * 32), INFO):
        registry.info = info
        poller.poll(registry)
        state = Champion.load(tmp_path)
        assert (state.version, state.error) == (info.version, "")
        assert load(tmp_path / state.folder, CONTRACT).info == info
    assert registry.fetched == ["7", "8", "8", "7"]
    # What a worker may still be reading is there, what is older is not.
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_the_poller_fetches_deleted_files_again(model_folder: Path, tmp_path: Path) -> None:
    """A folder that was deleted by hand comes back."""
    registry = FakeRegistry(model_folder)
    poller = RegistryPoller(open_registry=lambda: registry, home=tmp_path, seconds=0.01)
    poller.poll(registry)
    shutil.rmtree(tmp_path / Champion.load(tmp_path).folder)
    poller.poll(registry)
    assert load(tmp_path / Champion.load(tmp_path).folder, CONTRACT).info == INFO


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        (RuntimeError("password=hunter2"), "RuntimeError at "),
        (ModuleNotFoundError("no", name="mlflow"), "the package mlflow is not installed"),
        (Unreachable("no answer"), "no answer"),
    ],
)
def test_the_poller_survives_an_unreachable_registry(
    model_folder: Path, tmp_path: Path, fault: Exception, reported: str
) -> None:
    """The failure is written down, the champion known so far stays, and it goes on when the registry is back."""
    registry, opened, stop = FakeRegistry(model_folder), Event(), Event()

    def open_registry() -> FakeRegistry:
        if not opened.is_set():
            raise fault
        return registry

    poller = RegistryPoller(open_registry=open_registry, home=tmp_path, seconds=0.01)
    thread = Thread(target=poller.run, args=(stop,))
    thread.start()
    wait(lambda: Champion.load(tmp_path).error.startswith(reported))
    opened.set()
    wait(lambda: Champion.load(tmp_path).version == "7")
    registry.fails = True
    wait(lambda: "away" in Champion.load(tmp_path).error)
    assert Champion.load(tmp_path).version == "7"
    registry.fails, registry.info = False, OTHER
    wait(lambda: Champion.load(tmp_path).version == "8")
    stop.set()
    thread.join()


@pytest.mark.parametrize(("challenger", "seconds", "pauses"), [
    (False, 60.0, [60.0, 60.0]), (True, 60.0, [5.0, 5.0]), (True, 2.0, [4.0, 5.0]),
])  # fmt: skip
def test_workers_hear_of_a_challenger_before_it_takes_effect(
    tmp_path: Path, challenger: bool, seconds: float, pauses: list[float]
) -> None:
    """Also of services with other settings, and right after an outage: there is time for two polls, and to load it."""

    class Stopped(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            if len(waited) == len(pauses):
                self.set()
            return self.is_set()

    def away() -> FakeRegistry:
        raise Unreachable("no answer")

    waited: list[float | None] = []
    RegistryPoller(open_registry=away, home=tmp_path, seconds=seconds, challenger=challenger).run(Stopped())
    assert waited == pauses
    assert 2 * MAX_PAUSE < LEAD_SECONDS


def test_downloads_that_fail_leave_nothing_behind(model_folder: Path, tmp_path: Path) -> None:
    """Each attempt has a folder of its own; they would fill the disk."""

    class Torn(FakeRegistry):
        def fetch_scorer(self, version: str, into: Path) -> Path:
            super().fetch_scorer(version, into)
            raise OSError("full")

    poller = RegistryPoller(open_registry=lambda: FakeRegistry(model_folder), home=tmp_path, seconds=0.01)
    poller.poll(FakeRegistry(model_folder))
    for _ in range(3):
        with pytest.raises(OSError, match="full"):
            poller.poll(Torn(model_folder, OTHER))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [Champion.load(tmp_path).folder]


@pytest.mark.slow
def test_the_poller_survives_a_disk_that_takes_nothing(model_folder: Path, tmp_path: Path) -> None:
    """It cannot even write down that it failed; starting it again would load MLflow every few seconds."""
    registry, stop = FakeRegistry(model_folder), Event()
    (tmp_path / STATE_FILE).mkdir()
    poller = RegistryPoller(open_registry=lambda: registry, home=tmp_path, seconds=0.01)
    thread = Thread(target=poller.run, args=(stop,))
    thread.start()
    wait(lambda: len(registry.fetched) >= 3)
    (tmp_path / STATE_FILE).rmdir()
    wait(lambda: Champion.load(tmp_path).version == "7")
    stop.set()
    thread.join()


def follow(settings: Settings) -> Settings:
    return settings.model_copy(update={"model_source": ModelSource.REGISTRY, "follow_seconds": 3_600.0})


@pytest.mark.slow
def test_every_answer_names_the_version_and_model_info_tells_the_change(
    model_folder: Path, scorer: Scorer, tmp_path: Path
) -> None:
    """A service that follows answers with the new version, in header, body and log; a refused one shows its reason."""
    settings = follow(empty_store(pinned(tmp_path, model_folder, ship_in_process=False)))

    def version(client: TestClient) -> str:
        response = client.post("/predict", json={"data": EXAMPLE})
        assert response.headers["x-model-version"] == response.json()["model_version"]
        return str(response.json()["model_version"])

    def info(client: TestClient) -> Any:
        return PAYLOAD.model_info.model_validate_json(client.get("/model-info").content)

    with served(settings) as client:
        assert (version(client), info(client).following) == ("7", True)
        publish(settings.champions, scorer, OTHER, "8-a")
        wait(lambda: version(client) == "8")
        assert (info(client).version, info(client).refused) == ("8", None)
        assert client.get("/livez").headers["x-model-version"] == "8"
        _torn(publish(settings.champions, scorer, replace(INFO, version="9"), "9-a"))
        wait(lambda: info(client).refused is not None)
        refused = info(client).refused
        assert refused is not None
        assert (refused.version, version(client)) == ("9", "8")
        page = client.get("/metrics").text
        assert 'ctcd_model_swaps_total{model="machine_condition",outcome="swapped"} 1.0' in page
        assert 'ctcd_model_swaps_total{model="machine_condition",outcome="refused"} 1.0' in page
        Champion(version="8", run_id=OTHER.run_id, folder="8-a", error="the registry is away").save(settings.champions)
        wait(lambda: info(client).registry_error != "")
        assert 'ctcd_registry_followed{model="machine_condition"} 0.0' in client.get("/metrics").text
    with served(settings) as client:  # it begins with the champion that was fetched last
        assert version(client) == "8"
