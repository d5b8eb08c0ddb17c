"""Bootstrap confidence interval of the difference between two models."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctcd.model.metrics import macro_f1

Metric = Callable[[NDArray[np.generic]], NDArray[np.float64]]
Indices = NDArray[np.intp]

BLOCK_CELLS = 2_000_000
"""Random numbers drawn at once, which bounds the memory."""


def _accuracy(confusion: NDArray[np.generic]) -> NDArray[np.float64]:
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(hits / confusion.sum(axis=(-2, -1)), dtype=np.float64)


METRICS: dict[str, Metric] = {"macro_f1": macro_f1, "accuracy": _accuracy}
"""Metrics of confusion matrices of shape (..., classes, classes); rows are true classes, columns predicted ones."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of the candidate minus that of the champion.

    Args:
        candidate: the candidate's metric, 0 to 1.
        champion: the champion's metric, 0 to 1.
        lower: lower end of the confidence interval of the difference.
        upper: upper end of the confidence interval.
        groups: number of groups compared.
    """

    candidate: float
    champion: float
    point: float
    lower: float
    upper: float
    groups: int


def paired_difference(
    truth: Indices,
    candidate: Indices,
    champion: Indices,
    groups: Indices,
    *,
    classes: int,
    metric: str,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    """Return the difference of a metric with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    The bootstrap is paired: both models are scored on the same resampled rows, which cancels out the difficulty of the
    rows. Whole groups are resampled, because the rows of a group are correlated: resampling rows would make the interval
    too narrow (chapter 8 of the same book: resample the unit that was sampled).

    Args:
        truth: true class index of each row, shape (rows,); at least one row.
        candidate: class index predicted by the candidate, shape (rows,).
        champion: class index predicted by the champion, shape (rows,).
        groups: group of each row, shape (rows,).
        classes: number of classes.
        metric: a key of `METRICS`.
        confidence: coverage of the two-sided interval, 0 to 1.
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the samples depend on the seed and the number of groups only.
    """
    names, group = np.unique(groups, return_inverse=True)
    count = len(names)
    # With one confusion matrix for each group and model, a resample is a weighted sum of them.
    both = np.stack([_by_group(truth, predicted, group, count, classes) for predicted in (candidate, champion)])
    score = METRICS[metric]
    point_candidate, point_champion = (float(score(table.reshape(classes, classes))) for table in both.sum(axis=1))
    flat = np.concatenate([both[0], both[1]], axis=1)
    random = np.random.default_rng(seed)
    differences = []
    block = max(1, BLOCK_CELLS // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        draws = random.integers(count, size=(size, count))
        draws += np.arange(size)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        tables = (weights @ flat).reshape(size, 2, classes, classes)
        values = score(tables)
        differences.append(values[:, 0] - values[:, 1])
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    return Difference(
        candidate=point_candidate,
        champion=point_champion,
        point=point_candidate - point_champion,
        lower=float(lower),
        upper=float(upper),
        groups=count,
    )


def _by_group(truth: Indices, predicted: Indices, group: Indices, groups: int, classes: int) -> NDArray[np.float64]:
    """Return each group's confusion matrix, flattened; shape (groups, classes * classes)."""
    cells = classes * classes
    place = group * cells + truth * classes + predicted
    return np.bincount(place, minlength=groups * cells).reshape(groups, cells).astype(np.float64)
