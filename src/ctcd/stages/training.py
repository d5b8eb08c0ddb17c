"""Stages of a training: in one process, or with its trials in processes of their own."""

from datetime import date
from typing import TYPE_CHECKING

from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance
from ctcd.stages.data import valid_snapshot

if TYPE_CHECKING:
    from ctcd.training.distributed import Prepared, TrialReport
    from ctcd.training.summary import TrainingReport


def train(
    settings: Settings, base_dt: date, *, profile: str, force: bool = False, progress: Progress = silent
) -> "TrainingReport":
    """Train on the snapshot of a day; the snapshot has to keep the contract."""
    from ctcd.training.grid import load_profile
    from ctcd.training.train import train

    found = instance(settings)
    chosen = load_profile(profile, found.training_profiles)
    frame, _ = valid_snapshot(settings, base_dt)
    return train(
        frame,
        found.contract,
        profile=chosen,
        base_dt=base_dt,
        seed=settings.seed,
        threads=settings.threads,
        settings=settings,
        progress=progress,
        force=force,
    )


def prepare_training(settings: Settings, base_dt: date, *, profile: str) -> "Prepared":
    """Prepare a training on the snapshot of a day whose trials run in processes of their own."""
    from ctcd.training.distributed import prepare
    from ctcd.training.grid import load_profile

    found = instance(settings)
    chosen = load_profile(profile, found.training_profiles)
    frame, _ = valid_snapshot(settings, base_dt)
    return prepare(frame, found.contract, profile=chosen, base_dt=base_dt, seed=settings.seed, settings=settings)


def run_trial(settings: Settings, training: str, index: int, *, progress: Progress = silent) -> "TrialReport":
    """Fit one trial of a training that was prepared."""
    from ctcd.training.distributed import run_trial

    contract = instance(settings).contract
    return run_trial(training, index, contract, threads=settings.threads, settings=settings, progress=progress)


def finish_training(settings: Settings, training: str) -> "TrainingReport":
    """Choose the best trial of a training and log it."""
    from ctcd.training.distributed import finish

    contract = instance(settings).contract
    return finish(training, contract, settings=settings)
