"""Metrics of a classifier on labelled rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctcd.errors import DataRefused
from ctcd.model.threshold import Threshold, decided

ECE_BINS = 15
"""Number of bins of the expected calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics of a model on labelled rows; every value is finite.

    Args:
        accuracy: share of rows, 0 to 1, whose predicted class is the true one.
        macro_f1: unweighted mean of the classes' F1, 0 to 1.
        recall: by class, the share of its rows, 0 to 1, that were predicted correctly.
        log_loss: mean negative log probability of the true class, in nats.
        ece: expected calibration error, 0 to 1.
        roc_auc: area under the ROC curve, 0 to 1; None unless one of two classes is the positive one.
        average_precision: mean precision over the recalls of the positive class, 0 to 1; None as well.
    """

    rows: int
    accuracy: float
    macro_f1: float
    recall: dict[str, float]
    log_loss: float
    ece: float
    roc_auc: float | None = None
    average_precision: float | None = None


def scores(
    truth: Sequence[str],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    threshold: Threshold | None = None,
    *,
    predicted: NDArray[np.intp] | None = None,
) -> Scores:
    """Score predicted probabilities against the true classes.

    Args:
        truth: the true class of each row.
        probabilities: shape (rows, classes), each row summing to 1.
        classes: the classes in the order of the columns.
        threshold: names the positive one of two classes and decides between them; None: the most probable one counts.
        predicted: index of the predicted class of each row, if it was decided elsewhere.

    Raises:
        DataRefused: there are no rows, shapes differ, a value is not a probability, a row does not sum to 1, a true
            class is unknown, or a class has no row (its recall and F1 are undefined then).
    """
    table = checked_probabilities(probabilities, rows=len(truth), classes=classes)
    actual = class_indices(truth, classes)
    counts = np.bincount(actual, minlength=len(classes))
    if not counts.all():
        raise DataRefused(f"no row of class {classes[int(counts.argmin())]!r}: its recall is undefined")
    if predicted is None:
        predicted = decided(table, classes, threshold)
    confusion = confusion_matrix(actual, predicted, len(classes))
    hits = confusion.diagonal()
    each = np.arange(len(actual))
    of_truth = table[each, actual]
    roc_auc, average_precision = None, None
    if threshold is not None:
        positive = classes.index(threshold.positive)
        roc_auc, average_precision = _of_ranking(table[:, positive], actual == positive)
    return Scores(
        rows=len(actual),
        accuracy=float(hits.sum() / len(actual)),
        macro_f1=float(macro_f1(confusion)),
        recall={name: float(hits[i] / counts[i]) for i, name in enumerate(classes)},
        log_loss=float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
        ece=expected_calibration_error(table[each, predicted], predicted == actual),
        roc_auc=roc_auc,
        average_precision=average_precision,
    )


def _of_ranking(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and the average precision, as scikit-learn defines them; shapes (rows,)."""
    order = np.argsort(-score, kind="stable")
    # Rows of the same score are one step of both curves.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(positive[order])[last]
    precision, gained = hits / (last + 1), np.diff(hits, prepend=0)
    # Of each step's misses, those of the steps before it rank above, and half of its own count as above.
    misses = np.diff(last + 1 - hits, prepend=0)
    above = (hits - gained / 2) * misses
    return float(above.sum() / (hits[-1] * misses.sum())), float((precision * gained).sum() / hits[-1])


def checked_probabilities(probabilities: ArrayLike, *, rows: int, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the probabilities as an array of shape (rows, classes).

    Raises:
        DataRefused: there are no rows, the shape is wrong, a value is not a probability, or a row does not sum to 1.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    if rows == 0:
        raise DataRefused("there are no rows to score")
    if table.shape != (rows, len(classes)):
        raise DataRefused(f"probabilities have shape {table.shape}, not {(rows, len(classes))}")
    # A NaN fails both comparisons.
    if not ((table >= 0) & (table <= 1)).all():
        raise DataRefused("a probability is not a number from 0 to 1")
    if not (np.abs(table.sum(axis=1) - 1) <= 1e-6).all():
        raise DataRefused("the probabilities of a row do not sum to 1")
    return table


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.intp]:
    """Return the position of each label in `classes`.

    Raises:
        DataRefused: a label is not one of the classes.
    """
    position = {name: i for i, name in enumerate(classes)}
    try:
        return np.fromiter((position[label] for label in labels), dtype=np.intp, count=len(labels))
    except (KeyError, TypeError) as error:
        raise DataRefused(f"a class is not one of {list(classes)}") from error


def confusion_matrix(actual: NDArray[np.intp], predicted: NDArray[np.intp], classes: int) -> NDArray[np.intp]:
    """Return counts of shape (classes, classes): rows are true classes, columns predicted ones."""
    return np.bincount(actual * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def macro_f1(confusion: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the mean F1 over the classes, for confusion matrices of shape (..., classes, classes).

    A class that neither occurs nor is predicted has F1 0, as in scikit-learn's `f1_score`.
    """
    table = confusion.astype(np.float64)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    both = table.sum(axis=-1) + table.sum(axis=-2)
    each: NDArray[np.float64] = 2 * hits / np.where(both > 0, both, 1)
    return np.asarray(each.mean(axis=-1))


def expected_calibration_error(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    """Return the mean absolute difference, 0 to 1, of confidence and accuracy over equal-width bins, weighted by rows.

    Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, ICML; bins are open on the left.

    Args:
        confidence: probability of the predicted class, shape (rows,).
        hit: whether the predicted class is the true one, shape (rows,).
    """
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.intp) - 1, 0, ECE_BINS - 1)
    # Within a bin, |sum of hits - sum of confidences| is its rows times the distance of the means.
    gap = np.bincount(bins, weights=hit - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(confidence))
