"""Bootstrap confidence interval of the difference between two models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from ctcd.model.metrics import macro_f1

Metric = Callable[[NDArray[np.generic]], NDArray[np.float64]]
Indices = NDArray[np.intp]

CONFIDENCE, RESAMPLES, SEED = 0.95, 400, 20250901
"""Parameters of the intervals that are shown for one model; the policy has those of the intervals that decide."""
BLOCK_CELLS = 2_000_000
"""Maximum number of random numbers drawn, and of cells of confusion matrices summed, at once; it bounds the memory."""


def _accuracy(confusion: NDArray[np.generic]) -> NDArray[np.float64]:
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(hits / confusion.sum(axis=(-2, -1)), dtype=np.float64)


METRICS: dict[str, Metric] = {"macro_f1": macro_f1, "accuracy": _accuracy}
"""Metrics of confusion matrices of shape (..., classes, classes); rows are true classes, columns predicted ones."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric of one model, with the bounds of its confidence interval if it was resampled."""

    point: float
    lower: float | None = None
    upper: float | None = None


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
    rows. Whole groups are resampled, because the rows of a group are correlated: resampling rows would make the
    interval too narrow (chapter 8 of the same book: resample the unit that was sampled).

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
    group, count = _numbered(groups)
    # With one confusion matrix for each group and model, a resample is a weighted sum of them.
    both = [_by_group(truth, predicted, group, count, classes) for predicted in (candidate, champion)]
    score = METRICS[metric]
    point_candidate, point_champion = (float(score(table.sum(axis=0).reshape(classes, classes))) for table in both)
    differences = []
    for sums in _resampled(hstack(both, format="csr"), resamples, seed):
        values = score(sums.reshape(-1, 2, classes, classes))
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


def intervals(truth: Indices, predicted: Indices, groups: Indices, *, classes: int) -> list[Interval]:
    """Return accuracy, macro F1 and the recall of each class with percentile intervals; groups are resampled, as above.

    Args:
        truth: true class index of each row, shape (rows,); the recall of a class that does not occur is NaN.
        predicted: class index that was predicted, shape (rows,).
        groups: group of each row, shape (rows,).
        classes: number of classes.
    """
    tables = _by_group(truth, predicted, *_numbered(groups), classes)

    def scored(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # there may be no row of a class
            recall = np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=-1)
        overall = [_accuracy(confusion), macro_f1(confusion)]
        return np.concatenate([np.stack(overall, axis=-1), recall], axis=-1)

    points = scored(tables.sum(axis=0).reshape(classes, classes))
    drawn = [scored(sums.reshape(-1, classes, classes)) for sums in _resampled(tables, RESAMPLES, SEED)]
    tail = (1 - CONFIDENCE) / 2
    known, ends = ~np.isnan(points), np.full((2, len(points)), np.nan)
    ends[:, known] = np.nanquantile(np.concatenate(drawn)[:, known], [tail, 1 - tail], axis=0)
    bounds = zip(points.tolist(), *ends.tolist(), strict=True)
    return [Interval(point=point, lower=low, upper=high) for point, low, high in bounds]


def _resampled(tables: csr_array, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield sums of the groups' tables, shape (groups, cells), over groups drawn with replacement; shapes (some, cells)."""
    random, (count, cells) = np.random.default_rng(seed), tables.shape
    block = max(1, BLOCK_CELLS // max(count, cells))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        draws = random.integers(count, size=(size, count))
        draws += np.arange(size)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        yield np.ascontiguousarray(weights @ tables)  # one order in memory, so that scores are the same to the last bit


def _numbered(groups: Indices) -> tuple[Indices, int]:
    """Return the number of each row's group, counted from 0, and how many groups there are."""
    names, group = np.unique(groups, return_inverse=True)
    return group, len(names)


def _by_group(truth: Indices, predicted: Indices, group: Indices, groups: int, classes: int) -> csr_array:
    """Return each group's confusion matrix, flattened; shape (groups, classes * classes), of which most cells are 0."""
    counts = np.ones(len(truth))  # of the same cell are added up
    return csr_array((counts, (group, truth * classes + predicted)), shape=(groups, classes * classes))
