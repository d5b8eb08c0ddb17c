"""The statistics of monitoring against scipy's, and against samples whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest, chi2, entropy, fisher_exact, multinomial

from ctcd.model.metrics import macro_f1
from ctcd.model.reference import effective_rows
from ctcd.monitoring import formulas

HISTOGRAMS = arrays(np.int64, 6, elements=st.integers(0, 10_000)).filter(np.any)
EIGHTHS = np.array([0.05, 0.1, 0.1, 0.25, 0.3, 0.2])


@given(HISTOGRAMS, HISTOGRAMS)
def test_the_distances_are_those_of_scipy(one: np.ndarray, other: np.ndarray) -> None:
    """The Jensen-Shannon distance is scipy's; the PSI is the sum of both relative entropies, with half a row more in each bin."""
    assert formulas.js_distance(one, other) == pytest.approx(jensenshannon(one, other), abs=1e-7)
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (one, other))
    assert formulas.psi(one, other) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-9)


@pytest.mark.parametrize("bins", [2, 10, 40])
@pytest.mark.parametrize("probability", [0.05, 1e-5])
def test_the_quantile_is_that_of_chi_square(bins: int, probability: float) -> None:
    """With one degree of freedom less than there are bins."""
    assert formulas.quantile(probability, bins) == pytest.approx(chi2.isf(probability, bins - 1))


@pytest.mark.parametrize(("rows", "reference"), [(300, 300), (300, 20_000), (20_000, 500)])
def test_samples_of_one_distribution_exceed_the_limit_as_rarely_as_it_says(rows: int, reference: int) -> None:
    """Whatever the sizes of both: the limit holds for a small sample beside a large reference, and the other way round."""
    random = np.random.default_rng(7)
    limit = formulas.js_limit(0.02, len(EIGHTHS), rows, reference)
    pairs = zip(random.multinomial(rows, EIGHTHS, 5_000), random.multinomial(reference, EIGHTHS, 5_000), strict=True)
    beyond = sum(formulas.js_distance(*pair) > limit for pair in pairs)
    assert binomtest(beyond, 5_000, 0.02).pvalue > 1e-4


@pytest.mark.parametrize("probability", [1e-3, 1e-5])
@pytest.mark.parametrize("rows", [250, 500])
def test_the_rarest_bins_exceed_the_limit_no_more_often_than_given(rows: int, probability: float) -> None:
    """Of three bins, two with the least share, against a reference of any size: exactly, by adding up all outcomes."""
    infinite = 1e12
    rare = formulas.least_share(probability, rows, infinite)
    truth = np.array([rare, rare, 1 - 2 * rare])
    one, two = (each.ravel() for each in np.indices((rows + 1, rows + 1)))
    outcomes = np.stack([one, two, rows - one - two], axis=1)[one + two <= rows]
    chances = multinomial.pmf(outcomes, rows, truth)
    assert chances.sum() == pytest.approx(1.0)
    limit = formulas.js_limit(formulas.careful(probability), 3, rows, infinite)
    beyond = jensenshannon(outcomes.T, truth[:, None], axis=0) > limit
    assert 0 < chances[beyond].sum() <= probability


@given(st.floats(1e-6, 0.1), st.floats(100, 1e6), st.floats(100, 1e6))
def test_a_bin_of_the_least_share_is_empty_hardly_ever(probability: float, rows: float, other: float) -> None:
    """With the square of the probability, e^-E for E expected rows, in the smaller of both samples."""
    share = formulas.least_share(probability, rows, other)
    assert math.exp(-share * min(rows, other)) == pytest.approx(probability**2)


@given(st.integers(1, 60), st.integers(1, 90), st.data())
def test_two_shares_are_compared_by_the_exact_test_of_fisher(
    rows: int, reference_rows: int, data: st.DataObject
) -> None:
    """The probability is twice that of the smaller tail, as scipy computes it."""
    part, reference_part = data.draw(st.integers(0, rows)), data.draw(st.integers(0, reference_rows))
    cells = [[part, rows - part], [reference_part, reference_rows - reference_part]]
    tails = [fisher_exact(cells, alternative=side).pvalue for side in ("less", "greater")]
    expected = min(1.0, 2 * min(tails))
    assert formulas.share_chance(part, rows, reference_part, reference_rows) == pytest.approx(expected, abs=1e-9)


def test_half_a_row_is_no_evidence() -> None:
    """Effective rows need not be whole numbers: shares are rounded towards each other."""
    assert formulas.share_chance(3.7, 300.5, 0.4, 900.2) == formulas.share_chance(3, 300, 1, 900)
    assert formulas.share_chance(0.4, 300.0, 90.6, 900.0) == formulas.share_chance(1, 300, 90, 900)
    assert formulas.share_chance(0.3, 0.6, 90.0, 900.0) == 1


