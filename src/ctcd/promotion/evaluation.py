"""Evaluation of one model on a holdout: everything that the gate decides on."""

import hashlib
import json
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import get_native_id
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ctcd.contract.payload import request_rows
from ctcd.contract.spec import Contract, names
from ctcd.errors import shown
from ctcd.model.metrics import Scores, checked_probabilities, class_indices, scores
from ctcd.model.scorer import PREDICTION, PROBABILITY
from ctcd.model.threshold import Threshold, decided
from ctcd.promotion.slices import Cut, Slicing, cut
from ctcd.registry.versions import ROLLED_BACK, RegisteredVersion

ROWS_TIMED = 100
"""Number of single rows whose latency is measured."""
WARM_UP = 10
"""Number of single rows predicted before latency is measured."""
BATCH_ROWS = 1_000
"""Minimum number of rows of the batch whose latency is measured; a smaller holdout is repeated."""
BLOCK_ROWS = 20_000
"""Number of rows that are in memory as requests at once; each takes a kilobyte."""
ROUNDS = 3
"""Number of times that rows and batches are measured; the fastest round counts."""
MAX_QUEUED = 10
"""A thread other than the caller counts as held up for at most this many times as long as it ran in the call."""

Indices = NDArray[np.intp]
Times = Mapping[int, tuple[int, int]]
"""For each thread, by its ID: for how long it has run, and for how long it could run but had no processor, in ns."""


class Model(Protocol):
    """Interface of a model that can be evaluated, such as MLflow's pyfunc."""

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return a frame with as many rows, a column `prediction`, and a column `probability_<class>` for every class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Everything that a decision needs about one model on one holdout.

    Args:
        contract_version: version of the contract that the model was trained for.
        contract_in_force: version of the contract at the time of the evaluation.
        trained_on: date of the training snapshot; None if unknown.
        judged_on: date from which the age of the training data is counted.
        holdout: fingerprint of the rows.
        classes: the classes; class indices refer to this order.
        truth: index of the true class of each row, shape (rows,).
        groups: index of the group of each row, shape (rows,).
        seen: whether the model's training contained the group of each row, shape (rows,).
        slices: the rows divided into slices, for each column that the policy names.
        predicted: index of the class that the model answers for each row, shape (rows,); empty if it was not scored.
        probabilities: probability of each class, shape (rows, classes); None if the model could not be scored.
        scores: scores on all rows; None if the model could not be scored.
        problem: why the model could not be scored.
        row_p95_ms: 95th percentile of the processor time of predicting one row, in milliseconds; see `_row_p95_ms`.
        batch_row_ms: time of predicting the holdout, repeated if it is small, in one call, per row, in milliseconds,
            measured in the same way.
        artifact_mb: size of all files of the model, in 10^6 bytes.
        refused: number of rows that the API would refuse; None if it was not asked, and then a candidate is refused.
        refusal: what it would say about the first of them.
        drafts: number of things in the contract in force that nobody has confirmed yet.
        drafts_allowed: whether a contract with drafts is accepted.
        threshold_mismatches: number of rows for which the model answers another class than its probabilities and the
            threshold of the policy give.
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
    probabilities: NDArray[np.float64] | None = None
    scores: Scores | None
    problem: str = ""
    row_p95_ms: float
    batch_row_ms: float
    artifact_mb: float
    refused: int | None = None
    refusal: str = ""
    drafts: int = 0
    drafts_allowed: bool = True
    threshold_mismatches: int = 0


