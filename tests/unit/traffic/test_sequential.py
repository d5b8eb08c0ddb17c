"""Intervals that hold at every look: held to what they promise by exact sums and by simulation."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from ctcd.monitoring.formulas import wilson
from ctcd.traffic.sequential import log_mixture, ranks, share_interval

SEQUENCES, LENGTH = 2_000, 2_000
LOOKS = sorted({round(1.12**power) for power in range(10, 68)})
ERROR = 0.1


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("rows", [1, 2, 10, 60])
def test_the_mixture_has_an_expectation_of_one(share: float, rows: int) -> None:
    """Added up over all outcomes of the true share: what Ville's inequality takes to bound all looks together."""
    counts = np.arange(rows + 1)
    ratios = [math.exp(log_mixture(int(count), rows, share)) for count in counts]
    assert np.dot(binom.pmf(counts, rows, share), ratios) == pytest.approx(1.0, abs=1e-9)


def test_the_mixture_is_a_martingale() -> None:
    """Whatever was seen, the next row leaves its expectation where it was, so one may stop at any time."""
    for successes, rows in [(0, 0), (3, 7), (40, 50), (2.5, 9.5)]:
        now = math.exp(log_mixture(successes, rows, 0.3))
        hit, miss = (math.exp(log_mixture(successes + more, rows + 1, 0.3)) for more in (1, 0))
        assert 0.3 * hit + 0.7 * miss == pytest.approx(now)
        half = math.exp(log_mixture(successes + 0.5, rows + 1, 0.5))  # a value between 0 and 1 of the same mean
        assert half <= math.exp(log_mixture(successes, rows, 0.5)) * (1 + 1e-9)


def ever_missed(truth: float, interval: Callable[[int, int], tuple[float, float]]) -> float:
    """Return the share of sequences in which the interval misses the true share at one of the looks, at least."""
    random = np.random.default_rng(20_251_126)
    counts = (random.random((SEQUENCES, LENGTH)) < truth).cumsum(axis=1)[:, [look - 1 for look in LOOKS]]
    found = cache(interval)
    misses = 0
    for sequence in counts.tolist():
        ends = (found(count, look) for count, look in zip(sequence, LOOKS, strict=True))
        misses += any(not low <= truth <= high for low, high in ends)
    return misses / SEQUENCES


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.02, 0.3])
def test_the_interval_of_a_share_holds_at_every_look(truth: float) -> None:
    """It misses the true share in no more sequences than promised, where an interval of a fixed sample misses often."""
    assert ever_missed(truth, lambda count, rows: share_interval(count, rows, ERROR)) <= ERROR
    assert ever_missed(truth, lambda count, rows: wilson(count / rows, rows, 1 - ERROR)) > 3 * ERROR


def test_the_interval_of_a_share_is_where_the_mixture_says() -> None:
    """Its ends are the shares that explain what was seen just well enough, on both sides of what was seen."""
    low, high = share_interval(30, 100, 0.01)
    assert low < 0.3 < high
    assert [log_mixture(30, 100, end) for end in (low, high)] == pytest.approx([math.log(100)] * 2)


@pytest.mark.parametrize(("successes", "end"), [(0, 0), (50, 1)])
def test_a_share_of_none_or_all_has_one_end(successes: int, end: int) -> None:
    """Without a success the interval begins at 0, without a failure it ends at 1."""
    ends = share_interval(successes, 50, 0.01)
    assert ends[end] == end
    assert 0.05 < abs(ends[1 - end] - end) < 0.25


def test_nothing_seen_says_nothing() -> None:
    """Without rows, a share is between 0 and 1, and so is the rank of a quantile."""
    assert share_interval(0, 0, 0.01) == ranks(0.5, 0, 0.01) == (0.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_ranks_of_a_quantile_hold_at_every_look(share: float) -> None:
    """The share of values below the true quantile leaves its range in no more sequences than promised."""
    inside = cache(lambda rows: ranks(share, rows, ERROR))
    random = np.random.default_rng(7)
    below = (random.random((SEQUENCES, LENGTH)) < share).cumsum(axis=1)
    missed = np.zeros(SEQUENCES, bool)
    for look in LOOKS:
        low, high = inside(look)
        seen = below[:, look - 1] / look
        missed |= (seen < low) | (seen > high)
    assert missed.mean() <= ERROR


def test_a_few_values_do_not_bound_a_high_quantile() -> None:
    """The largest of ten values may be below the 95th percentile, so there is no upper end."""
    low, high = ranks(0.95, 10, 0.01)
    assert low < 0.8
    assert high == 1.0
