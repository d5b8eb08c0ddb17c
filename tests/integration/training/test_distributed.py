"""Trainings whose trials run in processes of their own."""

import dataclasses
import json
import os
import time
from datetime import date

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.errors import DataRefused, NotFound, UsageError
from ctcd.model.scorer import Scorer
from ctcd.registry import tracking
from ctcd.registry.versions import Registry
from ctcd.settings import Settings
from ctcd.training.distributed import KEPT_SECONDS, Prepared, finish, prepare, run_trial
from ctcd.training.grid import Profile, load_profile
from ctcd.training.job import Plan
from ctcd.training.summary import TrainingReport
from ctcd.training.train import train

pytestmark = pytest.mark.integration

DAY = date(2025, 8, 31)
SMOKE = load_profile("smoke", INSTANCE)
TWO = Profile(
    name="two",
    description="",
    fixed={name: value for name, value in SMOKE.fixed.items() if name != "iterations"},
    grid={"iterations": [2, 40]},
)


LINEAR = Profile(
    name="linear", description="", estimator="logistic_regression", fixed={"max_iter": 500}, grid={"C": [0.01, 1.0]}
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return snapshot_frame(CONTRACT, rows=2_000, base_dt=DAY)


def prepared(frame: pd.DataFrame, settings: Settings, profile: Profile = TWO) -> Prepared:
    return prepare(frame, CONTRACT, Plan(profile=profile, base_dt=DAY), settings=settings)


def in_steps(frame: pd.DataFrame, settings: Settings, profile: Profile = TWO) -> TrainingReport:
    ready = prepared(frame, settings, profile)
    for index in reversed(range(len(ready.trials))):
        run_trial(ready.training, index, CONTRACT, settings=settings)
    return finish(ready.training, CONTRACT, settings=settings)


def plain(report: TrainingReport) -> dict[str, object]:
    """Return what does not depend on time."""
    values = dataclasses.asdict(report)
    for trial in values["trials"]:
        trial.pop("seconds")
    return {name: value for name, value in values.items() if name not in ("run_id", "seconds", "fit_seconds")}


def scorer_of(client: MlflowClient, report: TrainingReport, settings: Settings) -> Scorer:
    registry = Registry(client, CONTRACT)
    return registry.scorer(registry.info(registry.register(report.run_id)), settings.scorers)


def runs_of(client: MlflowClient, report: TrainingReport) -> list[tuple[str, dict[str, str]]]:
    experiment = client.get_run(report.run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{report.run_id}'")
    return sorted((run.info.run_name, run.data.params) for run in found)


@pytest.mark.parametrize("profile", [TWO, LINEAR], ids=["catboost", "logistic_regression"])
def test_steps_give_what_one_process_gives(frame: pd.DataFrame, settings: Settings, profile: Profile) -> None:
    """The same data gives the same report, runs and probabilities, whether trials run in one process or in steps."""
    one = train(frame, CONTRACT, Plan(profile=profile, base_dt=DAY), settings=settings)
    client = tracking.connect(settings)
    whole, whole_runs = scorer_of(client, one, settings), runs_of(client, one)
    elsewhere = settings.model_copy(update={"home": settings.home.parent / "elsewhere"})
    other = in_steps(frame, elsewhere, profile)
    client = tracking.connect(elsewhere)
    assert plain(other) == plain(one)
    assert runs_of(client, other) == whole_runs
    np.testing.assert_array_equal(whole.probabilities(frame), scorer_of(client, other, elsewhere).probabilities(frame))
    assert whole.params == scorer_of(client, other, elsewhere).params


def test_each_step_may_be_run_again(frame: pd.DataFrame, settings: Settings) -> None:
    """A repeated step returns its earlier result; finishing returns an existing training, also one of `train`."""
    first = in_steps(frame, settings)
    ready = prepared(frame.sample(frac=1, random_state=1), settings)
    assert ready.training == first.fingerprint
    again = run_trial(ready.training, 1, CONTRACT, settings=settings)
    assert again.reused
    assert again.trial == first.trials[1]
    repeated = finish(ready.training, CONTRACT, settings=settings)
    assert repeated.reused
    assert repeated.run_id == first.run_id
    assert train(frame, CONTRACT, Plan(profile=TWO, base_dt=DAY), settings=settings).run_id == first.run_id


def test_a_killed_trial_leaves_nothing_that_counts(frame: pd.DataFrame, settings: Settings) -> None:
    """A model file without scores, left by a killed trial, is fitted again; finishing names a missing trial."""
    ready = prepared(frame, settings)
    folder = settings.trainings / ready.training
    (folder / "trial-0.model").write_bytes(b"half")
    with pytest.raises(NotFound, match="trial-0 is missing"):
        finish(ready.training, CONTRACT, settings=settings)
    assert not run_trial(ready.training, 0, CONTRACT, settings=settings).reused
    assert (folder / "trial-0.model").stat().st_size > len(b"half")
    with pytest.raises(NotFound, match="trial-1 is missing"):
        finish(ready.training, CONTRACT, settings=settings)


def test_what_is_not_there_is_named(frame: pd.DataFrame, settings: Settings) -> None:
    """An unknown training, an index out of range and a missing column each give a one-line error."""
    for name in ("f00", "../trainings", ""):
        with pytest.raises(NotFound, match="has been prepared"):
            run_trial(name, 0, CONTRACT, settings=settings)
    ready = prepared(frame, settings)
    with pytest.raises(UsageError, match=r"no trial 2.*0 to 1"):
        run_trial(ready.training, 2, CONTRACT, settings=settings)
    with pytest.raises(DataRefused, match=f"column {CONTRACT.label.name} is missing"):
        prepared(frame.drop(columns=CONTRACT.label.name), settings)


def test_nothing_personal_is_shared(frame: pd.DataFrame, settings: Settings) -> None:
    """Personal columns are written to no file that trials share."""
    marker = "Jane-Marker-Doe"
    prepared(frame.assign(**{column.name: marker for column in CONTRACT.personal}), settings)
    files = [path for path in settings.trainings.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if marker.encode() in path.read_bytes()] == []


def test_old_folders_are_deleted(frame: pd.DataFrame, settings: Settings) -> None:
    """Preparing a training deletes the folders of trainings older than a week, and no others."""
    old, young = settings.trainings / "old", settings.trainings / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, times=(time.time(), time.time() - KEPT_SECONDS - 60))
    ready = prepared(frame, settings, SMOKE)
    assert {path.name for path in settings.trainings.iterdir()} == {"young", ready.training}
    assert json.loads((settings.trainings / ready.training / "job.json").read_text())["profile"]["name"] == "smoke"