def evaluate(
    model: Model,
    holdout: pd.DataFrame,
    contract: Contract,
    version: RegisteredVersion,
    *,
    judged_on: date,
    seen_groups: Collection[object],
    artifact_bytes: int,
    slices: Mapping[str, Cut],
    drafts_allowed: bool = True,
    threshold: Threshold | None = None,
    request: type[BaseModel] | None = None,
) -> Evaluation:
    """Evaluate a model on a holdout through its predict call; used for both candidate and champion.

    A model that raises or returns malformed predictions counts as not scored: the decision refuses it and says why.

    Rows of groups that the model's training contained are marked. The decision excludes groups that either model has
    seen from the comparison, so that an older champion has no advantage on rows that it learned from; the floors use
    every row, all of them new to the candidate.

    Args:
        model: anything with MLflow's `predict`, such as a loaded pyfunc.
        holdout: group, features and label of the holdout rows; other columns are ignored.
        contract: the contract in force.
        version: the model's version in the registry, whose tags say what it was trained on.
        judged_on: date from which the age of the training data is counted.
        seen_groups: groups in the model's training and validation parts.
        artifact_bytes: size of the model's files, in bytes.
        slices: columns to slice the holdout by, and how.
        drafts_allowed: whether the contract may have drafts; in production it may not.
        threshold: the policy's, by which the model has to decide between two classes.
        request: body of a request to the service, which has to accept each row. None for a champion only, whose rows
            are those of the candidate: a candidate about which the API was not asked is refused.

    Raises:
        ValueError: the holdout is empty or has an unknown label.
    """
    if holdout.empty:
        raise ValueError("the holdout is empty")
    inputs = holdout[names(contract.model_inputs)]
    truth = holdout[contract.label.name].tolist()
    predicted: Indices = np.empty(0, dtype=np.intp)
    found, problem, row_p95, batch_row, threshold_mismatches = None, "", np.nan, np.nan, 0
    probabilities: NDArray[np.float64] | None = None
    try:
        answer, *batch = _timed(model, inputs)
        # A call has a fixed cost, which the few rows of a small holdout must not be charged with alone.
        many = pd.concat([inputs] * -(-BATCH_ROWS // len(inputs))) if len(inputs) < BATCH_ROWS else inputs
        batches = [batch] if many is inputs else [list(_timed(model, many)[1:])]
        batches += [list(_timed(model, many)[1:]) for _ in range(ROUNDS - 1)]
        batch_row = max(min(times) for times in zip(*batches, strict=True)) / len(many)
        columns = [f"{PROBABILITY}{name}" for name in contract.classes]
        table = checked_probabilities(answer[columns].to_numpy(), rows=len(truth), classes=contract.classes)
        answered = class_indices(answer[PREDICTION].tolist(), contract.classes)
        of_answers = scores(truth, table, contract.classes, threshold, predicted=answered)
        other = int((answered != decided(table, contract.classes, threshold)).sum())
        row_p95 = _row_p95_ms(model, inputs)
        # All or nothing: a model that fails at any step before was not scored.
        predicted, probabilities, found, threshold_mismatches = answered, table, of_answers, other
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model raises, exit code 0 included, is a reason to refuse it
        problem = shown(error)
    refused, refusal = _refused(holdout, contract, request) if request else (None, "")
    group_column = holdout[contract.group.name]
    return Evaluation(
        version=version.version,
        run_id=version.run_id,
        rolled_back=ROLLED_BACK in version.tags,
        contract_version=version.tags.get("contract_version", "unknown"),
        contract_in_force=contract.version,
        trained_on=_day(version.tags.get("base_dt", "")),
        judged_on=judged_on,
        holdout=fingerprint(holdout, contract),
        classes=contract.classes,
        truth=class_indices(truth, contract.classes),
        groups=np.asarray(pd.factorize(group_column, sort=True)[0], dtype=np.intp),
        seen=group_column.isin(list(seen_groups)).to_numpy(dtype=bool),
        slices=cut(holdout, slices),
        predicted=predicted,
        probabilities=probabilities,
        scores=found,
        problem=problem,
        row_p95_ms=row_p95,
        batch_row_ms=batch_row,
        artifact_mb=artifact_bytes / 1e6,
        refused=refused,
        refusal=refusal,
        drafts=len(contract.drafts),
        drafts_allowed=drafts_allowed,
        threshold_mismatches=threshold_mismatches,
    )


def _refused(holdout: pd.DataFrame, contract: Contract, request: type[BaseModel]) -> tuple[int, str]:
    """Return how many rows the service would refuse as JSON, and what it would say about the first, without its values."""
    validator = request.__pydantic_validator__
    first: list[str] = []
    for start in range(0, len(holdout), BLOCK_ROWS):
        for row in request_rows(holdout.iloc[start : start + BLOCK_ROWS], contract):
            try:
                validator.validate_json(json.dumps({"data": row}))
            except ValidationError as error:
                problem = error.errors(include_input=False)[0]
                first.append(": ".join(filter(None, (".".join(map(str, problem["loc"][1:])), problem["msg"]))))
    return len(first), first[0] if first else ""


def _day(text: str) -> date | None:
    """Return the date in a tag, or None if the tag is missing or malformed."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def fingerprint(holdout: pd.DataFrame, contract: Contract) -> str:
    """Return a SHA-256 of keys, features and labels in the order of the rows; the same in every process."""
    columns = names((*contract.row_keys, *contract.model_inputs, contract.label))
    digest = hashlib.sha256("\n".join(columns).encode())
    digest.update(pd.util.hash_pandas_object(holdout[columns], index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _row_p95_ms(model: Model, inputs: pd.DataFrame) -> float:
    """Return the latency of single-row predict calls after warming up, in milliseconds.

    It is the 95th percentile of their processor time, in the best of several rounds, or the wall time of the fastest
    call if that is longer: a model that waits, for a server or a lock, uses no processor. Neither depends on what else
    the machine does: other processes add no processor time, and the time in their queue is left out.
    """
    rows = [inputs.iloc[[turn % len(inputs)]] for turn in range(max(WARM_UP, ROWS_TIMED))]
    for row in rows[:WARM_UP]:
        model.predict(row)
    rounds = [np.array([_timed(model, row)[1:] for row in rows[:ROWS_TIMED]]) for _ in range(ROUNDS)]
    processor = min(float(np.percentile(times[:, 0], 95)) for times in rounds)
    return max(processor, min(float(times[:, 1].min()) for times in rounds))


def _timed(model: Model, data: pd.DataFrame) -> tuple[pd.DataFrame, float, float]:
    """Return a model's answer, its processor time, and its wall time without that in the processors' queue, in milliseconds."""
    # The wall time is the outermost, so that all that is taken off is in it.
    wall, threads, processor = time.perf_counter(), _threads(), time.process_time()
    answer = model.predict(data)
    processor, queued = time.process_time() - processor, _queue_time(threads, _threads())
    return answer, processor * 1_000, (time.perf_counter() - wall - queued) * 1_000


def _threads() -> Times:
    """Return the times of the threads of this process; empty where Linux does not say."""
    times = {}
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            ran, queued, _ = map(int, thread.read_text().split())
            times[int(thread.parent.name)] = ran, queued
    return times


def _queue_time(before: Times, after: Times) -> float:
    """Return for how long a call was held up because its threads had no processor, in seconds.

    Threads wait in the processors' queue at the same time, so that the longest time of one thread counts, not the sum.
    A thread other than the caller that hardly runs, such as one that returns freed memory to the system, may be in the
    queue while the model sleeps, and the sleep must count: see `MAX_QUEUED`.
    """
    caller, held_up = get_native_id(), [0]
    for thread, (ran, queued) in after.items():
        ran_before, queued_before = before.get(thread, (0, 0))
        waited = queued - queued_before
        held_up.append(waited if thread == caller else min(waited, MAX_QUEUED * (ran - ran_before)))
    return max(held_up) / 1e9
