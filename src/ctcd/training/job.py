"""Definition of a training, and how it is completed: the same for trials in one process and on several machines.

MLflow and scikit-learn are imported only where a training is completed: a trial on another machine needs neither.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.errors import DataRefused
from ctcd.git import git_revision
from ctcd.model.estimator import Estimator, LabelledPart
from ctcd.model.metrics import scores
from ctcd.model.reference import make_reference
from ctcd.model.scorer import Scorer
from ctcd.model.threshold import Threshold
from ctcd.progress import Progress
from ctcd.settings import Settings
from ctcd.store.ingested import Quarantined, SourceFile
from ctcd.training.fingerprint import data_hash, fingerprint
from ctcd.training.grid import Profile
from ctcd.training.split import Split, columns
from ctcd.training.summary import TrainingReport, describe
from ctcd.training.trial import Trial, fit_trial

if TYPE_CHECKING:
    from ctcd.training.runs import TrainingRuns


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained on a snapshot.

    Args:
        profile: parameters to try.
        base_dt: date of the snapshot.
        threshold: decides between two classes, in scores and model; None: the most probable class is predicted.
        quarantined: rows that the store had refused by then; for information only.
        sources: files that had been ingested by then; likewise.
    """

    profile: Profile
    base_dt: date
    threshold: Threshold | None = None
    quarantined: tuple[Quarantined, ...] = ()
    sources: tuple[SourceFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job(Plan):
    """A plan with what identifies its training.

    Args:
        fingerprint: identifies the training; see `ctcd.training.fingerprint`.
        data_hash: hash of the data, independent of the order of rows.
        seed: seed of split and training.
    """

    fingerprint: str
    data_hash: str
    seed: int
    contract_version: str
    git_revision: str

    @property
    def name(self) -> str:
        """Name of the parent run."""
        return f"{self.profile.name} {self.base_dt.isoformat()}"

    @property
    def facts(self) -> dict[str, Any]:
        """The fields, with those of the profile instead of it: tags of the parent run, and the head of the report."""
        profile = self.profile
        facts = {name: value for name, value in vars(self).items() if name not in ("quarantined", "sources")}
        return {**facts, "profile": profile.name, "estimator": profile.estimator, "code_sha256": profile.code}

    def trial_name(self, index: int) -> str:
        """Return the name of a trial, counted from 0."""
        return f"trial {index + 1} of {len(self.profile.trials())}"

    def fit(
        self,
        index: int,
        estimator: Estimator,
        train: LabelledPart,
        validation: LabelledPart,
        contract: Contract,
        *,
        threads: int,
        progress: Progress,
    ) -> tuple[Estimator, Trial]:
        """Fit a trial, counted from 0, and report its rounds as progress; see `fit_trial`."""
        name, params = self.trial_name(index), self.profile.trials()[index]
        fitted = fit_trial(
            estimator,
            train,
            validation,
            params,
            classes=contract.classes,
            seed=self.seed,
            threads=threads,
            threshold=self.threshold,
            on_round=lambda done: progress(name, done, params.rounds),
        )
        # Early stopping may have ended the fit before the last round.
        progress(name, params.rounds, params.rounds)
        return fitted


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Result of all trials of a training.

    Args:
        trials: all trials, in the order of the profile.
        best: index of the trial with the best macro F1 on the validation part.
        model: its fitted estimator.
    """

    trials: tuple[Trial, ...]
    best: int
    model: Estimator


def define(frame: pd.DataFrame, contract: Contract, plan: Plan, settings: Settings) -> Job:
    """Return the job of training on a frame.

    Raises:
        DataRefused: columns are missing.
    """
    missing = [name for name in columns(contract) if name not in frame.columns]
    if missing:
        raise DataRefused(f"column {', '.join(missing)} is missing", where="training data", hint="take a snapshot")
    data = data_hash(frame, contract)
    return Job(
        **vars(plan),
        fingerprint=fingerprint(
            data, contract, plan.profile, base_dt=plan.base_dt, seed=settings.seed, threshold=plan.threshold
        ),
        data_hash=data,
        seed=settings.seed,
        contract_version=contract.version,
        git_revision=git_revision(settings),
    )


def better(trial: Trial, than: Trial) -> bool:
    """Return whether a trial beats an earlier one; of equal trials, the first wins."""
    return trial.validation.macro_f1 > than.validation.macro_f1


def conclude(
    runs: "TrainingRuns",
    run_id: str,
    job: Job,
    *,
    split: Split,
    contract: Contract,
    found: SearchResult,
    seconds: float,
) -> TrainingReport:
    """Score the best trial on the holdout, and log model, report and evidence to the parent run; `seconds` is the wall time so far."""
    from ctcd.model.pyfunc import log_model
    from ctcd.training.baselines import score_baselines

    winner, holdout = found.trials[found.best], split.holdout
    scorer = Scorer(
        name=contract.name,
        contract_version=contract.version,
        classes=contract.classes,
        estimator=found.model,
        params={**winner.params, "iterations": winner.iterations, "profile": job.profile.name, "seed": job.seed},
        threshold=job.threshold,
    )
    log_model(runs.client, scorer, contract, run_id=run_id)
    report = TrainingReport(
        run_id=run_id,
        reused=False,
        **job.facts,
        parts={name: describe(part, contract) for name, part in split.parts().items()},
        trials=found.trials,
        best=found.best,
        holdout=scores(
            holdout[contract.label.name].astype(object).to_list(),
            scorer.probabilities(holdout),
            contract.classes,
            job.threshold,
        ),
        baselines=score_baselines(split, scorer.encoder, contract, job.threshold),
        fit_seconds=sum(trial.seconds for trial in found.trials),
        seconds=seconds,
        quarantined=job.quarantined,
        sources=job.sources,
    )
    reference = make_reference(
        scorer.encoder,
        list(split.parts().values()),
        holdout,
        scorer.predict(holdout),
        group=contract.group.name,
    )
    runs.log_evidence(run_id, report, split, reference)
    return report
