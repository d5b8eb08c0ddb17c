import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from ctcd.errors import DataRefused
from ctcd.model.metrics import expected_calibration_error, scores
from ctcd.model.threshold import Threshold

CLASSES = ("b", "a", "c")


def draw(rows: int, seed: int) -> tuple[list[str], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    truth = [*CLASSES, *random.choice(CLASSES, size=rows).tolist()]
    return truth, random.dirichlet(np.ones(len(CLASSES)), size=len(truth))


@given(rows=st.integers(0, 200), seed=st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn(rows: int, seed: int) -> None:
    """Accuracy, macro F1, recalls and log loss are those of scikit-learn, whatever the class order."""
    truth, probabilities = draw(rows, seed)
    predicted = [CLASSES[i] for i in probabilities.argmax(axis=1)]
    got = scores(truth, probabilities, CLASSES)
    assert got.rows == len(truth)
    assert got.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert got.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro", labels=list(CLASSES)))
    recalls = recall_score(truth, predicted, average=None, labels=list(CLASSES), zero_division=0.0)
    assert list(got.recall) == list(CLASSES)
    assert list(got.recall.values()) == pytest.approx(list(recalls))
    order = [1, 0, 2]  # scikit-learn wants the columns in the sorted order of the labels
    assert got.log_loss == pytest.approx(log_loss(truth, probabilities[:, order], labels=sorted(CLASSES)))


@given(rows=st.integers(0, 200), seed=st.integers(0, 10_000), levels=st.sampled_from([2, 10, 1_000]))
def test_scores_of_two_classes_agree_with_scikit_learn(rows: int, seed: int, levels: int) -> None:
    """ROC AUC and average precision are those of the positive class, also where many rows have the same probability."""
    random = np.random.default_rng(seed)
    truth = ["yes", "no", *random.choice(["yes", "no"], size=rows)]
    positive = random.integers(0, levels + 1, size=len(truth)) / levels
    threshold = Threshold(positive="yes", value=0.3)
    got = scores(truth, np.column_stack([1 - positive, positive]), ("no", "yes"), threshold)
    actual = np.array(truth) == "yes"
    assert got.roc_auc == pytest.approx(roc_auc_score(actual, positive))
    assert got.average_precision == pytest.approx(average_precision_score(actual, positive))
    assert got.accuracy == pytest.approx(accuracy_score(actual, positive >= 0.3))
    assert got.recall["yes"] == pytest.approx(recall_score(actual, positive >= 0.3))
    mirrored = scores(truth, np.column_stack([positive, 1 - positive]), ("yes", "no"), threshold)
    assert (mirrored.roc_auc, mirrored.average_precision) == (got.roc_auc, got.average_precision)


def test_confidence_is_that_of_the_predicted_class() -> None:
    """The calibration error counts the probability of the class that the threshold decides for, not of the other one."""
    table = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    found = scores(["yes", "yes", "no", "no"], table, ("no", "yes"), Threshold(positive="yes", value=0.4))
    assert found.recall == {"no": 0.5, "yes": 1.0}
    assert found.ece == pytest.approx((2 - 3 * 0.4 + 0.1) / 4)


def test_calibration_error_of_a_worked_example() -> None:
    """Two bins: four rows at 0.9 of which two hit, and six at 0.5 of which three hit, give 0.4 * 0.4."""
    confidence = np.array([0.9] * 4 + [0.5] * 6)
    hit = np.array([True, True, False, False, True, True, True, False, False, False])
    assert expected_calibration_error(confidence, hit) == pytest.approx(0.16)


def test_calibration_errors_of_different_bins_do_not_cancel_out() -> None:
    """Overconfidence in one bin and underconfidence in another, by the same amount, both count."""
    confidence = np.array([0.6, 0.6, 0.9, 0.9])
    hit = np.array([True, True, True, False])
    assert expected_calibration_error(confidence, hit) == pytest.approx(0.4)


def test_overconfidence_shows_in_the_calibration_error() -> None:
    """A model that is always certain and right half of the time has a calibration error of 0.5."""
    truth = ["b", "a", "c", "b"]
    sure = np.eye(3)[[0, 1, 0, 1]]
    assert scores(truth, sure, CLASSES).ece == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("truth", "probabilities", "message"),
    [
        ([], np.empty((0, 3)), "no rows"),
        (["b", "a", "c"], np.eye(3)[:2], "shape"),
        (["b", "a", "c"], np.ones((3, 2)) / 2, "shape"),
        (["b", "a", "c"], np.array([[np.nan, 0.5, 0.5], [0, 1, 0], [0, 0, 1]]), "not a number"),
        (["b", "a", "c"], np.array([[np.inf, 0, 0], [0, 1, 0], [0, 0, 1]]), "not a number"),
        (["b", "a", "c"], np.array([[-0.5, 1, 0.5], [0, 1, 0], [0, 0, 1]]), "not a number"),
        (["b", "a", "c"], np.eye(3) * 0.9, "sum to 1"),
        (["b", "a", "x"], np.eye(3), "not one of"),
        (["b", "a", None], np.eye(3), "not one of"),
        (["b", "a", "a"], np.eye(3), "no row of class 'c'"),
    ],
)
def test_malformed_input_is_refused(truth: list[str], probabilities: NDArray[np.float64], message: str) -> None:
    """Input that cannot be scored is refused."""
    with pytest.raises(DataRefused, match=message):
        scores(truth, probabilities, CLASSES)
