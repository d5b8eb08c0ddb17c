"""One trial of a search: a fit with early stopping, scored on the validation part."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from catboost import CatBoostClassifier, CatBoostError, Pool

from ctcd.contract.spec import Contract
from ctcd.errors import DataRefused
from ctcd.model.encoder import Encoder
from ctcd.model.metrics import Scores, scores
from ctcd.model.threshold import Threshold
from ctcd.training.grid import TreeParams


@dataclass(frozen=True)
class LabelledPart:
    """A part of the split as a CatBoost pool, with its true classes."""

    pool: Pool
    truth: list[str]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of a trial.

    Args:
        params: its parameters, with CatBoost's names.
        validation: scores on the validation part.
        iterations: number of trees of the model, after early stopping.
        seconds: wall time of CatBoost's `fit`.
    """

    params: dict[str, Any]
    validation: Scores
    iterations: int
    seconds: float


def labelled_part(part: pd.DataFrame, encoder: Encoder, contract: Contract) -> LabelledPart:
    """Return an encoded part of the split, with labels as indices of the contract's classes."""
    truth = part[contract.label.name].astype(object).to_list()
    position = {name: index for index, name in enumerate(contract.classes)}
    return LabelledPart(Pool(encoder.encode_frame(part), [position[label] for label in truth]), truth)


def fit_trial(
    train: LabelledPart,
    validation: LabelledPart,
    params: TreeParams,
    *,
    classes: tuple[str, ...],
    seed: int,
    threads: int,
    threshold: Threshold | None = None,
    on_iteration: Callable[[int], None] | None = None,
) -> tuple[CatBoostClassifier, Trial]:
    """Fit one trial; it depends on its arguments only, so that trials can run on several machines.

    The model is the one with the lowest log loss on the validation part. The number of threads affects speed only.

    Args:
        train: data for fitting the trees.
        validation: data for early stopping and for the scores.
        params: parameters of the trial.
        classes: the classes, in the order of the label indices.
        seed: seed of the fit.
        threads: number of threads; -1: one for each core.
        threshold: decides between two classes in the scores.
        on_iteration: called after each tree with the number of trees so far.

    Raises:
        DataRefused: CatBoost cannot learn from the data, for example because no feature varies.
    """
    model = CatBoostClassifier(
        loss_function="MultiClass",
        random_seed=seed,
        thread_count=threads,
        allow_writing_files=False,
        verbose=False,
        **params.to_dict(),
    )
    callbacks = [_AfterIteration(on_iteration)] if on_iteration else None
    start = time.perf_counter()
    try:
        model.fit(train.pool, eval_set=validation.pool, callbacks=callbacks)
    except CatBoostError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataRefused(f"CatBoost cannot learn from it: {reason}", where="training part") from error
    seconds = time.perf_counter() - start
    return model, Trial(
        params=params.to_dict(),
        validation=scores(validation.truth, model.predict_proba(validation.pool), classes, threshold),
        iterations=int(model.tree_count_),
        seconds=seconds,
    )


class _AfterIteration:
    """Adapter to CatBoost's callback interface."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def after_iteration(self, info: Any) -> bool:
        """Report the number of trees; True lets the fit continue."""
        self._call(info.iteration)
        return True
