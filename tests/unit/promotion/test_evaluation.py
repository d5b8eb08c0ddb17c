import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from threading import get_native_id
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator
from support.evaluations import answers, evaluated
from support.examples import at_most
from support.frames import snapshot_frame
from support.instance import CONTRACT, PAYLOAD

from ctcd.contract.payload import request_rows
from ctcd.contract.spec import Contract
from ctcd.errors import DataRefused
from ctcd.model.threshold import Threshold
from ctcd.promotion.evaluation import (
    BATCH_ROWS,
    MAX_QUEUED,
    ROUNDS,
    ROWS_TIMED,
    WARM_UP,
    Evaluation,
    _queue_time,
    _threads,
    _timed,
    fingerprint,
)
from ctcd.promotion.gate import _load

LABEL, GROUP, KEY = CONTRACT.label.name, CONTRACT.group.name, CONTRACT.key.name
DAY = date(2025, 8, 31)
HOLDOUT = snapshot_frame(CONTRACT, rows=200)


class Knowing:
    """A model that is right about the rows of the holdout, and 0.8 sure of it."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.columns: list[str] = []

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        self.calls.append(len(data))
        self.columns = [str(name) for name in data.columns]
        truth = HOLDOUT.loc[data.index, LABEL]
        table = {f"probability_{name}": np.where(truth == name, 0.8, 0.1) for name in CONTRACT.classes}
        return pd.DataFrame({"prediction": truth, **table}, index=data.index)


class Broken:
    """A model whose predictions are changed afterwards."""

    def __init__(self, spoil: Any) -> None:
        self.spoil = spoil

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        spoiled: pd.DataFrame = self.spoil(Knowing().predict(data))
        return spoiled


@pytest.fixture(autouse=True)
def _few_rows_are_timed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where latency is not the subject, three hundred predictions would take most of the time."""
    if "measured" not in request.fixturenames:
        monkeypatch.setattr("ctcd.promotion.evaluation.ROWS_TIMED", 3)


def judge(model: Any, holdout: pd.DataFrame = HOLDOUT, **changes: Any) -> Evaluation:
    return evaluated(model, holdout, **{"artifact_bytes": 2_500_000} | changes)


def test_evaluation_has_what_the_decision_needs() -> None:
    """Scores, rows, latency and size are those of the model passed in."""
    model = Knowing()
    judged_on = DAY + timedelta(days=2)
    found = judge(model, seen_groups=set(HOLDOUT[GROUP].iloc[:3]), judged_on=judged_on)
    assert found.scores is not None
    assert found.scores.accuracy == found.scores.macro_f1 == 1.0
    assert found.scores.ece == pytest.approx(0.2)
    assert [CONTRACT.classes[i] for i in found.truth] == HOLDOUT[LABEL].tolist()
    assert (found.predicted == found.truth).all()
    assert found.probabilities is not None
    assert found.probabilities.tolist() == np.where(np.eye(len(CONTRACT.classes))[found.truth] == 1, 0.8, 0.1).tolist()
    assert found.seen.tolist() == HOLDOUT[GROUP].isin(HOLDOUT[GROUP].iloc[:3]).tolist()
    assert len(np.unique(found.groups)) == HOLDOUT[GROUP].nunique()
    assert found.artifact_mb == 2.5
    assert found.row_p95_ms > 0
    assert found.batch_row_ms > 0
    assert found.contract_in_force == CONTRACT.version
    assert (found.trained_on, found.judged_on, found.slices) == (DAY, judged_on, ())


def test_rows_that_are_not_decided_as_the_policy_says_are_counted() -> None:
    """The classes are those that the model answers; each that its probabilities and the threshold do not give counts."""
    other = {name: CONTRACT.classes[place - 1] for place, name in enumerate(CONTRACT.classes)}

    def swap(answer: pd.DataFrame) -> pd.DataFrame:
        some = answer.index < 5
        return answer.assign(prediction=answer["prediction"].mask(some, answer["prediction"].map(other)))

    found = judge(Broken(swap))
    assert found.threshold_mismatches == 5
    assert (found.predicted != found.truth).sum() == 5
    assert found.scores is not None
    assert found.scores.accuracy == 1 - 5 / len(HOLDOUT)
    assert judge(Knowing()).threshold_mismatches == 0


