"""A training whose trials run in processes, or on machines, of their own: prepare, one call for each trial, finish.

What they hand on lies in a folder named after the job's fingerprint, in `settings.trainings`; on several machines that is
a shared volume. Every file appears whole or not at all, so each step can be run again, or killed and run again. The report
is that of `train` for the same data.
"""

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from catboost import CatBoostClassifier
from pydantic import TypeAdapter

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, UsageError
from ctcd.files import replacing, write_text
from ctcd.model.encoder import Encoder
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.training.grid import Profile
from ctcd.training.job import Job, better, columns, conclude, define, make_scorer
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import Split, split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial, fit_trial, labelled_part

KEPT_SECONDS = 7 * 24 * 3600
"""How long the folder of a training is kept."""
_JOB, _ENCODER = "job.json", "encoder.json"
_JOBS, _TRIALS = TypeAdapter(Job), TypeAdapter(Trial)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training that is ready for its trials.

    Args:
        training: its fingerprint, by which trials and the end find it.
        profile: name of the profile.
        trials: parameters of each trial, in the order of their indices.
        labels: what tells each trial from the others, for people.
        rows: rows of each part.
    """

    training: str
    profile: str
    trials: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]
    rows: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """A trial that is done.

    Args:
        training: fingerprint of its training.
        index: which one it is.
        reused: whether it was there already.
        trial: what it gave.
    """

    training: str
    index: int
    reused: bool
    trial: Trial


def prepare(
    frame: pd.DataFrame, contract: Contract, *, profile: Profile, base_dt: date, seed: int, settings: Settings
) -> Prepared:
    """Split a snapshot and fit its preprocessing, once for all trials. For the arguments and errors see `train`."""
    job = define(frame, contract, profile=profile, base_dt=base_dt, seed=seed, settings=settings)
    split = split_by_group(frame[columns(contract)], contract, seed=seed)
    folder = settings.trainings / job.fingerprint
    settings.trainings.mkdir(parents=True, exist_ok=True)
    _forget_old(settings.trainings)
    if not folder.exists():
        with TemporaryDirectory(prefix=".unfinished-", dir=settings.trainings) as scratch:
            unfinished = Path(scratch) / "training"
            unfinished.mkdir()
            for name, part in split.parts().items():
                part.to_parquet(unfinished / f"{name}.parquet", index=False)
            encoder = fit_encoder(split.train, contract)
            (unfinished / _ENCODER).write_text(json.dumps(encoder.to_dict(), allow_nan=False), encoding="utf-8")
            (unfinished / _JOB).write_bytes(_JOBS.dump_json(job))
            unfinished.rename(folder)
    trials = tuple(params.to_dict() for params in job.profile.trials())
    return Prepared(
        training=job.fingerprint,
        profile=job.profile.name,
        trials=trials,
        labels=tuple(", ".join(f"{name} {trial[name]}" for name in job.profile.grid) or "only one" for trial in trials),
        rows={name: len(part) for name, part in split.parts().items()},
    )


def run_trial(
    training: str, index: int, contract: Contract, *, threads: int, settings: Settings, progress: Progress = silent
) -> TrialReport:
    """Fit one trial of a training that was prepared; one that is there already is not fitted again.

    Args:
        training: what `prepare` returned.
        index: which trial, counted from 0.
        contract: names the columns.
        threads: threads of the fit; -1: one for each core.
        settings: where the training is.
        progress: told of the trees.

    Raises:
        NotFound: no such training was prepared.
        UsageError: it has no trial of that index.
    """
    folder = _folder(training, settings)
    job = _job(folder)
    todo = job.profile.trials()
    if not 0 <= index < len(todo):
        raise UsageError(
            f"there is no trial {index}", where=f"profile {job.profile.name}", hint=f"0 to {len(todo) - 1}"
        )
    result = folder / f"trial-{index}.json"
    if result.exists():
        return TrialReport(training=training, index=index, reused=True, trial=_read_trial(result))
    encoder, split = _encoder(folder), _split(folder)
    name, params = f"trial {index + 1} of {len(todo)}", todo[index]
    model, trial = fit_trial(
        labelled_part(split.train, encoder, contract),
        labelled_part(split.validation, encoder, contract),
        params,
        classes=contract.classes,
        seed=job.seed,
        threads=threads,
        on_iteration=lambda done: progress(name, done, params.iterations),
    )
    with replacing(folder / f"trial-{index}.cbm") as unfinished:
        model.save_model(str(unfinished))
    # Last: where it is, the model is too.
    write_text(result, _TRIALS.dump_json(trial).decode())
    return TrialReport(training=training, index=index, reused=False, trial=trial)


def finish(training: str, contract: Contract, *, settings: Settings) -> TrainingReport:
    """Choose the best trial and log trials, model and evidence to MLflow, as `train` does.

    If a finished training with the same fingerprint is there, its report is returned instead.

    Raises:
        NotFound: no such training was prepared, or a trial is missing.
        Unreachable: MLflow does not answer.
    """
    from ctcd.registry import tracking
    from ctcd.training import runs

    start = time.perf_counter()
    folder = _folder(training, settings)
    job = _job(folder)
    client = tracking.connect(settings)
    with tracking.answering(settings.tracking_uri):
        experiment = tracking.experiment_id(client, contract, settings)
        runs.end_abandoned(client, experiment, training)
        found = runs.find_report(client, experiment, training)
    if found:
        return dataclasses.replace(found, reused=True)
    split = _split(folder)
    trials = [_read_trial(folder / f"trial-{index}.json") for index in range(len(job.profile.trials()))]
    best = 0
    for index, trial in enumerate(trials):
        if better(trial, trials[best]):
            best = index
    model = CatBoostClassifier()
    model.load_model(str(folder / f"trial-{best}.cbm"))
    with tracking.answering(settings.tracking_uri), runs.training_run(client, experiment, job.name, job.tags) as run_id:
        for index, trial in enumerate(trials):
            with runs.trial_run(client, experiment, f"trial {index + 1} of {len(trials)}", run_id) as child:
                runs.log_trial(client, child, trial)
        return conclude(
            client,
            run_id,
            job,
            split=split,
            contract=contract,
            scorer=make_scorer(job, contract, _encoder(folder), model, trials[best]),
            trials=trials,
            best=best,
            seconds=sum(trial.seconds for trial in trials) + time.perf_counter() - start,
        )


def _folder(training: str, settings: Settings) -> Path:
    folder = settings.trainings / training
    if not training.isalnum() or not (folder / _JOB).exists():
        raise NotFound(
            f"no training {training} was prepared",
            where=str(settings.trainings),
            hint="run: ctcd training prepare",
        )
    return folder


def _job(folder: Path) -> Job:
    return _JOBS.validate_json((folder / _JOB).read_bytes())


def _encoder(folder: Path) -> Encoder:
    return Encoder.from_dict(json.loads((folder / _ENCODER).read_text(encoding="utf-8")))


def _split(folder: Path) -> Split:
    return Split(**{name: pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "holdout")})


def _read_trial(path: Path) -> Trial:
    try:
        return _TRIALS.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"{path.stem} is missing", where=str(path.parent), hint="run: ctcd training trial") from error


def _forget_old(trainings: Path) -> None:
    for folder in trainings.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
