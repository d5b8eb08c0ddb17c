"""The statistics of monitoring: distances of two samples, their distribution under chance, and intervals of scores.

Counts are arrays of shape (bins,). Rows of one group are not independent, so sample sizes are effective numbers of
rows, which need not be integers.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


def level(allowed: float, checks: int, looks: int) -> float:
    """Return the probability of a false alarm of each check for which there are `allowed` false alarms in a year.

    Bonferroni: expected values add up even if the checks are dependent, so `checks` with this level in each of `looks`
    give `allowed` false alarms in a year on average, if nothing ever drifts.
    """
    return allowed / (max(checks, 1) * looks)


def shares(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the shares of counts, of which at least one is not 0; shape (bins,)."""
    table = np.asarray(counts)
    result: NDArray[np.float64] = table / table.sum()
    return result


def psi(current: ArrayLike, reference: ArrayLike) -> float:
    """Return the population stability index of two histograms, sum of (p - q) ln(p / q); 0 if they agree.

    Siddiqi (2006), chapter 8 of his book on risk scorecards, Wiley; it is the symmetric divergence of Jeffreys (1946).
    By custom less than 0.1 is no change and more than 0.25 a large one. Half a row is added to each bin, so that an
    empty one has a logarithm.
    """
    p, q = (shares(np.asarray(counts) + 0.5) for counts in (current, reference))
    return float(((p - q) * np.log(p / q)).sum())


def js_distance(current: ArrayLike, reference: ArrayLike) -> float:
    """Return the Jensen-Shannon distance of two histograms: 0 if their shares agree, at most sqrt(ln 2) = 0.83.

    Lin (1991), Divergence Measures Based on the Shannon Entropy, IEEE Trans. Inf. Theory 37; its square root is a
    metric (Endres and Schindelin, 2003). Logarithms are natural, as in `scipy.spatial.distance.jensenshannon`.
    """
    from scipy.special import rel_entr

    p, q = shares(current), shares(reference)
    middle = (p + q) / 2
    # Rounding may give a sum below 0, of which `scipy.spatial.distance.jensenshannon` has no root.
    return math.sqrt(max(0.0, float((rel_entr(p, middle) + rel_entr(q, middle)).sum()) / 2))


def js_limit(probability: float, bins: int, rows: float, reference_rows: float) -> float:
    """Return the Jensen-Shannon distance that two samples of one distribution exceed with a probability.

    For small distances 8 JS^2 is the chi-square distance of the shares, so 8 JS^2 / (1/n + 1/m) has the distribution of
    Pearson's statistic of homogeneity: chi-square with bins - 1 degrees of freedom (Pardo (2006), Statistical Inference
    Based on Divergence Measures, section 3.4; Yurdakul and Naranjo (2020), Statistical Properties of the Population
    Stability Index, J. Risk Model Validation 14, show the same of the PSI). The reference is a sample too, whose size
    counts as much as that of the other.

    Args:
        probability: 0 to 1.
        bins: number of bins, at least 2.
        rows: effective rows of the sample.
        reference_rows: effective rows of the reference.
    """
    return math.sqrt(quantile(probability, bins) * (1 / rows + 1 / reference_rows) / 8)


def least_share(probability: float, rows: float, reference_rows: float) -> float:
    """Return the smallest share of a bin, 0 to 1, for which `careful` holds; it may be more than 1.

    That is 2 ln(1 / probability) rows in the smaller sample. An empty bin, which has a probability of e^-E if E rows
    are expected, adds more to JS than to the chi-square distance, and must not be what exceeds the limit.
    """
    return 2 * math.log(1 / probability) / min(rows, reference_rows)


def careful(probability: float) -> float:
    """Return the probability to ask `js_limit` for so that a distance exceeds the limit no more often than given.

    Where the rarest bins have just the `least_share`, it has to be up to 5.7 times smaller, as the tail is heavier than
    that of chi-square: measured by adding up all outcomes of three bins for samples of 250 to 1,000 rows, a reference
    without chance of its own, and probabilities of 0.001 to 0.00001. The smaller the probability is, the heavier is the
    tail.
    """
    return probability / 6