def test_two_classes_are_judged_by_the_threshold_of_the_policy() -> None:
    """A model that decides by it has no mismatch, one that answers the most probable class has; the positive class is ranked."""
    contract = replace(CONTRACT)
    vars(contract)["classes"] = classes = ("no", "yes")  # a cached property
    sure = np.array([0.9, 0.7, 0.2, 0.1] * 3)
    holdout = HOLDOUT.head(len(sure)).assign(**{LABEL: ["yes", "yes", "yes", "no"] * 3})
    by_policy = Threshold(positive="yes", value=0.15)

    class Deciding:
        def __init__(self, threshold: Threshold | None) -> None:
            self.threshold = threshold

        def predict(self, data: pd.DataFrame) -> pd.DataFrame:
            table = sure[data.index]
            return answers(np.column_stack([1 - table, table]), classes, data.index, self.threshold)

    for threshold, mismatches in ((by_policy, 0), (None, 3)):
        found = judge(Deciding(threshold), holdout, contract=contract, threshold=by_policy, request=None)
        assert found.problem == ""
        assert found.scores is not None
        assert (found.threshold_mismatches, found.scores.roc_auc) == (mismatches, 1.0)


def test_probabilities_are_compared_in_full_precision() -> None:
    """A model may answer floats of 32 bits: all that is computed from them is in 64, as in the service."""
    numbers = [f"probability_{name}" for name in CONTRACT.classes]
    found = judge(Broken(lambda answer: answer.astype(dict.fromkeys(numbers, np.float32))))
    assert found.probabilities is not None
    assert found.probabilities.dtype == np.float64


@pytest.mark.parametrize("changes", [{}, {"drafts_allowed": False}, {"drafts_allowed": True}])
def test_drafts_of_the_contract_are_counted(changes: dict[str, Any]) -> None:
    """The decision gets the number of drafts, and whether they will do, which they do unless the caller says otherwise."""
    contract = replace(CONTRACT)
    vars(contract)["drafts"] = (("contract", "confirm it"), ("hours", "confirm its limits"))  # a cached property
    found = judge(Knowing(), contract=contract, **changes)
    assert (found.drafts, found.drafts_allowed) == (2, changes.get("drafts_allowed", True))
    assert judge(Knowing()).drafts == 0


