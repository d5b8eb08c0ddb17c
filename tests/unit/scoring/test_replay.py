"""An answer of the prediction log is computed again with the version that gave it, and every difference is found."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from support.instance import CONTRACT
from support.serving import origin, row_of, small_scorer

from ctcd.contract.spec import names
from ctcd.errors import NotFound
from ctcd.model.scorer import Scorer
from ctcd.registry.versions import RegisteredVersion
from ctcd.scoring import replay as replay_module
from ctcd.scoring.replay import Chosen, Difference, ReplayReport, replay
from ctcd.store.prediction_log import LoggedPrediction, append, of_requests
from ctcd.store.tables import build_tables

BEGAN = datetime(2025, 8, 31, 15, 0, tzinfo=UTC)
SCORERS = {"run 1": small_scorer(20), "run 2": small_scorer(30)}
BATCH = "2acfb25a-b729-43d7-8f27-b96332e26ac1"


class Registry:
    """A registry in memory: a real one takes seconds to make; tests/integration/serving replays with one."""

    def __init__(self, **runs: str) -> None:
        self.runs, self.fetched = runs, list[str]()

    def versions(self) -> list[RegisteredVersion]:
        made = RegisteredVersion(
            model_name=CONTRACT.name, version="", run_id="", aliases=(), created_at="", tags={}, uri=""
        )
        return [replace(made, version=version[1:], run_id=run_id) for version, run_id in self.runs.items()]

    def scorer(self, info: RegisteredVersion, _cache: Path) -> Scorer:
        self.fetched.append(info.run_id)
        return SCORERS[info.run_id]


BOTH: Any = Registry(v1="run 1", v2="run 2")


def answered(number: int, version: str = "1", **changed: Any) -> LoggedPrediction:
    """Return what the service logs of a row, one second after the row before it."""
    row = row_of(number)
    found = SCORERS[f"run {version}"].predict([row])
    known: dict[str, Any] = {
        "request_id": f"{number:036d}",
        "group": number,
        "features": {name: row[name] for name in names(CONTRACT.model_inputs)},
        "prediction": found.classes[0],
        "confidence": found.confidences[0],
        "probabilities": dict(zip(found.class_order, found.probabilities[0], strict=True)),
        "elapsed_ms": 1.0,
        "created_at": BEGAN + timedelta(seconds=number),
    }
    return LoggedPrediction(**known | vars(origin(version)) | changed)


def replayed(store: Engine, registry: Any = BOTH, **chosen: Any) -> ReplayReport:
    return replay(store, CONTRACT, registry, Chosen(**chosen), cache=Path("unused"))


def found(report: ReplayReport) -> tuple[int, int, int, int, int]:
    return report.answers, report.equal, report.different, report.partial, report.not_computed


def test_answers_of_several_versions_come_out_the_same(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is computed with its own version, which is fetched once, in batches; the other version would differ."""
    monkeypatch.setattr(replay_module, "CHUNK_ROWS", 16)
    append(store, CONTRACT, [answered(number, "12"[number // 5 % 2]) for number in range(50)])
    seen: list[tuple[str, int, int | None]] = []
    registry: Any = Registry(v1="run 1", v2="run 2")
    report = replay(store, CONTRACT, registry, Chosen(), cache=Path("unused"), progress=lambda *now: seen.append(now))
    assert found(report) == (50, 50, 0, 0, 0)
    assert [(each.model_version, each.run_id, each.equal) for each in report.versions] == [
        ("1", "run 1", 25),
        ("2", "run 2", 25),
    ]
    assert registry.fetched == ["run 1", "run 2"]
    assert [done for _, done, _ in seen] == [16, 32, 48, 50]
    assert {total for *_, total in seen} == {50}
    append(store, CONTRACT, [replace(answered(50, "1"), run_id="run 2")])
    assert found(replayed(store)) == (51, 50, 1, 0, 0)


def probabilities(**changed: float) -> dict[str, Any]:
    return {"probabilities": {**(answered(3).probabilities or {}), **changed}}


FIRST, SECOND = CONTRACT.classes[:2]
TOLD = answered(3).probabilities or {}
SWAPPED = {**TOLD, FIRST: TOLD[SECOND], SECOND: TOLD[FIRST]}
OTHER = next(name for name in CONTRACT.classes if name != answered(3).prediction)


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"prediction": OTHER}, ["prediction"]),
        ({"confidence": answered(3).confidence + 2e-9}, ["confidence"]),
        ({"confidence": answered(3).confidence - 2e-9}, ["confidence"]),
        ({"confidence": answered(3).confidence + 5e-10}, []),
        ({"probabilities": SWAPPED}, [f"probability of {FIRST}", f"probability of {SECOND}"]),
        ({"probabilities": dict(reversed(list(TOLD.items())))}, []),
        (probabilities(**{SECOND: TOLD[SECOND] + 2e-9}), [f"probability of {SECOND}"]),
        ({"probabilities": {name: TOLD[name] for name in CONTRACT.classes[1:]}}, [f"probability of {FIRST}"]),
        (probabilities(unknown=0.0), ["probability of unknown"]),
        (
            {"features": {**answered(3).features, "wear": 77.0}},
            ["confidence", *(f"probability of {name}" for name in TOLD)],
        ),
    ],
)
def test_every_difference_is_reported(store: Engine, changed: dict[str, Any], fields: list[str]) -> None:
    """With the request, what was logged and what is computed now; what is equal to 1e-9 is equal."""
    append(store, CONTRACT, [answered(2), answered(3, **changed), answered(4)])
    report = replayed(store)
    assert [
        each.field for each in report.differences if each.field != "prediction" or "features" not in changed
    ] == fields
    assert {each.request_id for each in report.differences} == ({f"{3:036d}"} if fields else set())
    assert (report.equal, report.different) == (3 - bool(fields), int(bool(fields)))


