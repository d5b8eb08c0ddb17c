"""Training in one process: from the rows of a snapshot to a model in MLflow."""

import ctypes
import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.model.estimator import Estimator
from ctcd.progress import Progress, silent
from ctcd.registry import tracking
from ctcd.settings import Settings
from ctcd.training.job import Job, Plan, SearchResult, better, conclude, define
from ctcd.training.preprocess import fit_encoder
from ctcd.training.runs import TrainingRuns
from ctcd.training.split import Split, split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial, labelled_part, prepared

ONE_BY_ONE_ROWS = 200_000
"""With more rows to fit to, trials run one after the other."""


def train(
    frame: pd.DataFrame,
    contract: Contract,
    plan: Plan,
    *,
    settings: Settings,
    progress: Progress = silent,
    force: bool = False,
) -> TrainingReport:
    """Search for the best model of a profile, and log it with its trials and evidence to MLflow.

    Encoder and estimator are fitted on the training part. The validation part stops each fit early and selects the best
    trial, which alone is scored on the holdout, once. If a finished training with the same fingerprint exists, its
    report is returned instead; one that a killed process left running is marked as killed.

    Args:
        frame: a validated snapshot with the columns of `snapshot_schema`.
        contract: the contract in force.
        plan: what is to be trained.
        settings: say where MLflow is, and with which seed and how many threads to train.
        progress: called with the number of trials done, and of rounds within each trial.
        force: train even if the same training exists.

    Raises:
        DataRefused: columns are missing, or there is too little data for three parts with every class.
        UsageError: the tracking URI is not supported.
        Unreachable: MLflow does not answer.
    """
    start = time.perf_counter()
    job = define(frame, contract, plan, settings)
    runs = TrainingRuns(tracking.connect(settings), contract, settings)
    runs.end_abandoned(job.fingerprint)
    if not force and (report := runs.find_report(job.fingerprint)):
        return dataclasses.replace(report, reused=True)
    split = split_by_group(frame, contract, seed=job.seed)
    del frame  # its rows are in the parts; a caller that keeps none holds them once during the fits
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
    _return_freed_memory()
    count = len(job.profile.trials())
    workers, each = divided(threads, trials=count, rows=len(split.train))
    failed: list[BaseException] = []

    def reported(task: str, done: int, total: int | None) -> None:
        if failed:
            raise KeyboardInterrupt  # which marks its run as killed
        progress(task, done, total)

    def fit(index: int) -> tuple[int, Estimator, Trial]:
        if failed:
            raise KeyboardInterrupt
        try:
            with runs.trial_run(job.trial_name(index), run_id) as child:
                model, trial = job.fit(
                    index, estimator, train_part, validation_part, contract, threads=each, progress=reported
                )
                runs.log_trial(child, trial)
        except BaseException as error:
            failed.append(error)
            raise
        return index, model, trial

    trials: dict[int, Trial] = {}
    best, best_model = -1, estimator
    progress("trials", 0, count)
    with ThreadPoolExecutor(workers, thread_name_prefix="trial") as pool:
        try:
            for future in as_completed([pool.submit(fit, index) for index in range(count)]):
                index, model, trials[index] = future.result()
                # Only the best model so far is kept in memory. Of equal trials the first of the profile wins, whichever
                # ends first.
                trial = trials[index]
                if best < 0 or better(trial, trials[best]) or (index < best and not better(trials[best], trial)):
                    best, best_model = index, model
                progress("trials", len(trials), count)
        except BaseException as error:  # noqa: BLE001 - the first one is raised, which is not always this one
            failed.append(error)
            raise failed[0] from None
    return SearchResult(trials=tuple(trials[index] for index in range(count)), best=best, model=best_model)


def _return_freed_memory() -> None:
    """Have the C library return to the system what it keeps of freed memory: the allocator of CatBoost cannot use it."""
    with suppress(AttributeError, OSError, TypeError):  # only glibc keeps it, and can be told so
        ctypes.CDLL(None).malloc_trim(0)


def divided(threads: int, *, trials: int, rows: int) -> tuple[int, int]:
    """Return how many trials run at once, and the threads of each.

    One thread for each of several trials takes less time than all threads for one after the other, because parts of a
    fit are not parallel. With many rows those parts matter less, and each trial needs memory in proportion to the rows.

    Args:
        threads: number of threads of the training; -1: one for each core.
        trials: number of trials.
        rows: number of rows that each trial is fitted to.
    """
    if rows > ONE_BY_ONE_ROWS:
        return 1, threads
    available = threads if threads > 0 else os.cpu_count() or 1
    workers = min(available, trials)
    return workers, available // workers
