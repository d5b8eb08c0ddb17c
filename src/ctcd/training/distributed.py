"""A training whose trials run in separate processes, or on several machines: prepare, one call for each trial, finish.

The steps share files in a folder named after the job's fingerprint, in `settings.trainings`; several machines need a
shared volume. Files are written atomically, so each step can be repeated, also after it was killed. The report equals
that of `train` for the same data.
"""

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, UsageError
from ctcd.files import replacing_folder, write_text
from ctcd.model.encoder import Encoder
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.training.job import Job, Plan, SearchResult, better, conclude, define
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import Split, kept, split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial, labelled_part, prepared

KEPT_SECONDS = 7 * 24 * 3600
"""Age at which the folder of a training is deleted."""
_JOB, _ENCODER = "job.json", "encoder.json"
_JOBS, _TRIALS = TypeAdapter(Job), TypeAdapter(Trial)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training whose trials can be run.

    Args:
        training: fingerprint, the argument of `run_trial` and `finish`.
        trials: parameters of each trial, by index.
        labels: for display, the parameters in which each trial differs from the others.
        rows: number of rows of each part of the split.
    """

    training: str
    profile: str
    trials: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]
    rows: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """A finished trial.

    Args:
        training: fingerprint of its training.
        index: index of the trial, from 0.
        reused: True if an earlier call had finished it.
    """

    training: str
    index: int
    reused: bool
    trial: Trial


def prepare(frame: pd.DataFrame, contract: Contract, plan: Plan, *, settings: Settings) -> Prepared:
    """Split a snapshot and fit its encoder, once for all trials; arguments and errors as in `train`."""
    job = define(frame, contract, plan, settings)
    split = split_by_group(kept(frame, contract), contract, seed=job.seed)
    folder = settings.trainings / job.fingerprint
    settings.trainings.mkdir(parents=True, exist_ok=True)
    _delete_old(settings.trainings)
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
    training: str, index: int, contract: Contract, *, settings: Settings, progress: Progress = silent
) -> TrialReport:
    """Fit one trial, counted from 0, of a prepared training, unless an earlier call has finished it.

    Raises:
        NotFound: no such training has been prepared.
        UsageError: the profile has no trial with that index.
    """
    folder = _folder(training, settings)
    job = _job(folder)
    count = len(job.profile.trials())
    if not 0 <= index < count:
        raise UsageError(f"there is no trial {index}", where=f"profile {job.profile.name}", hint=f"0 to {count - 1}")
    result = folder / f"trial-{index}.json"
    if result.exists():
        return TrialReport(training=training, index=index, reused=True, trial=_read_trial(result))
    split = _split(folder)
    estimator = prepared(job.profile.kind, split.train, _encoder(folder))
    train, validation = (labelled_part(part, estimator, contract) for part in (split.train, split.validation))
    model, trial = job.fit(index, estimator, train, validation, contract, threads=settings.threads, progress=progress)
    with replacing_folder(_model(folder, index)) as unfinished:
        model.save(unfinished)
    # Written last: its presence means that the model is complete.
    write_text(result, _TRIALS.dump_json(trial).decode())
    return TrialReport(training=training, index=index, reused=False, trial=trial)


def finish(training: str, contract: Contract, *, settings: Settings) -> TrainingReport:
    """Select the best trial, and log trials, model and evidence to MLflow, as `train` does.

    If a finished training with the same fingerprint exists, its report is returned instead.

    Raises:
        NotFound: no such training has been prepared, or a trial is missing.
        Unreachable: MLflow does not answer.
    """
    from ctcd.registry import tracking
    from ctcd.training.runs import TrainingRuns

    start = time.perf_counter()
    folder = _folder(training, settings)
    job = _job(folder)
    runs = TrainingRuns(tracking.connect(settings), contract, settings)
    runs.end_abandoned(training)
    if report := runs.find_report(training):
        return dataclasses.replace(report, reused=True)
    trials = tuple(_read_trial(folder / f"trial-{index}.json") for index in range(len(job.profile.trials())))
    best = 0
    for index, trial in enumerate(trials):
        if better(trial, trials[best]):
            best = index
    model = job.profile.kind(_encoder(folder))
    model.load(_model(folder, best))
    found = SearchResult(trials=trials, best=best, model=model)
    split = _split(folder)
    with runs.training_run(job.name, job.facts) as run_id:
        for index, trial in enumerate(trials):
            with runs.trial_run(job.trial_name(index), run_id) as child:
                runs.log_trial(child, trial)
        seconds = sum(trial.seconds for trial in trials) + time.perf_counter() - start
        return conclude(runs, run_id, job, split=split, contract=contract, found=found, seconds=seconds)


def _folder(training: str, settings: Settings) -> Path:
    folder = settings.trainings / training
    if not training.isalnum() or not (folder / _JOB).exists():
        raise NotFound(
            f"no training {training} has been prepared",
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


def _model(folder: Path, index: int) -> Path:
    return folder / f"trial-{index}.model"


def _read_trial(path: Path) -> Trial:
    try:
        return _TRIALS.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"{path.stem} is missing", where=str(path.parent), hint="run: ctcd training trial") from error


def _delete_old(trainings: Path) -> None:
    for folder in trainings.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