def test_a_difference_says_what_was_told_and_what_is_computed(store: Engine) -> None:
    """A class that was not told has no logged value."""
    reported = {name: value for name, value in TOLD.items() if name != FIRST}
    append(store, CONTRACT, [answered(3, probabilities=reported)])
    assert replayed(store).differences == (
        Difference(
            request_id=f"{3:036d}",
            model_version="1",
            run_id="run 1",
            field=f"probability of {FIRST}",
            logged=None,
            computed=TOLD[FIRST],
        ),
    )


def test_a_version_is_its_training_run_and_not_its_number(store: Engine) -> None:
    """A model that was made again has the number of the one that answered: that one is gone, and no other is taken for it."""
    append(store, CONTRACT, [answered(1, "1"), answered(2, "2")])
    report = replayed(store, Registry(v1="run 2"))
    assert found(report) == (2, 1, 0, 0, 1)
    gone, renumbered = report.versions
    assert (gone.run_id, gone.problem) == ("run 1", "the registry has no version of run run 1")
    assert (renumbered.model_version, renumbered.equal, renumbered.problem) == ("2", 1, "")


def test_rows_of_earlier_releases_are_compared_as_far_as_they_go(store: Engine) -> None:
    """Without probabilities, class and confidence are; without a run, the version with the logged number is taken."""
    old: dict[str, Any] = {
        "run_id": "",
        "probabilities": None,
        "contract_version": None,
        "served_by": None,
        "variant": None,
    }
    append(
        store, CONTRACT, [answered(1, **old), answered(2, **old, confidence=0.5), answered(3, **old, model_version="9")]
    )
    report = replayed(store)
    assert found(report) == (3, 1, 1, 2, 1)
    assert [each.field for each in report.differences] == ["confidence"]
    assert report.versions[1].problem == "there is no version 9 any more"


def test_a_row_that_lacks_what_its_version_reads_is_not_computed(store: Engine) -> None:
    """It says which column, and the answers of other versions are computed."""
    append(store, CONTRACT, [answered(1, features={"hours": 1}), answered(2, "2")])
    report = replayed(store)
    assert found(report) == (2, 1, 0, 0, 1)
    assert "is missing" in report.versions[0].problem