def test_the_size_of_a_model_is_that_of_all_its_files(tmp_path: Path) -> None:
    """Also of those in folders below, in which most of a model is, and of a model that cannot be loaded."""
    for name, size in (("MLmodel", 3), ("scorer/model.cbm", 50), ("scorer/more/deep.bin", 700)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-" * size)
    registry: Any = SimpleNamespace(model_folder=lambda _version, into: into)
    assert _load(registry, "1", tmp_path)[1] == 753


def test_model_sees_its_inputs_only() -> None:
    """The model gets neither the label nor a key."""
    model = Knowing()
    judge(model)
    assert model.columns == [column.name for column in CONTRACT.model_inputs]
    assert model.calls[: ROUNDS + 1] == [len(HOLDOUT), *[BATCH_ROWS] * ROUNDS]
    assert set(model.calls[ROUNDS + 1 :]) == {1}


def test_a_holdout_as_large_as_a_batch_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that is scored is the first of those that are measured then."""
    monkeypatch.setattr("ctcd.promotion.evaluation.BATCH_ROWS", len(HOLDOUT))
    model = Knowing()
    judge(model)
    assert model.calls[:ROUNDS] == [len(HOLDOUT)] * ROUNDS
    assert set(model.calls[ROUNDS:]) == {1}


class Clock:
    """Fake clocks that advance whenever the model predicts.

    Args:
        row_ms: processor time of a single-row call, by its number from 0, without the calls that warm up.
        waiting_ms: additional wall time of each call, by the number of the call from 0.
        queued_ms: further wall time of each call, in which other processes have the processor.
    """

    def __init__(
        self,
        row_ms: Callable[[int], float],
        waiting_ms: Callable[[int], float] = lambda _: 0.0,
        queued_ms: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        self.processor, self.wall, self.queued, self.singles, self.calls = 1_000.0, 5_000.0, 7_000.0, 0, 0
        self._row_ms, self._waiting_ms, self._queued_ms = row_ms, waiting_ms, queued_ms

    def process_time(self) -> float:
        return self.processor

    def perf_counter(self) -> float:
        return self.wall

    def threads(self) -> dict[int, tuple[int, int]]:
        return {get_native_id(): (round(self.processor * 1e9), round(self.queued * 1e9))}

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        if len(data) > 1:
            taken = 500.0
        else:
            self.singles += 1
            taken = 9_000.0 if self.singles <= WARM_UP else self._row_ms(self.singles - WARM_UP - 1)
        self.processor += taken / 1_000
        self.wall += (taken + self._waiting_ms(self.calls) + self._queued_ms(self.calls)) / 1_000
        self.queued += self._queued_ms(self.calls) / 1_000
        self.calls += 1
        return Knowing().predict(data) if len(data) > 1 else ONE_ROW


ONE_ROW = Knowing().predict(HOLDOUT.iloc[:1])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Clock], Evaluation]:
    """Evaluate a model that moves the clocks itself."""

    def evaluated(clock: Clock) -> Evaluation:
        monkeypatch.setattr("ctcd.promotion.evaluation.time.process_time", clock.process_time)
        monkeypatch.setattr("ctcd.promotion.evaluation.time.perf_counter", clock.perf_counter)
        monkeypatch.setattr("ctcd.promotion.evaluation._threads", clock.threads)
        return judge(clock)

    return evaluated


def test_latency_is_processor_time_in_milliseconds_after_warming_up(measured: Callable[[Clock], Evaluation]) -> None:
    """A batch of 1,000 rows in half a second is 0.5 ms a row; of rows that take 1 to 100 ms the 95th percentile counts."""
    clock = Clock(lambda single: single % ROWS_TIMED + 1)
    found = measured(clock)
    assert found.batch_row_ms == pytest.approx(0.5)
    assert clock.singles == WARM_UP + ROUNDS * ROWS_TIMED
    assert found.row_p95_ms == pytest.approx(np.percentile(np.arange(1, ROWS_TIMED + 1), 95))


@pytest.mark.slow
def test_the_best_round_counts(measured: Callable[[Clock], Evaluation]) -> None:
    """What slows one round down, such as a cold cache, is not held against the model."""
    assert measured(Clock(lambda single: 90.0 if single < ROWS_TIMED else 3.0)).row_p95_ms == pytest.approx(3.0)

    def all_but(fast: int) -> Callable[[int], float]:
        return lambda call: 0.0 if call == fast else 50.0

    # The call before all batches is the one that is scored.
    for fast in range(1, ROUNDS + 1):
        found = measured(Clock(lambda _: 3.0, waiting_ms=all_but(fast)))
        assert found.batch_row_ms == pytest.approx(500.0 / BATCH_ROWS)


def test_a_model_that_waits_is_slow(measured: Callable[[Clock], Evaluation]) -> None:
    """Waiting in every call uses no processor, and counts all the same; waiting in some calls does not."""
    found = measured(Clock(lambda _: 2.0, waiting_ms=lambda _: 50.0))
    assert found.row_p95_ms == pytest.approx(52.0)
    assert found.batch_row_ms == pytest.approx(550.0 / BATCH_ROWS)
    held_up = measured(Clock(lambda _: 2.0, waiting_ms=lambda call: 50.0 * (call % 5 == 0)))
    assert held_up.row_p95_ms == pytest.approx(2.0)


@pytest.mark.slow
@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=20), st.sampled_from([0.0, 50.0]))
@settings(
    max_examples=at_most(5), suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the fixture holds no state
def test_load_on_the_machine_changes_no_latency(
    measured: Callable[[Clock], Evaluation], queued: list[float], waiting: float
) -> None:
    """However long other processes hold up each call, the figures are those of the idle machine."""
    idle = measured(Clock(lambda _: 2.0, lambda _: waiting))
    found = measured(Clock(lambda _: 2.0, lambda _: waiting, lambda call: queued[call % len(queued)]))
    assert found.row_p95_ms == pytest.approx(idle.row_p95_ms)
    assert found.batch_row_ms == pytest.approx(idle.batch_row_ms)


def test_the_time_in_the_queue_is_the_longest_of_a_thread_that_works() -> None:
    """The caller's counts in full, that of another thread in proportion to its work: one that is idle takes nothing off."""
    second, caller, other = 10**9, get_native_id(), -1
    before = {caller: (5, 700), other: (second, 40)}
    idle = {other: (second, 40 + 3 * second)}
    working = {other: (2 * second, 40 + 3 * second)}
    new = {-2: (second, MAX_QUEUED * second + 1)}
    assert _queue_time(before, before | {caller: (5, 700 + second)} | idle) == 1
    assert _queue_time(before, before | {caller: (5, 700 + second)} | working) == 3
    assert _queue_time(before, before | {caller: (5, 700 + 4 * second)} | working) == 4
    assert _queue_time(before, before | working | new) == MAX_QUEUED
    assert _queue_time(before, idle) == _queue_time(before, {other: (0, 0)}) == 0


def test_a_thread_that_has_just_ended_has_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two numbers of each thread's file are read; a thread that has ended has no file to read."""
    monkeypatch.setattr("ctcd.promotion.evaluation.Path", lambda _: tmp_path)
    for thread, text in (("71", "9 2000000000 1"), ("72", "8 3000000000 4")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "73/schedstat").mkdir(parents=True)
    assert _threads() == {71: (9, 2 * 10**9), 72: (8, 3 * 10**9)}


@pytest.mark.slow
def test_a_call_beside_a_busy_process_takes_no_longer_but_waiting_does() -> None:
    """On one processor that a busy loop has too: time in its queue is left out, a sleep is not."""

    class Working:
        def __init__(self, work: float, sleep: float) -> None:
            self.work, self.sleep = work, sleep

        def predict(self, data: pd.DataFrame) -> pd.DataFrame:
            began = time.thread_time()
            while time.thread_time() < began + self.work:
                pass
            time.sleep(self.sleep)
            return data

    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
        ) as busy:
            assert busy.stdout
            busy.stdout.readline()
            began = time.perf_counter()
            _, _, working = _timed(Working(0.1, 0), HOLDOUT)
            taken = (time.perf_counter() - began) * 1_000
            _, _, sleeping = _timed(Working(0, 0.1), HOLDOUT)
            busy.kill()
    finally:
        os.sched_setaffinity(0, processors)
    assert taken > 120, "the busy loop did not hold it up"
    assert 99 < working < (100 + taken) / 2
    assert sleeping > 99


