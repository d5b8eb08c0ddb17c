"""The training stage: from the rows of a snapshot to a model in MLflow."""

import dataclasses
import time
from datetime import date

import pandas as pd
from mlflow import MlflowClient

from ctcd.contract.spec import Contract
from ctcd.model.scorer import Scorer
from ctcd.progress import Progress, silent
from ctcd.registry import tracking
from ctcd.settings import Settings
from ctcd.training import runs
from ctcd.training.grid import Profile
from ctcd.training.job import Job, better, conclude, define, make_scorer
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import Split, split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial, fit_trial, labelled_part


def train(
    frame: pd.DataFrame,
    contract: Contract,
    *,
    profile: Profile,
    base_dt: date,
    seed: int,
    threads: int,
    settings: Settings,
    progress: Progress = silent,
    force: bool = False,
) -> TrainingReport:
    """Search for a model and log it, its trials and its evidence to MLflow.

    Preprocessing and trees are fitted on the training part, fits end and trials are compared on the validation part, and
    the holdout is scored once, with the trial that won. If a finished training with the same fingerprint is there, its
    report is returned instead; one that a killed process left behind is marked as killed.

    Args:
        frame: a snapshot that has been validated; columns as in `snapshot_schema`.
        contract: names the columns.
        profile: what is tried.
        base_dt: the snapshot's date.
        seed: seed of split and training.
        threads: threads of a fit; -1: one for each core.
        settings: where MLflow is.
        progress: told of trials and of the trees within each.
        force: train even if the same training is there.

    Raises:
        DataRefused: columns are missing, or there is too little data for three parts with every class.
        UsageError: the tracking URI cannot be used.
        Unreachable: MLflow does not answer.
    """
    start = time.perf_counter()
    job = define(frame, contract, profile=profile, base_dt=base_dt, seed=seed, settings=settings)
    client = tracking.connect(settings)
    with tracking.answering(settings.tracking_uri):
        experiment = tracking.experiment_id(client, contract, settings)
        runs.end_abandoned(client, experiment, job.fingerprint)
        found = None if force else runs.find_report(client, experiment, job.fingerprint)
    if found:
        return dataclasses.replace(found, reused=True)
    split = split_by_group(frame, contract, seed=seed)
    with tracking.answering(settings.tracking_uri), runs.training_run(client, experiment, job.name, job.tags) as run_id:
        scorer, trials, best = _search(
            client, experiment, run_id, job=job, split=split, contract=contract, threads=threads, progress=progress
        )
        return conclude(
            client,
            run_id,
            job,
            split=split,
            contract=contract,
            scorer=scorer,
            trials=trials,
            best=best,
            seconds=time.perf_counter() - start,
        )


def _search(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    *,
    job: Job,
    split: Split,
    contract: Contract,
    threads: int,
    progress: Progress,
) -> tuple[Scorer, tuple[Trial, ...], int]:
    """Run all trials; return the scorer of the best, all results, and which was the best."""
    encoder = fit_encoder(split.train, contract)
    train_part, validation_part = (labelled_part(part, encoder, contract) for part in (split.train, split.validation))
    todo = job.profile.trials()
    trials: list[Trial] = []
    best, best_model = -1, None
    progress("trials", 0, len(todo))
    for index, params in enumerate(todo):
        name = f"trial {index + 1} of {len(todo)}"
        with runs.trial_run(client, experiment, name, run_id) as child:
            model, trial = fit_trial(
                train_part,
                validation_part,
                params,
                classes=contract.classes,
                seed=job.seed,
                threads=threads,
                on_iteration=_Iterations(progress, name, params.iterations),
            )
            runs.log_trial(client, child, trial)
        trials.append(trial)
        # Only the best model so far is kept in memory.
        if best < 0 or better(trial, trials[best]):
            best, best_model = index, model
        progress(name, params.iterations, params.iterations)
        progress("trials", index + 1, len(todo))
    return make_scorer(job, contract, encoder, best_model, trials[best]), tuple(trials), best


class _Iterations:
    """Passes the trees of a trial on as progress."""

    def __init__(self, progress: Progress, task: str, total: int) -> None:
        self._progress, self._task, self._total = progress, task, total

    def __call__(self, done: int) -> None:
        self._progress(self._task, done, self._total)