def test_bins_that_are_too_small_are_judged_as_one() -> None:
    """The rarest of the reference become one, with the next one if they are too few; the most frequent one stays alone."""
    now, then = (5, 1, 60, 2, 32), (3, 3, 60, 2, 32)
    assert [each.tolist() for each in formulas.pooled(now, then, 0.05)] == [[8, 32, 60], [8, 32, 60]]
    assert [each.tolist() for each in formulas.pooled(now, then, 0.1)] == [[40, 60], [40, 60]]
    assert [each.tolist() for each in formulas.pooled(now, then, 2.0)] == [[40, 60], [40, 60]]
    assert [each.tolist() for each in formulas.pooled(now, then, 0.01)] == [list(now), list(then)]
    assert [each.tolist() for each in formulas.pooled((0, 0, 7), (0, 9, 0), 0.1)] == [[7, 0], [0, 9]]


def test_rows_of_a_group_that_are_alike_count_once() -> None:
    """100 groups of 5 equal rows say as much as 100 rows; one group of 500 as much as one; without rows nothing is said."""
    assert effective_rows(500, 100 * 5**2) == 100
    assert effective_rows(500, 500**2) == 1
    assert effective_rows(500, 500) == 500
    assert effective_rows(0, 0) == 0
    # A limit for that many rows is kept by rows that come in groups.
    random = np.random.default_rng(3)
    limit = formulas.js_limit(0.02, len(EIGHTHS), 200, 200)
    samples = [random.multinomial(200, EIGHTHS, 4_000) * 5 for _ in range(2)]
    beyond = sum(formulas.js_distance(*pair) > limit for pair in zip(*samples, strict=True))
    assert binomtest(beyond, 4_000, 0.02).pvalue > 1e-4


def test_the_false_alarms_of_a_year_are_divided_by_all_checks() -> None:
    """Twice as many columns or looks halve the level of each."""
    assert formulas.level(2.0, 50, 400) == 2.0 / 20_000
    assert formulas.level(2.0, 0, 400) == 2.0 / 400


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (10, 10), (3, 10), (700, 1_000)])
def test_the_interval_of_a_share_is_that_of_wilson(hits: int, rows: int) -> None:
    """As scipy computes it."""
    expected = binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    assert formulas.wilson(hits / rows, rows, 0.95) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_share_ends_at_0_and_1() -> None:
    """Whatever rounding makes of the ends of shares of 0 and 1."""
    ends = [formulas.wilson(share, rows, 0.95) for share in (0.0, 1.0) for rows in range(1, 500)]
    assert all(0 <= low < high <= 1 for low, high in ends)


def test_the_interval_of_macro_f1_covers_the_truth_as_often_as_it_says() -> None:
    """In 95 % of many samples of a known confusion matrix; twice as many rows make it narrower by the square root of two."""
    truth = np.array([[0.2, 0.05, 0.02], [0.06, 0.35, 0.04], [0.02, 0.06, 0.2]])
    score = float(macro_f1(truth))
    random = np.random.default_rng(1)
    samples = random.multinomial(400, truth.ravel(), 3_000).reshape(-1, 3, 3)
    inside = sum(
        low <= score <= high for low, high in (formulas.macro_f1_interval(each, 400, 0.95) for each in samples)
    )
    assert 0.935 < inside / 3_000 < 0.965
    widths = [np.diff(formulas.macro_f1_interval(truth, rows, 0.95)) for rows in (400, 800)]
    assert widths[0] / widths[1] == pytest.approx(2**0.5)


@pytest.mark.parametrize("counts", [[[50, 5, 1], [20, 30, 2], [3, 4, 90]], [[8, 2, 0], [1, 9, 0], [0, 0, 0]]])
def test_the_interval_of_macro_f1_is_that_of_the_delta_method(counts: list[list[int]]) -> None:
    """Its width follows from how the score changes with each cell, here by finite differences; it ends at 0 and 1."""
    cells = np.array(counts) / np.sum(counts)

    def score(shares: NDArray[np.float64]) -> float:
        both = shares.sum(axis=0) + shares.sum(axis=1)
        return float(
            np.mean([2 * hit / each if each else 0.0 for hit, each in zip(np.diag(shares), both, strict=True)])
        )

    step = 1e-6
    slopes = [
        (score(cells + step * cell) - score(cells - step * cell)) / (2 * step) for cell in np.eye(9).reshape(9, 3, 3)
    ]
    width = 1.959964 * math.sqrt((cells.ravel() * np.square(slopes)).sum() / 200)
    found = formulas.macro_f1_interval(np.array(counts), 200, 0.95)
    assert found == pytest.approx((score(cells) - width, score(cells) + width), rel=1e-5)
    assert formulas.macro_f1_interval(np.array([[999, 1], [0, 2]]), 20, 0.95)[1] == 1.0
