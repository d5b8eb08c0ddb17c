"""What the gate knows of one model: how it did on one holdout."""

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.spec import Contract, names
from ctcd.model.metrics import Scores, checked_probabilities, class_indices, scores
from ctcd.model.scorer import PROBABILITY
from ctcd.promotion.slices import Cut, Slicing, cut

ROWS_TIMED = 100
"""Single rows whose latency is measured."""
WARM_UP = 10
"""Single rows predicted beforehand."""
ROUNDS = 3
"""Times that they are timed."""

Indices = NDArray[np.intp]


class Model(Protocol):
    """What the gate needs of a model: MLflow's pyfunc has it."""

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return one row for each row, with a column `probability_<class>` for every class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a decision needs about one model on one holdout.

    Args:
        version: version in the registry.
        run_id: training run that made the model.
        rolled_back: whether this version was taken out of service.
        contract_version: version of the contract that the model was trained for.
        contract_in_force: version of the contract at the time of scoring.
        trained_on: day of the snapshot that the model was trained on; None if it is not known.
        judged_on: day that counts as today.
        holdout: fingerprint of the rows that were scored.
        classes: the classes; the indices below count in this order.
        truth: true class of each row, shape (rows,).
        groups: number that stands for the group of each row, shape (rows,).
        seen: whether the model's own training saw the group of each row, shape (rows,).
        slices: the rows cut into slices, once for each column that the policy names.
        predicted: most probable class of each row, shape (rows,); empty if the model could not be scored.
        scores: scores on all rows; None if the model could not be scored.
        problem: why it could not be scored.
        row_p95_ms: 95th percentile of the time of predicting one row, in milliseconds.
        batch_row_ms: time of predicting all rows at once, divided by their number, in milliseconds.
        artifact_mb: size of all files of the model, in 10^6 bytes.
    """

    version: str
    run_id: str
    rolled_back: bool = False
    contract_version: str
    contract_in_force: str
    trained_on: date | None
    judged_on: date
    holdout: str
    classes: tuple[str, ...]
    truth: Indices
    groups: Indices
    seen: NDArray[np.bool_]
    slices: tuple[Slicing, ...]
    predicted: Indices
    scores: Scores | None
    problem: str = ""
    row_p95_ms: float
    batch_row_ms: float
    artifact_mb: float


def evaluate(
    model: Model,
    holdout: pd.DataFrame,
    contract: Contract,
    *,
    version: str,
    run_id: str,
    contract_version: str,
    trained_on: date | None,
    judged_on: date,
    seen_groups: Collection[object],
    artifact_bytes: int,
    slices: Mapping[str, Cut],
    rolled_back: bool = False,
) -> Evaluation:
    """Score a model on a holdout through its own predict call; candidate and champion go through this same function.

    A model that raises, or whose answer is malformed, is reported as one that could not be scored: the decision then
    refuses it, and the reason is on record.

    Groups that the model's own training saw are marked. The decision leaves the groups that either model saw out of the
    comparison, so that an older champion gains nothing from rows it learned; the floors use every row, all of them new
    to the candidate.

    Args:
        model: what to score.
        holdout: group, features and label of the holdout rows; other columns are left alone.
        contract: contract in force.
        version: the model's version in the registry.
        run_id: the run that trained it.
        contract_version: version of the contract it was trained for.
        trained_on: day of the snapshot it was trained on; None if it is not known.
        judged_on: day that counts as today.
        seen_groups: groups in its own training and validation parts.
        artifact_bytes: size of its files.
        slices: columns to cut the holdout by, and how.
        rolled_back: whether this version was taken out of service.

    Raises:
        ValueError: the holdout is empty or has an unknown label.
    """
    if holdout.empty:
        raise ValueError("the holdout is empty")
    inputs = holdout[names(contract.model_inputs)]
    truth = holdout[contract.label.name].tolist()
    predicted: Indices = np.empty(0, dtype=np.intp)
    found, problem, row_p95, batch_row = None, "", np.nan, np.nan
    try:
        started = time.perf_counter()
        answer = model.predict(inputs)
        batch_row = (time.perf_counter() - started) * 1_000 / len(inputs)
        table = answer[[f"{PROBABILITY}{name}" for name in contract.classes]].to_numpy(dtype=np.float64)
        checked_probabilities(table, rows=len(truth), classes=contract.classes)
        found, predicted = scores(truth, table, contract.classes), table.argmax(axis=1)
        row_p95 = _row_p95_ms(model, inputs)
    except Exception as error:  # noqa: BLE001 - the model is foreign code: whatever it raises is a reason to refuse it
        found, problem = None, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        predicted = np.empty(0, dtype=np.intp)
    group_column = holdout[contract.group.name]
    return Evaluation(
        version=version,
        run_id=run_id,
        rolled_back=rolled_back,
        contract_version=contract_version,
        contract_in_force=contract.version,
        trained_on=trained_on,
        judged_on=judged_on,
        holdout=fingerprint(holdout, contract),
        classes=contract.classes,
        truth=class_indices(truth, contract.classes),
        groups=np.asarray(pd.factorize(group_column, sort=True)[0], dtype=np.intp),
        seen=group_column.isin(list(seen_groups)).to_numpy(dtype=bool),
        slices=cut(holdout, slices),
        predicted=predicted,
        scores=found,
        problem=problem,
        row_p95_ms=row_p95,
        batch_row_ms=batch_row,
        artifact_mb=artifact_bytes / 1e6,
    )


def fingerprint(holdout: pd.DataFrame, contract: Contract) -> str:
    """Return a digest of what is scored: keys, features and labels in their order; the same in every process."""
    columns = names((*contract.row_keys, *contract.model_inputs, contract.label))
    digest = hashlib.sha256("\n".join(columns).encode())
    digest.update(pd.util.hash_pandas_object(holdout[columns], index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _row_p95_ms(model: Model, inputs: pd.DataFrame) -> float:
    """Return the 95th percentile of single-row predict calls over the first rows, after warming up.

    Of some rounds the best counts: what else runs on the machine can only add to the time, and not to that of each round.
    """
    rows = [inputs.iloc[[turn % len(inputs)]] for turn in range(max(WARM_UP, ROWS_TIMED))]
    for row in rows[:WARM_UP]:
        model.predict(row)
    return min(_p95_ms(model, rows[:ROWS_TIMED]) for _ in range(ROUNDS))


def _p95_ms(model: Model, rows: Sequence[pd.DataFrame]) -> float:
    times = []
    for row in rows:
        started = time.perf_counter()
        model.predict(row)
        times.append((time.perf_counter() - started) * 1_000)
    return float(np.percentile(times, 95))