def test_one_row_that_cannot_be_computed_keeps_no_other_from_it(store: Engine) -> None:
    """Rows with which it was read and computed at once are, whether they come out the same or not."""
    bad: dict[str, Any] = {"features": {"hours": 1}}
    changed = {3: {"confidence": 0.5}, 4: bad, 9: bad}
    append(store, CONTRACT, [answered(number, **changed.get(number, {})) for number in range(11)])
    report = replayed(store)
    assert found(report) == (11, 8, 1, 0, 2)
    assert "is missing" in report.versions[0].problem
    assert [each.request_id for each in report.differences] == [f"{3:036d}"]


@pytest.mark.slow
def test_many_requests_are_chosen(store: Engine) -> None:
    """More than a condition of SQLite can have; one that is given twice, or is a row of a given batch, counts once."""
    uuids = [str(UUID(int=number)) for number in range(1_100)]
    batch = [f"{UUID(uuids[0]).hex}{number:04d}" for number in range(3)]
    append(store, CONTRACT, [answered(number, request_id=each) for number, each in enumerate([*batch, *uuids[1:]])])
    assert replayed(store, requests=[*uuids, *reversed(uuids), batch[1]]).answers == 1_102
    with pytest.raises(NotFound, match=r"request ids that it does not have: 1 of 1101, such as 'x'"):
        replayed(store, requests=[*uuids, "x"])


@pytest.mark.parametrize("given", ["", "a", "0" * 31, "0" * 33, "g" * 32, "5"])
def test_a_part_of_an_id_chooses_nothing(store: Engine, given: str) -> None:
    """What is no id of a batch stands for no rows but its own."""
    others = [answered(number) for number in (1, 555555)]
    append(store, CONTRACT, [*others, answered(2, request_id=f"{'0' * 32}0001"), answered(3, request_id="a1234")])
    ids = build_tables(CONTRACT).predictions.c.request_id
    with store.connect() as connection:  # as for `ctcd lookup`
        assert list(connection.scalars(select(ids).where(of_requests(CONTRACT, [given])))) == []
    with pytest.raises(NotFound, match="request ids that it does not have: 1 of 2"):
        replayed(store, requests=["a1234", given])


@pytest.mark.slow
def test_a_sample_of_a_long_log_needs_little_memory(store: Engine) -> None:
    """Of an answer that is not drawn, no more than its number is kept."""
    rows, first = 10_000, answered(1)
    append(store, CONTRACT, [replace(first, request_id=f"{number:036d}") for number in range(rows)])
    replayed(store, sample=1)  # what is loaded once
    tracemalloc.start()
    try:
        assert replayed(store, sample=1).answers == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * rows


def test_requests_a_period_or_a_sample_are_chosen(store: Engine) -> None:
    """The id of a batch stands for its rows; a period has its beginning and not its end; a sample can be drawn again."""
    rows = [answered(number) for number in range(20)]
    batch = [answered(20 + number, request_id=f"{BATCH.replace('-', '')}{number:04d}") for number in range(3)]
    append(store, CONTRACT, [*rows, *batch])
    assert replayed(store, requests=[f"{4:036d}"]).answers == 1
    assert replayed(store, requests=[BATCH, f"{5:036d}"]).answers == 4
    assert replayed(store, begin=BEGAN + timedelta(seconds=5), end=BEGAN + timedelta(seconds=8)).answers == 3
    assert replayed(store, begin=BEGAN, sample=7).answers == 7
    assert replayed(store, sample=100).answers == 23
    table = build_tables(CONTRACT).predictions
    with store.begin() as connection:
        connection.execute(table.update().values(confidence=0.5))
    drawn = [[each.request_id for each in replayed(store, sample=7, seed=seed).differences] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(NotFound, match=r"request ids that it does not have: 1 of 2, such as 'x'"):
        replayed(store, requests=[BATCH, "x"])
    with pytest.raises(NotFound, match="no such answer"):
        replayed(store, begin=BEGAN + timedelta(days=1))
