"""What a training reports, and how it is kept beside the model."""

from dataclasses import dataclass
from datetime import date

import pandas as pd
from pydantic import TypeAdapter

from ctcd.contract.spec import Contract
from ctcd.model.metrics import Scores
from ctcd.training.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Part:
    """Size of a part of the split.

    Args:
        rows: its rows.
        groups: its groups.
        shares: share of its rows, 0 to 1, in each class.
    """

    rows: int
    groups: int
    shares: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Result of a training.

    Args:
        run_id: MLflow's parent run; its model is at `runs:/<run_id>/model`.
        reused: whether the run was there already, so that nothing was trained.
        fingerprint: tells trainings apart; equal for equal data, contract, profile, date, seed and version.
        data_hash: hash of the data, whatever the order of rows.
        base_dt: the snapshot's date.
        profile: name of the profile.
        seed: seed of split and training.
        contract_version: version of the contract.
        git_revision: revision of the source.
        parts: train, validation and holdout.
        trials: all trials in the order of the profile.
        best: index of the trial that won: best macro F1 on the validation part.
        holdout: scores of the winner on the holdout.
        baselines: scores of simple models on the same holdout.
        fit_seconds: wall time of all of CatBoost's `fit`.
        seconds: wall time of the training, without loading the data.
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


_ADAPTER = TypeAdapter(TrainingReport)


def to_json(report: TrainingReport) -> bytes:
    """Return a report as JSON."""
    return _ADAPTER.dump_json(report, indent=2)


def from_json(text: bytes) -> TrainingReport:
    """Return the report that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is no such report.
    """
    return _ADAPTER.validate_json(text)


def describe(part: pd.DataFrame, contract: Contract) -> Part:
    """Return the size of a part of the split."""
    shares = part[contract.label.name].value_counts(normalize=True)
    return Part(
        rows=len(part),
        groups=int(part[contract.group.name].nunique()),
        shares={name: float(shares.get(name, 0.0)) for name in contract.classes},
    )
