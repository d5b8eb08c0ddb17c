"""What performance with known labels leads to: a finding where a score is below its floor beyond chance, or labels stay away."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from support.instance import CONTRACT
from support.small_contracts import BARE, write_instance

from ctcd.contract.instance import load_instance
from ctcd.model.metrics import macro_f1
from ctcd.monitoring.findings import Finding, close_finding, list_findings
from ctcd.monitoring.floors import FEWEST, FEWEST_OF_CLASS, raise_findings
from ctcd.monitoring.performance import Performance, scores
from ctcd.monitoring.periods import Period
from ctcd.promotion.policy import Disabled, Floors
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables

DAY = date(2025, 9, 8)
NONE = Floors(accuracy=1e-9, macro_f1=1e-9, recall=dict.fromkeys(CONTRACT.classes, 1e-9))
"""Floors that nothing is below."""
FIRST, SECOND, THIRD = CONTRACT.classes


def week(confusion: list[list[int]], *, back: int = 1, version: str = "7", unlabelled: int = 0) -> Performance:
    """Return the performance of a week before `DAY`."""
    table = np.array(confusion)
    labelled, last = int(table.sum()), DAY - timedelta(days=7 * back - 6)
    return Performance(
        period=Period.WEEKLY,
        first_day=(last - timedelta(days=6)).isoformat(),
        last_day=last.isoformat(),
        model_version=version,
        run_id="0123456789abcdef",
        predictions=labelled + unlabelled,
        completeness=1.0,
        slices={},
        estimated_accuracy=None,
        estimated_macro_f1=None,
        accuracy_error=None,
        macro_f1_error=None,
        **scores(table, CONTRACT.classes, 1.0),
    )


def right(share: float, rows: int = 100) -> list[list[int]]:
    """Return counts of so many rows of each class, of which a share is answered correctly."""
    good = round(rows * share)
    return [[good if at == to else (rows - good) // 2 for to in range(3)] for at in range(3)]


def found(store: Engine, rows: list[Performance], floors: Floors) -> tuple[Finding, ...]:
    return raise_findings(store, CONTRACT, rows, floors, DAY)


@pytest.mark.parametrize(
    ("floors", "subject"),
    [
        (NONE.model_copy(update={"accuracy": 0.7}), "accuracy of version 7, run 01234567"),
        (NONE.model_copy(update={"macro_f1": 0.7}), "macro F1 of version 7, run 01234567"),
        (NONE.model_copy(update={"recall": {**NONE.recall, SECOND: 0.8}}), f"recall of {SECOND} of version 7, run 01234567"),
    ],
)  # fmt: skip
def test_a_score_below_its_floor_is_a_finding(store: Engine, floors: Floors, subject: str) -> None:
    """With value, upper end and floor, for the last day of the period; a score above its floor, or a reason for none, is not."""
    bad, good = week(right(0.6), unlabelled=5), week(right(0.9))
    assert found(store, [good], floors) == ()
    off = Disabled(disabled=True, reason="as long as the labels are wrong")
    without = NONE.model_copy(update={"accuracy": off, "macro_f1": off, "recall": dict.fromkeys(CONTRACT.classes, off)})
    assert found(store, [bad], without) == ()
    [one] = found(store, [bad], floors)
    assert (one.new, one.kind, one.subject, one.day) == (True, "performance", subject, bad.last_day)
    evidence = one.evidence
    assert evidence["value"] == pytest.approx(0.6)
    assert evidence["value"] < evidence["upper_end"] < evidence["floor"]
    assert evidence["labelled"] == (100 if "recall" in subject else 300)
    assert evidence["predictions"] == 305


def test_chance_is_no_finding(store: Engine) -> None:
    """Neither a score a little below its floor, nor few rows, however wrong they are."""
    floors = Floors(accuracy=0.7, macro_f1=0.7, recall=dict.fromkeys(CONTRACT.classes, 0.7))
    few = [[0, 0, 0], [0, 0, 0], [FEWEST - 1, 0, 0]]
    assert found(store, [week(right(0.66)), week(few, version="8")], floors) == ()
    rare = [[100, 0, 0], [2, 0, 0], [0, 0, 100]]  # both rows of a class are wrong, which makes its recall and its F1 0
    assert found(store, [week(rare)], floors) == ()


def test_the_interval_of_a_score_covers_as_often_as_it_says(store: Engine) -> None:
    """Of models that are exactly at their floors, hardly more than one in forty is found, for each of the scores."""
    generator = np.random.default_rng(3)
    shares = np.array(right(0.7, rows=100)) / 300
    truth = float(macro_f1(shares))
    floors = Floors(accuracy=0.7, macro_f1=truth, recall=dict.fromkeys(CONTRACT.classes, 0.7))
    rows = [
        week(generator.multinomial(300, shares.ravel()).reshape(3, 3).tolist(), version=str(at)) for at in range(200)
    ]
    made = found(store, rows, floors)
    for score in ("accuracy", "macro F1", *(f"recall of {name}" for name in CONTRACT.classes)):
        assert sum(each.subject.startswith(score) for each in made) <= 13, score  # of 200: 5 expected, P(> 13) < 0.001


def test_the_newest_period_of_each_model_is_judged(store: Engine) -> None:
    """A model that has recovered raises nothing; what was closed is not raised again by the weeks before."""
    floors = NONE.model_copy(update={"accuracy": 0.7})
    bad, good = right(0.5), right(0.9)
    rows = [week(bad, back=3), week(good, back=2), week(bad, back=2, version="8"), week([[1, 0, 0]] * 3, version="8")]
    [one] = found(store, rows, floors)
    assert (one.subject, one.day) == ("accuracy of version 8, run 01234567", rows[2].last_day)
    close_finding(store, CONTRACT, one.id, reason="a broken sensor", by="ann", day=DAY)
    assert [each.id for each in found(store, rows, floors)] == [one.id]
    assert list_findings(store, CONTRACT) == ()


def test_the_fewest_rows_are_enough(store: Engine) -> None:
    """Of a period for its accuracy, and of each class for its recall and for the macro F1."""
    floors = Floors(accuracy=0.9, macro_f1=0.9, recall={FIRST: 0.9, SECOND: 1e-9, THIRD: 1e-9})
    rare = [[0, FEWEST_OF_CLASS, 0], [0, FEWEST_OF_CLASS, 0], [0, FEWEST - 2 * FEWEST_OF_CLASS, 0]]
    names = [each.subject.partition(" of version")[0] for each in found(store, [week(rare)], floors)]
    assert names == ["accuracy", "macro F1", f"recall of {FIRST}"]


def test_a_score_whose_interval_ends_at_its_floor_is_no_finding(store: Engine) -> None:
    """It may be as good as it has to be."""
    row = week(right(0.6))
    ends: dict[str, float | Disabled] = {name: (row.recall_interval[name] or (0, 0))[1] for name in CONTRACT.classes}
    floors = Floors(accuracy=row.accuracy_high or 0, macro_f1=row.macro_f1_high or 0, recall=ends)
    assert found(store, [row], floors) == ()


def test_a_model_whose_run_is_not_known_is_named_by_its_version(store: Engine) -> None:
    """Predictions of earlier releases do not name the training run."""
    row = replace(week(right(0.5)), run_id="")
    [one] = found(store, [row], NONE.model_copy(update={"accuracy": 0.7}))
    assert one.subject == "accuracy of version 7"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([week([[0] * 3] * 3, back=5, unlabelled=FEWEST)], 1),
        ([week([[0] * 3] * 3, back=5, unlabelled=FEWEST - 1)], 0),
        ([week([[0] * 3] * 3, back=4, unlabelled=500)], 0),  # they may still come
        ([week([[1, 0, 0], [0] * 3, [0] * 3], back=5, unlabelled=500)], 0),
    ],
    ids=["none in time", "few predictions", "early", "some"],
)
def test_labels_that_stay_away_are_a_finding(store: Engine, rows: list[Performance], expected: int) -> None:
    """Once the predictions are four weeks old, and enough; one label is a sign that they come."""
    made = found(store, rows, NONE)
    assert [(each.kind, each.subject, each.day) for each in made] == [
        ("labels", "labels of predictions", "2025-09-08")
    ] * expected
    assert [each.evidence for each in made] == [{"predictions": FEWEST, "labelled": 0, "days": 28}] * expected


@pytest.mark.slow
def test_without_a_group_no_labels_are_missed(tmp_path: Path) -> None:
    """Where requests do not say which row they are about, no label is ever known."""
    write_instance(BARE, tmp_path / "contracts")
    bare = load_instance(tmp_path / "contracts").contract
    store = connect(f"sqlite:///{tmp_path / 'bare.db'}")
    build_tables(bare).metadata.create_all(store)
    row = replace(week([[0] * 3] * 3, back=5, unlabelled=500), recall={}, confusion=[])
    assert raise_findings(store, bare, [row], NONE, DAY) == ()
    store.dispose()
