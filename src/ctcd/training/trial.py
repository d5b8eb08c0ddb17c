"""One trial of a search: a fit with early stopping, scored on the validation part."""

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.model.encoder import Encoder
from ctcd.model.estimator import Estimator, LabelledPart, Params
from ctcd.model.metrics import Scores, class_indices, scores
from ctcd.model.threshold import Threshold

CURVE_POINTS = 100
"""Points of a learning curve that are kept."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of a trial.

    Args:
        params: the fixed parameters of the profile and those of the grid.
        iterations: number of rounds of the model, such as trees, after early stopping.
        seconds: wall time of the estimator's `fit`.
        curve: rounds, as `round`, and the loss after each of them, by part; at most `CURVE_POINTS`, empty if not known.
    """

    params: dict[str, Any]
    validation: Scores
    iterations: int
    seconds: float
    curve: dict[str, list[float]] = field(default_factory=dict)


def prepared(kind: type[Estimator], train: pd.DataFrame, encoder: Encoder) -> Estimator:
    """Return an estimator whose features are fitted on the training part, and which is to be fitted by each trial."""
    estimator = kind(encoder)
    estimator.prepare(train)
    return estimator


def labelled_part(part: pd.DataFrame, estimator: Estimator, contract: Contract) -> LabelledPart:
    """Return the features of a part of the split, with labels as indices of the contract's classes."""
    truth = part[contract.label.name].astype(object).to_list()
    return LabelledPart(estimator.encode_frame(part), class_indices(truth, contract.classes), truth)


def fit_trial(
    estimator: Estimator,
    train: LabelledPart,
    validation: LabelledPart,
    params: Params,
    *,
    classes: tuple[str, ...],
    seed: int,
    threads: int,
    threshold: Threshold | None = None,
    on_round: Callable[[int], None] = lambda _: None,
) -> tuple[Estimator, Trial]:
    """Fit one trial; it depends on its arguments only, so that trials can run on several machines.

    Args:
        estimator: from `prepared`; it stays as it is.
        train: data for fitting.
        validation: data for early stopping and for the scores.
        params: those of one of `Profile.trials`.
        classes: the classes, in the order of the label indices.
        seed: of all that is random in the fit.
        threads: number of threads; -1: one for each core.
        threshold: decides between two classes in the scores.
        on_round: called after each round with the number of rounds so far, if the estimator does.

    Raises:
        DataRefused: the estimator cannot learn from the data, for example because no feature varies.
    """
    fitted = copy(estimator)
    start = time.perf_counter()
    fitted.fit(train, validation, params, seed=seed, threads=threads, on_round=on_round)
    seconds = time.perf_counter() - start
    return fitted, Trial(
        params=params.to_dict(),
        validation=scores(validation.truth, fitted.predict_proba(validation.features), classes, threshold),
        iterations=fitted.rounds,
        seconds=seconds,
        curve=_thinned(fitted.curve),
    )


def _thinned(curve: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return evenly spaced points of a curve, the first and the last among them, with their rounds."""
    count = min(map(len, curve.values()), default=0)
    places = np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(int)).tolist()
    if not places:
        return {}
    points = {name: [float(values[place]) for place in places] for name, values in curve.items()}
    return {"round": [float(place + 1) for place in places], **points}
