"""Training in one process: from the rows of a snapshot to a model in MLflow."""

import dataclasses
import time
from datetime import date

import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.model.threshold import Threshold
from ctcd.progress import Progress, silent
from ctcd.registry import tracking
from ctcd.settings import Settings
from ctcd.store.ingested import Quarantined, SourceFile
from ctcd.training.grid import Profile
from ctcd.training.job import Job, SearchResult, better, conclude, define
from ctcd.training.preprocess import fit_encoder
from ctcd.training.runs import TrainingRuns
from ctcd.training.split import Split, split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial, labelled_part, prepared


def train(
    frame: pd.DataFrame,
    contract: Contract,
    *,
    profile: Profile,
    base_dt: date,
    settings: Settings,
    progress: Progress = silent,
    force: bool = False,
    threshold: Threshold | None = None,
    quarantined: tuple[Quarantined, ...] = (),
    sources: tuple[SourceFile, ...] = (),
) -> TrainingReport:
    """Search for the best model of a profile, and log it with its trials and evidence to MLflow.

    Encoder and estimator are fitted on the training part. The validation part stops each fit early and selects the best
    trial, which alone is scored on the holdout, once. If a finished training with the same fingerprint exists, its report
    is returned instead; one that a killed process left running is marked as killed.

    Args:
        frame: a validated snapshot with the columns of `snapshot_schema`.
        contract: the contract in force.
        profile: parameters to try.
        base_dt: date of the snapshot.
        settings: say where MLflow is, and with which seed and how many threads to train.
        progress: called with the number of trials done, and of rounds within each trial.
        force: train even if the same training exists.
        threshold: decides between two classes, in the scores and in the model.
        quarantined: rows that the store had refused by then, for the report.
        sources: files that had been ingested by then, likewise.

    Raises:
        DataRefused: columns are missing, or there is too little data for three parts with every class.
        UsageError: the tracking URI is not supported.
        Unreachable: MLflow does not answer.
    """
    start = time.perf_counter()
    job = define(
        frame,
        contract,
        profile=profile,
        base_dt=base_dt,
        settings=settings,
        threshold=threshold,
        quarantined=quarantined,
        sources=sources,
    )
    runs = TrainingRuns(tracking.connect(settings), contract, settings)
    runs.end_abandoned(job.fingerprint)
    if not force and (report := runs.find_report(job.fingerprint)):
        return dataclasses.replace(report, reused=True)
    split = split_by_group(frame, contract, seed=job.seed)
    with runs.training_run(job.name, job.facts) as run_id:
        found = _search(runs, run_id, job, split=split, contract=contract, threads=settings.threads, progress=progress)
        seconds = time.perf_counter() - start
        return conclude(runs, run_id, job, split=split, contract=contract, found=found, seconds=seconds)


def _search(
    runs: TrainingRuns, run_id: str, job: Job, *, split: Split, contract: Contract, threads: int, progress: Progress
) -> SearchResult:
    """Run all trials, each logged as a child of the parent run `run_id`."""
    estimator = prepared(job.profile.kind, split.train, fit_encoder(split.train, contract))
    train_part, validation_part = (labelled_part(part, estimator, contract) for part in (split.train, split.validation))
    count = len(job.profile.trials())
    trials: list[Trial] = []
    best, best_model = -1, estimator
    progress("trials", 0, count)
    for index in range(count):
        with runs.trial_run(job.trial_name(index), run_id) as child:
            model, trial = job.fit(
                index, estimator, train_part, validation_part, contract, threads=threads, progress=progress
            )
            runs.log_trial(child, trial)
        trials.append(trial)
        # Only the best model so far is kept in memory.
        if best < 0 or better(trial, trials[best]):
            best, best_model = index, model
        progress("trials", index + 1, count)
    return SearchResult(trials=tuple(trials), best=best, model=best_model)
