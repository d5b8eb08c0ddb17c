"""Which class a model answers: the most probable one, or one of two by a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From which probability on the positive one of two classes is answered.

    Args:
        positive: that class.
        value: the lowest probability, 0 to 1, with which it is answered.
    """

    positive: str
    value: float

    def __str__(self) -> str:
        return f"{self.positive} from {self.value}"


def decided(
    probabilities: NDArray[np.float64], classes: Sequence[str], threshold: Threshold | None
) -> NDArray[np.intp]:
    """Return the index of the class that is answered for each row: training, gate, batch and service all ask here.

    Args:
        probabilities: shape (rows, classes).
        classes: the classes in the order of the columns.
        threshold: decides between two classes; None: the most probable class is answered, on a tie the first.

    Raises:
        ValueError: the positive class is not one of the classes.
    """
    index: NDArray[np.intp]
    if threshold is None:
        index = probabilities.argmax(axis=1)
    else:
        positive = classes.index(threshold.positive)
        index = np.where(probabilities[:, positive] >= threshold.value, positive, 1 - positive)
    return index
