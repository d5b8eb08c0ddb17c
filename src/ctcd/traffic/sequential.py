"""Confidence sequences: intervals that are valid at any number of looks, at any time.

A fixed-sample interval, such as Wilson's, has its error probability at each single look: repeated testing that stops at
the first alarm sooner or later raises a false one. A confidence sequence contains the true value at all times
simultaneously with the stated probability, so a test based on it may be repeated and stopped at any time.
"""

import math
from collections.abc import Callable

_STEPS = 60
"""Bisection steps: more than the bits of precision of a double."""


def log_mixture(successes: float, rows: float, share: float) -> float:
    """Return the log likelihood ratio of a mixture over all shares and a single share.

    If the share is the true one, that is the logarithm of a nonnegative supermartingale that starts at 1, so by Ville's
    inequality it ever reaches ln(1 / a) with a probability of at most a. The mixture is Beta(1/2, 1/2), which is at
    most about ln(rows) / 2 behind the best share (Krichevsky and Trofimov (1981), The Performance of Universal
    Encoding, IEEE Trans. Inf. Theory 27). Robbins (1970), Statistical Methods Related to the Law of the Iterated
    Logarithm, Ann. Math. Statist. 41; Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, Nonparametric,
    Nonasymptotic Confidence Sequences, Ann. Statist. 49, the beta-binomial mixture. It also holds for the mean of any
    values between 0 and 1.

    Args:
        successes: number of successes, at most `rows`; not necessarily an integer, because rows may be effective ones.
        rows: number of trials.
        share: probability of a success, strictly between 0 and 1.
    """
    failures = rows - successes
    mixed = math.lgamma(successes + 0.5) + math.lgamma(failures + 0.5) - math.lgamma(rows + 1) - math.log(math.pi)
    return mixed - successes * math.log(share) - failures * math.log1p(-share)


def share_interval(successes: float, rows: float, error: float) -> tuple[float, float]:
    """Return the ends, 0 to 1, of an interval with the true share in it at all looks, except with probability `error`.

    Args:
        successes: number of successes; see `log_mixture`.
        rows: number of trials; 0 gives the interval 0 to 1.
        error: strictly between 0 and 1, for both ends and all looks together.
    """
    limit = math.log(1 / error)

    def explained(share: float) -> bool:
        return log_mixture(successes, rows, share) < limit

    if not rows:
        return 0.0, 1.0
    seen = min(max(successes / rows, 1e-12), 1 - 1e-12)
    low = 0.0 if not successes else _edge(seen, 0.0, explained)
    high = 1.0 if successes >= rows else _edge(seen, 1.0, explained)
    return low, high


def ranks(share: float, rows: float, error: float) -> tuple[float, float]:
    """Return the smallest and largest share of a sample below a quantile at any look, except with probability `error`.

    The quantile therefore lies between the sorted values at these ranks: the confidence sequence of Howard and Ramdas
    (2022), Sequential Estimation of Quantiles with Applications to A/B Testing and Best-arm Identification, Bernoulli
    28.

    Args:
        share: of the quantile, strictly between 0 and 1; 0.5 is the median.
        rows: number of rows, which may be effective ones; 0 gives 0 and 1.
        error: strictly between 0 and 1.
    """
    limit = math.log(1 / error)

    def explained(seen: float) -> bool:
        return log_mixture(seen * rows, rows, share) < limit

    if not rows:
        return 0.0, 1.0
    low = 0.0 if explained(0.0) else _edge(share, 0.0, explained)
    high = 1.0 if explained(1.0) else _edge(share, 1.0, explained)
    return low, high


def _edge(inside: float, outside: float, explained: Callable[[float], bool]) -> float:
    """Return the boundary between a share that is explained and one that is not, by bisection."""
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if explained(middle):
            inside = middle
        else:
            outside = middle
    return outside
