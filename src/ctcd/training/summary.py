"""The report of a training."""

from dataclasses import dataclass
from datetime import date

import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.model.metrics import Scores
from ctcd.model.threshold import Threshold
from ctcd.store.ingested import Quarantined, SourceFile
from ctcd.training.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Part:
    """Size of a part of the split.

    Args:
        shares: share of the rows, 0 to 1, by class.
    """

    rows: int
    groups: int
    shares: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Result of a training.

    Args:
        run_id: MLflow's parent run; its model is `runs:/<run_id>/model`.
        reused: True if an earlier training with the same fingerprint was found, so that nothing was trained.
        fingerprint: identifies the training; equal for equal data, contract, profile, date, seed and package version.
        data_hash: hash of the data, independent of the order of rows.
        seed: seed of split and training.
        parts: sizes of train, validation and holdout.
        trials: all trials, in the order of the profile.
        best: index of the trial with the best macro F1 on the validation part.
        holdout: scores of the best trial on the holdout.
        baselines: scores of simple models on the same holdout, by name.
        fit_seconds: wall time of the estimator's `fit`, summed over the trials.
        seconds: wall time of the training, without loading the data.
        code_sha256: SHA-256 of the estimator's module in the instance; empty for a shipped one.
        threshold: decides between two classes; None: the most probable class is predicted.
        quarantined: rows that the store had refused by then.
        sources: files that had been ingested by then.
    """

    run_id: str
    reused: bool
    fingerprint: str
    data_hash: str
    base_dt: date
    profile: str
    seed: int
    contract_version: str
    git_revision: str
    parts: dict[str, Part]
    trials: tuple[Trial, ...]
    best: int
    holdout: Scores
    baselines: dict[str, Scores]
    fit_seconds: float
    seconds: float
    estimator: str = "catboost"  # in reports of earlier releases
    code_sha256: str = ""
    threshold: Threshold | None = None
    quarantined: tuple[Quarantined, ...] = ()
    sources: tuple[SourceFile, ...] = ()


def describe(part: pd.DataFrame, contract: Contract) -> Part:
    """Return the size of a part of the split."""
    shares = part[contract.label.name].value_counts(normalize=True)
    return Part(
        rows=len(part),
        groups=int(part[contract.group.name].nunique()),
        shares={name: float(shares.get(name, 0.0)) for name in contract.classes},
    )