def pooled(current: ArrayLike, reference: ArrayLike, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two histograms with the rarest bins of the reference, below a share of it, as one; shapes (fewer bins,).

    The next one joins them if they are together below the share, too. The most frequent one stays alone.
    """
    now, then = np.asarray(current), np.asarray(reference)
    order = np.argsort(then, kind="stable")
    small = int((then < least * then.sum()).sum())
    small += bool(small) and then[order[:small]].sum() < least * then.sum()
    small = min(small, len(then) - 1)
    if small < 2:
        return now, then
    one, two = (np.concatenate([[each[order[:small]].sum()], each[order[small:]]]) for each in (now, then))
    return one, two


def share_chance(part: float, rows: float, reference_part: float, reference_rows: float) -> float:
    """Return how probable it is, 0 to 1, that two samples of one distribution have shares at least so far apart.

    Fisher's exact test (Fisher (1935), The Logic of Inductive Inference, J. Royal Statistical Society 98), twice the
    smaller tail. Unlike a limit from chi-square it holds for any share. It takes whole rows: effective ones are rounded
    so that the shares come closer to each other.

    Args:
        part: rows of the share.
        rows: all rows.
        reference_part: rows of the share in the reference.
        reference_rows: all rows of the reference.
    """
    from scipy.stats import hypergeom

    def down(number: float) -> int:
        return math.floor(round(number, 6))

    def up(number: float) -> int:
        return math.ceil(round(number, 6))

    whole, reference_whole = down(rows), down(reference_rows)
    more = part * reference_rows > reference_part * rows
    here, there = (down(part), up(reference_part)) if more else (up(part), down(reference_part))
    here, there = min(here, whole), min(there, reference_whole)
    shape = whole + reference_whole, here + there, whole
    return min(1.0, 2 * float(min(hypergeom.cdf(here, *shape), hypergeom.sf(here - 1, *shape))))


def quantile(probability: float, bins: int) -> float:
    """Return what a chi-square variable with `bins - 1` degrees of freedom exceeds with a probability."""
    from scipy.special import chdtri

    return float(chdtri(bins - 1, probability))


def wilson(share: float, rows: float, confidence: float) -> tuple[float, float]:
    """Return the interval of a share, 0 to 1, of which `rows` effective rows were seen.

    Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference, JASA 22.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    width = z * math.sqrt(share * (1 - share) / rows + (z / rows) ** 2 / 4)
    middle, scale = share + z * z / (2 * rows), 1 + z * z / rows
    return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


def macro_f1_interval(confusion: NDArray[np.generic], rows: float, confidence: float) -> tuple[float, float]:
    """Return the interval of the macro F1 of a confusion matrix of which `rows` effective rows were seen.

    Takahashi, Yamamoto, Kuchiba and Koyama (2022), Confidence Interval for Micro-Averaged F1 and Macro-Averaged F1
    Scores, Applied Intelligence 52: the delta method on the shares of a multinomial distribution.

    Args:
        confusion: counts of shape (classes, classes), rows are true classes, columns predicted ones.
        rows: effective rows.
        confidence: 0 to 1.
    """
    cells = shares(confusion)
    both = cells.sum(axis=0) + cells.sum(axis=1)
    # The F1 of a class that is neither true nor predicted is 0, and stays 0.
    known = np.where(both > 0, both, np.inf)
    hits = np.diag(cells)
    loss = 2 * hits / known**2
    # The F1 of class k is 2 p_kk / (row k + column k).
    slope = (np.diag(2 / known) - loss[:, None] - loss[None, :]) / len(cells)
    # The mean slope is 0, because the F1 does not change if all cells grow by the same factor (Euler).
    variance = float((cells * slope**2).sum()) / rows
    width = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    score = float((2 * hits / known).mean())
    return max(0.0, score - width), min(1.0, score + width)