def test_a_small_holdout_is_charged_no_more_for_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes 500 ms whatever its size is divided by the rows of a batch, not by those of a small holdout."""
    clock = Clock(lambda _: 2.0)
    monkeypatch.setattr("ctcd.promotion.evaluation.time.process_time", clock.process_time)
    monkeypatch.setattr("ctcd.promotion.evaluation.time.perf_counter", clock.perf_counter)
    small = judge(clock, HOLDOUT.head(30))
    assert small.batch_row_ms == pytest.approx(500.0 / (-(-BATCH_ROWS // 30) * 30))


@pytest.mark.slow
def test_rows_that_the_api_would_refuse_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that break the payload are counted, a block at a time; what is wrong with the first is said without its value."""
    spoiled = HOLDOUT.assign(grade=HOLDOUT["grade"].where(HOLDOUT.index >= 2, "Secret"))
    found = judge(Knowing(), spoiled)
    assert found.refused == 2
    assert found.refusal.startswith("grade: ")
    assert "Secret" not in found.refusal
    assert (judge(Knowing()).refused, judge(Knowing()).refusal) == (0, "")
    another = spoiled.assign(
        grade=HOLDOUT["grade"].where(HOLDOUT.index != 0, "Secret"),
        shift=HOLDOUT["shift"].where(HOLDOUT.index != 1, "Secret"),
    )
    assert judge(Knowing(), another).refusal == found.refusal
    asked: list[int] = []

    def counted(frame: pd.DataFrame, contract: Contract) -> list[dict[str, Any]]:
        asked.append(len(frame))
        return request_rows(frame, contract)

    monkeypatch.setattr("ctcd.promotion.evaluation.request_rows", counted)
    monkeypatch.setattr("ctcd.promotion.evaluation.BLOCK_ROWS", 90)
    in_blocks = judge(Knowing(), spoiled)
    assert (in_blocks.refused, in_blocks.refusal) == (found.refused, found.refusal)
    assert asked == [90, 90, 20]


@pytest.mark.slow
def test_rows_are_asked_of_the_payload_that_the_service_has() -> None:
    """A rule that a team wrote into its own payload counts too; nothing is asked about a model without a request."""

    class Request(BaseModel):
        data: PAYLOAD.row  # type: ignore[name-defined] # a type made at run time

        @field_validator("data")
        @classmethod
        def refuse_all(cls, _: object) -> object:
            raise ValueError("not on Sundays")

    class Numbers(BaseModel):
        data: dict[str, float | bool]

    found = judge(Knowing(), request=Request)
    assert (found.refused, found.refusal) == (len(HOLDOUT), "Value error, not on Sundays")
    assert judge(Knowing(), request=Numbers).refusal.startswith("maker.float: ")
    unasked = judge(Knowing(), request=None)
    assert (unasked.refused, unasked.refusal) == (None, "")


@pytest.mark.slow
def test_evaluation_says_which_rows_belong_together_and_whether_it_was_rolled_back() -> None:
    """Rows of a group share a number, in the order of the groups; by default a version is not rolled back."""
    found = judge(Knowing(), rolled_back=True)
    groups = HOLDOUT[GROUP].to_numpy()
    assert np.array_equal(np.unique(groups)[found.groups], groups)
    assert found.rolled_back
    sound = judge(Knowing())
    assert not sound.rolled_back
    assert sound.problem == ""
    assert (sound.version, sound.run_id, sound.contract_version) == ("1", "r", CONTRACT.version)
    untagged = judge(Knowing(), contract_version=None, trained_on=None)
    assert (untagged.contract_version, untagged.trained_on) == ("unknown", None)


