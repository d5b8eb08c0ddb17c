"""Confidence sequences: intervals that hold at every look, however often and whenever one looks.

An interval of a fixed sample, such as Wilson's, is wrong with its probability at each look: who looks after every answer, and
stops at the first alarm, sees one sooner or later. These intervals contain what they are about at all times together, with
their probability, so a test by them may be looked at, and ended, at any time.
"""

import math
from collections.abc import Callable

_STEPS = 60
"""Halvings of an interval: more than a double has bits of precision."""


def log_mixture(successes: float, rows: float, share: float) -> float:
    """Return the logarithm of how much better a mixture of all shares explains what was seen than one share does.

    Where the share is the true one, that is the logarithm of a nonnegative supermartingale that begins at 1, so by Ville's
    inequality it is ever at least ln(1 / a) with a probability of at most a. The mixture is Beta(1/2, 1/2), which is at
    most about ln(rows) / 2 behind the best share (Krichevsky and Trofimov (1981), The Performance of Universal Encoding,
    IEEE Trans. Inf. Theory 27). Robbins (1970), Statistical Methods Related to the Law of the Iterated Logarithm, Ann.
    Math. Statist. 41; Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, Nonparametric, Nonasymptotic Confidence
    Sequences, Ann. Statist. 49, the beta-binomial mixture. It holds for any values from 0 to 1 of that mean, too.

    Args:
        successes: rows with what is counted, at most `rows`; rows may be effective ones, so it need not be whole.
        rows: all rows.
        share: from 0 to 1, both excluded.
    """
    failures = rows - successes
    mixed = math.lgamma(successes + 0.5) + math.lgamma(failures + 0.5) - math.lgamma(rows + 1) - math.log(math.pi)
    return mixed - successes * math.log(share) - failures * math.log1p(-share)


def share_interval(successes: float, rows: float, error: float) -> tuple[float, float]:
    """Return the ends, 0 to 1, of the interval that always contains the true share, but for a probability of `error`.

    Args:
        successes: rows with what is counted; see `log_mixture`.
        rows: all rows; 0 gives the interval 0 to 1.
        error: above 0, below 1: of both ends and all looks together.
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
    """Return the least and largest share of a sample that lies below a quantile, but for a probability of `error`, ever.

    So the quantile is always between the sorted values at these ranks: the confidence sequence of Howard and Ramdas
    (2022), Sequential Estimation of Quantiles with Applications to A/B Testing and Best-arm Identification, Bernoulli 28.

    Args:
        share: of the quantile, 0 to 1, both excluded: 0.5 is the median.
        rows: rows, or effective ones; 0 gives 0 and 1.
        error: above 0, below 1.
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
    """Return where, between two shares of which the first is explained and the second is not, that changes."""
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if explained(middle):
            inside = middle
        else:
            outside = middle
    return outside
