"""The training stage: from the rows of a snapshot to a model in MLflow."""

import dataclasses
import time
from datetime import date

import pandas as pd
from mlflow import MlflowClient

from credit_score import tracking
from credit_score.contract.spec import Contract, names
from credit_score.errors import DataRefused
from credit_score.model.metrics import scores
from credit_score.model.pyfunc import log_model
from credit_score.model.scorer import Scorer
from credit_score.progress import Progress, silent
from credit_score.settings import Settings
from credit_score.training import runs
from credit_score.training.baselines import score_baselines
from credit_score.training.fingerprint import data_hash, fingerprint
from credit_score.training.grid import Profile, load_profile
from credit_score.training.preprocess import fit_encoder
from credit_score.training.report import TrainingReport, describe
from credit_score.training.split import Split, split_by_group
from credit_score.training.trial import Trial, fit_trial, labelled_part


def train(
    frame: pd.DataFrame,
    contract: Contract,
    *,
    profile: str | Profile,
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
        profile: what is tried, or the name of a profile in `contracts/training.toml`.
        base_dt: the snapshot's date.
        seed: seed of split and training.
        threads: threads of a fit; -1: one for each core.
        settings: where MLflow is.
        progress: told of trials and of the trees within each.
        force: train even if the same training is there.

    Raises:
        DataRefused: columns are missing, or there is too little data for three parts with every class.
        UsageError: there is no such profile, or the tracking URI cannot be used.
        Unreachable: MLflow does not answer.
    """
    start = time.perf_counter()
    plan = load_profile(profile) if isinstance(profile, str) else profile
    _check_columns(frame, contract)
    data = data_hash(frame, contract)
    mark = fingerprint(data, contract, plan, base_dt=base_dt, seed=seed)
    client = tracking.connect(settings)
    with tracking.answering(settings):
        experiment = tracking.experiment_id(client, contract, settings)
        runs.end_abandoned(client, experiment, mark)
        found = None if force else runs.find_report(client, experiment, mark)
    if found:
        return dataclasses.replace(found, reused=True)
    split = split_by_group(frame, contract, seed=seed)
    revision = tracking.git_revision(settings)
    tags = {
        runs.FINGERPRINT: mark,
        "base_dt": base_dt.isoformat(),
        "profile": plan.name,
        "data_hash": data,
        "contract_version": contract.version,
        "git_revision": revision,
        "seed": seed,
    }
    with (
        tracking.answering(settings),
        runs.training_run(client, experiment, f"{plan.name} {base_dt.isoformat()}", tags) as run_id,
    ):
        scorer, trials, best = _search(
            client,
            experiment,
            run_id,
            split=split,
            contract=contract,
            plan=plan,
            seed=seed,
            threads=threads,
            progress=progress,
        )
        log_model(client, scorer, contract, run_id=run_id)
        holdout = split.holdout
        report = TrainingReport(
            run_id=run_id,
            reused=False,
            fingerprint=mark,
            data_hash=data,
            base_dt=base_dt,
            profile=plan.name,
            seed=seed,
            contract_version=contract.version,
            git_revision=revision,
            parts={name: describe(part, contract) for name, part in split.parts().items()},
            trials=trials,
            best=best,
            holdout=scores(
                holdout[contract.label.name].astype(object).to_list(), scorer.probabilities(holdout), contract.classes
            ),
            baselines=score_baselines(split, scorer.encoder, contract),
            fit_seconds=sum(trial.seconds for trial in trials),
            seconds=time.perf_counter() - start,
        )
        runs.log_evidence(client, run_id, report, split, contract)
    return report


def _search(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    *,
    split: Split,
    contract: Contract,
    plan: Profile,
    seed: int,
    threads: int,
    progress: Progress,
) -> tuple[Scorer, tuple[Trial, ...], int]:
    """Run all trials; return the scorer of the best, all results, and which was the best."""
    encoder = fit_encoder(split.train, contract)
    train_part, validation_part = (labelled_part(part, encoder, contract) for part in (split.train, split.validation))
    todo = plan.trials()
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
                seed=seed,
                threads=threads,
                on_iteration=_Iterations(progress, name, params.iterations),
            )
            runs.log_trial(client, child, trial)
        trials.append(trial)
        # The first of equals wins. Only the best model so far is kept in memory.
        if best < 0 or trial.validation.macro_f1 > trials[best].validation.macro_f1:
            best, best_model = index, model
        progress(name, params.iterations, params.iterations)
        progress("trials", index + 1, len(todo))
    scorer = Scorer(
        name=contract.name,
        contract_version=contract.version,
        classes=contract.classes,
        encoder=encoder,
        model=best_model,
        params={**trials[best].params, "iterations": trials[best].iterations, "profile": plan.name, "seed": seed},
    )
    return scorer, tuple(trials), best


class _Iterations:
    """Passes the trees of a trial on as progress."""

    def __init__(self, progress: Progress, task: str, total: int) -> None:
        self._progress, self._task, self._total = progress, task, total

    def __call__(self, done: int) -> None:
        self._progress(self._task, done, self._total)


def _check_columns(frame: pd.DataFrame, contract: Contract) -> None:
    needed = [*names(contract.row_keys), *names(contract.model_inputs), contract.label.name]
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise DataRefused(f"column {', '.join(missing)} is missing", where="training data", hint="take a snapshot")
