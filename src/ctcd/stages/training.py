"""Stages of a training: in one process, or with a separate process for each trial."""

from datetime import date
from typing import TYPE_CHECKING

from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance
from ctcd.stages.data import ValidSnapshot, valid_snapshot

if TYPE_CHECKING:
    from ctcd.contract.instance import Instance
    from ctcd.model.threshold import Threshold
    from ctcd.training.distributed import Prepared, TrialReport
    from ctcd.training.grid import Profile
    from ctcd.training.job import Plan
    from ctcd.training.summary import TrainingReport


def train(
    settings: Settings,
    base_dt: date | None,
    *,
    profile: str,
    force: bool = False,
    progress: Progress = silent,
    snapshot: ValidSnapshot | None = None,
) -> "TrainingReport":
    """Train on the snapshot of a day, by default the newest one, which must meet the contract.

    The snapshot is read and validated unless it is given. With `force` it is trained even if the same training exists.
    `progress` is called with the number of trials done, and of trees within each trial.
    """
    from ctcd.training.grid import load_profile
    from ctcd.training.train import train

    found = instance(settings)
    chosen = load_profile(profile, found)
    rows = snapshot or valid_snapshot(settings, base_dt)
    plan = _plan(found, chosen, rows)
    return train(rows.give_up(), found.contract, plan, settings=settings, progress=progress, force=force)


def prepare_training(settings: Settings, base_dt: date | None, *, profile: str) -> "Prepared":
    """Prepare a training on the snapshot of a day, by default the newest one, for `run_trial`."""
    from ctcd.training.distributed import prepare
    from ctcd.training.grid import load_profile

    found = instance(settings)
    chosen = load_profile(profile, found)
    rows = valid_snapshot(settings, base_dt)
    return prepare(rows.give_up(), found.contract, _plan(found, chosen, rows), settings=settings)


def _plan(found: "Instance", profile: "Profile", rows: ValidSnapshot) -> "Plan":
    from ctcd.training.job import Plan

    return Plan(
        profile=profile,
        base_dt=rows.day,
        threshold=_threshold(found),
        quarantined=rows.quarantined,
        sources=rows.sources,
    )


def _threshold(found: "Instance") -> "Threshold | None":
    from ctcd.promotion.policy import load_policy

    return load_policy(found).threshold


def run_trial(settings: Settings, training: str, index: int, *, progress: Progress = silent) -> "TrialReport":
    """Fit one trial of a prepared training."""
    from ctcd.training.distributed import run_trial

    contract = instance(settings).contract
    return run_trial(training, index, contract, settings=settings, progress=progress)


def finish_training(settings: Settings, training: str) -> "TrainingReport":
    """Select the best trial of a prepared training, and log it."""
    from ctcd.training.distributed import finish

    contract = instance(settings).contract
    return finish(training, contract, settings=settings)
