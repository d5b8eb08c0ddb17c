import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from ctcd.promotion.bootstrap import BLOCK_CELLS, SEED, intervals, paired_difference

Indices = NDArray[np.intp]


def noisy(truth: Indices, hit: float, seed: int) -> Indices:
    random = np.random.default_rng(seed)
    return np.where(random.random(len(truth)) < hit, truth, random.integers(3, size=len(truth)))


def draw(rows: int) -> Indices:
    return np.random.default_rng(0).integers(3, size=rows)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_interval_is_that_of_resampling_row_by_row(metric: str) -> None:
    """The vectorised interval is exactly that of a plain loop that copies each drawn group's rows."""
    truth, groups = draw(60), np.arange(60) // 3
    a, b = noisy(truth, 0.7, 1), noisy(truth, 0.5, 2)

    def score(rows: Indices, predicted: Indices) -> float:
        if metric == "accuracy":
            return float(accuracy_score(truth[rows], predicted[rows]))
        return float(f1_score(truth[rows], predicted[rows], average="macro", labels=[0, 1, 2], zero_division=0.0))

    random = np.random.default_rng(7)
    differences = []
    for drawn in random.integers(20, size=(200, 20)):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        differences.append(score(rows, a) - score(rows, b))
    found = paired_difference(truth, a, b, groups, classes=3, metric=metric, confidence=0.9, resamples=200, seed=7)
    everything = np.arange(60)
    assert found.point == pytest.approx(score(everything, a) - score(everything, b))
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(differences, [0.05, 0.95])))
    assert found.groups == 20


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampling in small blocks gives the same interval."""
    truth = draw(300)
    arguments = (truth, noisy(truth, 0.7, 1), noisy(truth, 0.6, 2), np.arange(300))

    def interval() -> tuple[float, float]:
        found = paired_difference(*arguments, classes=3, metric="macro_f1", confidence=0.95, resamples=250, seed=3)
        return found.lower, found.upper

    whole = interval()
    assert BLOCK_CELLS > 250 * 300
    monkeypatch.setattr("ctcd.promotion.bootstrap.BLOCK_CELLS", 3_000)
    assert interval() == whole


@pytest.mark.slow
def test_intervals_of_scores_are_those_of_resampling_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy, macro F1 and each recall have the middle 95 percent of a plain loop; a class that does not occur has none."""
    monkeypatch.setattr("ctcd.promotion.bootstrap.RESAMPLES", 100)
    truth, groups = draw(90), np.arange(90) // 3
    predicted = noisy(truth, 0.6, 1)

    def scored(rows: Indices) -> list[float]:
        right = truth[rows] == predicted[rows]
        of_class = [float(right[truth[rows] == each].mean()) for each in range(3)]
        # The fourth class occurs neither in the truth nor in the answers, and counts as missed.
        f1 = f1_score(truth[rows], predicted[rows], average="macro", labels=[0, 1, 2, 3], zero_division=0.0)
        return [float(right.mean()), float(f1), *of_class]

    random = np.random.default_rng(SEED)
    drawn = [
        scored(np.concatenate([np.flatnonzero(groups == group) for group in of_groups]))
        for of_groups in random.integers(30, size=(100, 30))
    ]
    *found, absent = intervals(truth, predicted, groups, classes=4)
    assert [each.point for each in found] == pytest.approx(scored(np.arange(90)))
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert [(each.lower, each.upper) for each in found] == [pytest.approx(tuple(pair)) for pair in ends.T]
    assert all(isinstance(each, float) and np.isnan(each) for each in (absent.point, absent.lower, absent.upper))


@pytest.mark.slow
def test_many_groups_of_many_classes_need_little_memory() -> None:
    """What is held follows the rows: not a table of all classes for each group, of which most cells are empty."""
    random = np.random.default_rng(0)
    truth, groups = np.arange(4_000) % 100, np.arange(4_000) // 2
    predicted = np.where(random.random(4_000) < 0.7, truth, random.integers(100, size=4_000))
    tracemalloc.start()
    try:
        intervals(truth, predicted, groups, classes=100)
        paired_difference(
            truth, predicted, truth, groups, classes=100, metric="macro_f1", confidence=0.95, resamples=200, seed=1
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


def test_rows_of_one_group_do_not_count_as_many() -> None:
    """Copying every row ten times within its group does not change the interval."""
    truth = draw(200)
    a, b = noisy(truth, 0.8, 1), noisy(truth, 0.6, 2)
    once = paired_difference(
        truth, a, b, np.arange(200), classes=3, metric="accuracy", confidence=0.95, resamples=500, seed=1
    )
    tenfold = paired_difference(
        *(np.repeat(values, 10) for values in (truth, a, b, np.arange(200))),
        classes=3,
        metric="accuracy",
        confidence=0.95,
        resamples=500,
        seed=1,
    )
    assert (tenfold.lower, tenfold.upper) == pytest.approx((once.lower, once.upper))


def test_pairing_narrows_the_interval() -> None:
    """The interval is narrower for two models that err on the same rows than for two that err on different ones."""
    truth = draw(2_000)
    base = noisy(truth, 0.7, 1)
    close = np.where(np.arange(2_000) % 50 == 0, truth, base)
    widths = []
    for other in (close, noisy(truth, 0.7, 9)):
        found = paired_difference(
            truth, other, base, np.arange(2_000), classes=3, metric="accuracy", confidence=0.95, resamples=300, seed=1
        )
        widths.append(found.upper - found.lower)
    assert widths[0] < widths[1] / 3
