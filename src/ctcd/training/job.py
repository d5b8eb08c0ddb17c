"""What is trained, and how it is concluded: the same whether trials run one after the other or on several machines.

MLflow and scikit-learn are imported only where a training is concluded: a trial on another machine does without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd
from catboost import CatBoostClassifier

from ctcd.contract.spec import Contract, names
from ctcd.errors import DataRefused
from ctcd.model.encoder import Encoder
from ctcd.model.metrics import scores
from ctcd.model.scorer import Scorer
from ctcd.settings import Settings
from ctcd.training.fingerprint import data_hash, fingerprint
from ctcd.training.grid import Profile
from ctcd.training.split import Split
from ctcd.training.summary import TrainingReport, describe
from ctcd.training.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training that is to be done.

    Args:
        fingerprint: tells trainings apart.
        data_hash: hash of the data, whatever the order of rows.
        base_dt: the snapshot's date.
        profile: what is tried.
        seed: seed of split and training.
        contract_version: version of the contract.
        git_revision: revision of the source.
    """

    fingerprint: str
    data_hash: str
    base_dt: date
    profile: Profile
    seed: int
    contract_version: str
    git_revision: str

    @property
    def name(self) -> str:
        """Name of the parent run."""
        return f"{self.profile.name} {self.base_dt.isoformat()}"

    @property
    def tags(self) -> dict[str, object]:
        """Tags of the parent run."""
        from ctcd.training import runs

        return {
            runs.FINGERPRINT: self.fingerprint,
            "base_dt": self.base_dt.isoformat(),
            "profile": self.profile.name,
            "data_hash": self.data_hash,
            "contract_version": self.contract_version,
            "git_revision": self.git_revision,
            "seed": self.seed,
        }


def define(
    frame: pd.DataFrame, contract: Contract, *, profile: Profile, base_dt: date, seed: int, settings: Settings
) -> Job:
    """Return the job of training on a frame.

    Raises:
        DataRefused: columns are missing.
    """
    from ctcd.registry import tracking

    missing = [name for name in columns(contract) if name not in frame.columns]
    if missing:
        raise DataRefused(f"column {', '.join(missing)} is missing", where="training data", hint="take a snapshot")
    data = data_hash(frame, contract)
    return Job(
        fingerprint=fingerprint(data, contract, profile, base_dt=base_dt, seed=seed),
        data_hash=data,
        base_dt=base_dt,
        profile=profile,
        seed=seed,
        contract_version=contract.version,
        git_revision=tracking.git_revision(settings),
    )


def columns(contract: Contract) -> list[str]:
    """Return the columns that a training reads."""
    return [*names(contract.row_keys), *names(contract.model_inputs), contract.label.name]


def better(trial: Trial, than: Trial) -> bool:
    """Return whether a trial wins over an earlier one; the first of equals wins."""
    return trial.validation.macro_f1 > than.validation.macro_f1


def make_scorer(job: Job, contract: Contract, encoder: Encoder, model: CatBoostClassifier, winner: Trial) -> Scorer:
    """Return the model of the trial that won."""
    return Scorer(
        name=contract.name,
        contract_version=contract.version,
        classes=contract.classes,
        encoder=encoder,
        model=model,
        params={
            **winner.params,
            "iterations": winner.iterations,
            "profile": job.profile.name,
            "seed": job.seed,
        },
    )


def conclude(
    client: "MlflowClient",
    run_id: str,
    job: Job,
    *,
    split: Split,
    contract: Contract,
    scorer: Scorer,
    trials: Sequence[Trial],
    best: int,
    seconds: float,
) -> TrainingReport:
    """Score the winner on the holdout, and log model, report and evidence to the parent run.

    Args:
        client: MLflow, connected.
        run_id: the parent run.
        job: what was trained.
        split: the parts of the data.
        contract: names the columns.
        scorer: the model that won.
        trials: all trials in the order of the profile.
        best: index of the one that won.
        seconds: wall time so far.
    """
    from ctcd.model.pyfunc import log_model
    from ctcd.training import runs
    from ctcd.training.baselines import score_baselines

    log_model(client, scorer, contract, run_id=run_id)
    holdout = split.holdout
    report = TrainingReport(
        run_id=run_id,
        reused=False,
        fingerprint=job.fingerprint,
        data_hash=job.data_hash,
        base_dt=job.base_dt,
        profile=job.profile.name,
        seed=job.seed,
        contract_version=job.contract_version,
        git_revision=job.git_revision,
        parts={name: describe(part, contract) for name, part in split.parts().items()},
        trials=tuple(trials),
        best=best,
        holdout=scores(
            holdout[contract.label.name].astype(object).to_list(), scorer.probabilities(holdout), contract.classes
        ),
        baselines=score_baselines(split, scorer.encoder, contract),
        fit_seconds=sum(trial.seconds for trial in trials),
        seconds=seconds,
    )
    runs.log_evidence(client, run_id, report, split, contract)
    return report