FIRST = f"probability_{CONTRACT.classes[0]}"


def _times(answer: pd.DataFrame, factor: float) -> pd.DataFrame:
    return answer.assign(**{name: answer[name] * factor for name in answer.columns if name != "prediction"})


def _exit(_: pd.DataFrame) -> pd.DataFrame:
    raise SystemExit(0)


def _raise(_: pd.DataFrame) -> pd.DataFrame:
    raise RuntimeError("no weights\nsecond line")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_exit, "SystemExit"),
        (_raise, "RuntimeError at "),
        (lambda answer: _times(answer, np.nan), "not a number"),
        (lambda answer: answer.assign(**{FIRST: np.inf}), "not a number"),
        (lambda answer: _times(answer, 2), "not a number"),
        (lambda answer: _times(answer, 0.5), "sum to 1"),
        (lambda answer: answer.iloc[:-1], "shape"),
        (lambda answer: answer.drop(columns=FIRST), "KeyError"),
        (lambda answer: answer.drop(columns="prediction"), "KeyError"),
        (lambda answer: answer.assign(prediction="none of them"), "a class is not one of"),
        (lambda answer: answer.astype(str).replace("0.8", "high"), "ValueError"),
        (lambda _: None, "TypeError"),
    ],
)
def test_model_that_cannot_be_scored_is_reported_as_such(spoil: Any, problem: str) -> None:
    """Whatever a model does wrong, the evaluation has a one-line reason and no scores."""
    found = judge(Broken(spoil))
    assert found.scores is None
    assert found.probabilities is None
    assert (len(found.predicted), found.threshold_mismatches) == (0, 0)
    assert problem in found.problem
    assert "\n" not in found.problem


def test_nothing_is_kept_of_a_model_that_fails_on_one_row() -> None:
    """Single rows are predicted last: answers before that, and how they were decided, do not count."""

    def spoil(answer: pd.DataFrame) -> pd.DataFrame:
        return _raise(answer) if len(answer) == 1 else answer.assign(prediction=CONTRACT.classes[0])

    found = judge(Broken(spoil))
    assert "RuntimeError" in found.problem
    assert found.scores is None
    assert found.probabilities is None
    assert (len(found.predicted), found.threshold_mismatches) == (0, 0)


def test_fingerprint_is_that_of_content_and_order() -> None:
    """Any change of key, feature, label or order changes the fingerprint; other columns do not."""
    whole = fingerprint(HOLDOUT, CONTRACT)
    assert whole == fingerprint(HOLDOUT.assign(**{CONTRACT.snapshot_date: None}), CONTRACT)
    assert whole == fingerprint(HOLDOUT.set_axis(HOLDOUT.index + 5), CONTRACT)
    assert whole == fingerprint(HOLDOUT.astype({LABEL: object}), CONTRACT)
    number = next(column.name for column in CONTRACT.model_inputs if column.maximum is not None)
    other = next(name for name in CONTRACT.classes if name != HOLDOUT[LABEL].iloc[0])
    for name, value in ((KEY, 7), (number, HOLDOUT[number].iloc[0] + 1), (LABEL, other)):
        changed = HOLDOUT.copy()
        changed.iloc[0, list(changed).index(name)] = value
        assert fingerprint(changed, CONTRACT) != whole, name
    assert fingerprint(HOLDOUT.iloc[::-1], CONTRACT) != whole


def test_decisions_of_earlier_releases_have_the_same_fingerprint() -> None:
    """A comparison of two decisions says whether they are on the same rows, also if another release made one of them."""
    contract: Any = SimpleNamespace(
        row_keys=(SimpleNamespace(name="key"),),
        model_inputs=(SimpleNamespace(name="hours"), SimpleNamespace(name="maker")),
        label=SimpleNamespace(name="condition"),
    )
    rows = pd.DataFrame({"key": [1, 2], "hours": [0.5, 7.25], "maker": ["a", "b"], "condition": ["worn", "sound"]})
    assert fingerprint(rows, contract) == "f559f45725e34806977d4aa46f949c933bc427994355b8f31c7110604b661c8f"


def test_holdout_that_cannot_be_scored_is_an_error_and_no_verdict() -> None:
    """An empty holdout or an unknown label is not the model's fault."""
    with pytest.raises(ValueError, match="empty"):
        judge(Knowing(), HOLDOUT.iloc[:0])
    with pytest.raises(DataRefused, match="not one of"):
        judge(Knowing(), HOLDOUT.assign(**{LABEL: "Brilliant"}))
