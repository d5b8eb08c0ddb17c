"""Evaluations for tests of the gate: real scores of invented predictions."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.instance import CONTRACT, INSTANCE, PAYLOAD

from ctcd.contract.spec import Contract
from ctcd.model.metrics import scores
from ctcd.model.threshold import Threshold, decided
from ctcd.promotion.evaluation import Evaluation, Model, evaluate
from ctcd.promotion.policy import Policy, Slices, load_policy
from ctcd.promotion.slices import Slicing
from ctcd.registry.versions import ROLLED_BACK, RegisteredVersion

CLASSES = CONTRACT.classes
SHARES = (0.3, 0.5, 0.2)
HOLDOUT = "0" * 64
DAY = date(2025, 8, 31)
SHIPPED_SLICES = load_policy(INSTANCE).slices
assert isinstance(SHIPPED_SLICES, Slices)
COLUMNS = tuple(SHIPPED_SLICES.by)
"""Columns that the shipped policy cuts by."""


def truth_of(rows: int, seed: int = 0) -> NDArray[np.intp]:
    """Return true classes in which each class occurs."""
    random = np.random.default_rng(seed)
    return np.concatenate([np.arange(len(CLASSES)), random.choice(len(CLASSES), size=rows - 3, p=SHARES)])


def with_predictions(evaluation: Evaluation, predicted: NDArray[np.intp]) -> Evaluation:
    """Return an evaluation whose scores and rows are those of other predictions, each of them as sure as it is accurate."""
    accuracy = float((predicted == evaluation.truth).mean())
    rest = (1 - max(accuracy, 0.4)) / (len(CLASSES) - 1)
    table = np.full((len(predicted), len(CLASSES)), rest)
    table[np.arange(len(predicted)), predicted] = max(accuracy, 0.4)
    found = scores([CLASSES[i] for i in evaluation.truth], table, CLASSES)
    return replace(evaluation, predicted=predicted, probabilities=table, scores=found)


def answers(
    probabilities: NDArray[np.float64], classes: Sequence[str], index: pd.Index, threshold: Threshold | None = None
) -> pd.DataFrame:
    """Return what a model answers that has these probabilities, shape (rows, classes), and decides by a threshold, if any."""
    table = pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in classes], index=index)
    table.insert(0, "prediction", [classes[best] for best in decided(probabilities, classes, threshold)])
    return table


def evaluation(*, hit: float = 0.8, rows: int = 600, seed: int = 0, run: str = "a", **changes: Any) -> Evaluation:
    """Return the evaluation of a model that is right in about a share `hit` of each class."""
    truth = truth_of(rows)
    random = np.random.default_rng([seed, int(hit * 1000)])
    wrong = (truth + random.integers(1, len(CLASSES), size=rows)) % len(CLASSES)
    base = Evaluation(
        version=run,
        run_id=f"run-{run}",
        contract_version=CONTRACT.version,
        contract_in_force=CONTRACT.version,
        trained_on=DAY,
        judged_on=DAY,
        holdout=HOLDOUT,
        classes=CLASSES,
        truth=truth,
        groups=np.arange(rows) // 2,
        seen=np.zeros(rows, dtype=bool),
        slices=tuple(Slicing(column=name, names=("left", "right"), place=np.arange(rows) // 2 % 2) for name in COLUMNS),
        predicted=truth,
        scores=None,
        row_p95_ms=5.0,
        batch_row_ms=0.02,
        artifact_mb=2.0,
        refused=0,
    )
    return replace(with_predictions(base, np.where(random.random(rows) < hit, truth, wrong)), **changes)


def evaluated(
    model: Model,
    holdout: pd.DataFrame,
    *,
    version: str = "1",
    run_id: str = "r",
    contract_version: str | None = CONTRACT.version,
    trained_on: date | None = DAY,
    rolled_back: bool = False,
    contract: Contract = CONTRACT,
    **arguments: Any,
) -> Evaluation:
    """Return the evaluation of a model that is a version with these tags; `arguments` are further ones of `evaluate`."""
    tags = {"contract_version": contract_version} if contract_version else {}
    if trained_on:
        tags["base_dt"] = trained_on.isoformat()
    if rolled_back:
        tags[ROLLED_BACK] = "2025-09-01"
    registered = RegisteredVersion(
        model_name=CONTRACT.name, version=version, run_id=run_id, aliases=(), created_at="", tags=tags, uri=""
    )
    known: dict[str, Any] = {"judged_on": DAY, "seen_groups": (), "artifact_bytes": 2_000_000, "slices": {}}
    known["request"] = PAYLOAD.request
    return evaluate(model, holdout, contract, registered, **known | arguments)


def policy(**comparison: Any) -> Policy:
    """Return the shipped policy with another comparison, few resamples, and slices that few rows suffice for."""
    shipped = load_policy(INSTANCE).model_dump()
    shipped["comparison"] |= {"resamples": 200} | comparison
    shipped["slices"]["min_rows"] = 30
    return Policy.model_validate(shipped)


@st.composite
def evaluations(draw: st.DrawFn, run: str, rows: int = 120) -> Evaluation:
    """Draw a evaluation of any quality on a common holdout, good ones as often as bad ones."""
    hit = draw(st.sampled_from([0.2, 0.55, 0.65, 0.7, 0.75, 0.85, 1.0]))
    made = evaluation(hit=hit, rows=rows, seed=draw(st.integers(0, 3)), run=run)
    seen = np.zeros(rows, dtype=bool)
    seen[: draw(st.sampled_from([0, 10, 40]))] = True
    return replace(
        made,
        seen=seen,
        row_p95_ms=draw(st.sampled_from([1.0, 39.0, 41.0])),
        artifact_mb=draw(st.sampled_from([1.0, 99.0, 101.0])),
        trained_on=DAY - timedelta(days=draw(st.sampled_from([0, 7, 8]))),
        rolled_back=draw(st.sampled_from([False, False, False, True])),
    )
