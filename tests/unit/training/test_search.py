"""Trials of one training at the same time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from support.instance import CONTRACT

from ctcd.errors import DataRefused
from ctcd.model.metrics import Scores, scores
from ctcd.model.trees import CatBoost
from ctcd.progress import Progress, silent
from ctcd.training.job import Job, SearchResult
from ctcd.training.runs import TrainingRuns
from ctcd.training.split import Split, split_by_group
from ctcd.training.train import ONE_BY_ONE_ROWS, _search, divided
from ctcd.training.trial import Trial

Fit = Callable[..., tuple[CatBoost, Trial]]


class Runs:
    """Names of the trials that are logged; in place of MLflow, which `tests/integration/training` uses."""

    def __init__(self) -> None:
        self.logged: list[str] = []
        self.one_more = threading.Semaphore(0)

    @contextmanager
    def trial_run(self, name: str, _parent: str) -> Iterator[str]:
        yield name

    def log_trial(self, run_id: str, _trial: Trial) -> None:
        self.logged.append(run_id)
        self.one_more.release()


@pytest.fixture(scope="module")
def split(frame: pd.DataFrame) -> Split:
    return split_by_group(frame, CONTRACT, seed=1)


def search(split: Split, fit: Fit, count: int, runs: Runs, progress: Progress = silent) -> SearchResult:
    """Search with trials that are `fit`, which decides when each of them ends."""
    profile = SimpleNamespace(kind=CatBoost, trials=lambda: [None] * count)
    job = SimpleNamespace(profile=profile, trial_name=str, fit=fit)
    return _search(
        cast("TrainingRuns", runs),
        "run",
        cast("Job", job),
        split=split,
        contract=CONTRACT,
        threads=2,
        progress=progress,
    )


def of(share: int) -> Scores:
    """Scores of answers of which one in `share` is right."""
    truth = list(CONTRACT.classes) * 6
    places = [index % 3 if index % share == 0 else (index + 1) % 3 for index in range(len(truth))]
    return scores(truth, np.eye(3)[places], CONTRACT.classes, None)


def result(index: int, share: int) -> tuple[CatBoost, Trial]:
    model = cast("CatBoost", SimpleNamespace(index=index))
    return model, Trial(params={"index": index}, validation=of(share), iterations=1, seconds=0.0)


def test_of_equal_trials_the_first_of_the_profile_wins(split: Split) -> None:
    """It does, although it ends last; the report has the trials in the order of the profile, with the best one's model."""
    runs = Runs()

    def fit(index: int, *_: object, **__: object) -> tuple[CatBoost, Trial]:
        if index == 1:
            for _each in range(3):
                assert runs.one_more.acquire(timeout=30)
        return result(index, share=9 if index == 0 else 2)

    found = search(split, fit, 4, runs)
    assert (found.best, cast("Any", found.model).index) == (1, 1)
    assert [trial.params["index"] for trial in found.trials] == [0, 1, 2, 3]
    assert sorted(runs.logged[:3]) == ["0", "2", "3"]


def test_a_trial_that_fails_ends_the_others(split: Split) -> None:
    """Its error is raised; a trial that runs meanwhile ends with its next round, and no other begins, whatever is shown."""
    begun: list[int] = []
    running, ended = threading.Event(), threading.Event()

    def fit(index: int, *_: object, progress: Progress, **__: object) -> tuple[CatBoost, Trial]:
        begun.append(index)
        if index == 0:
            assert running.wait(30)
            raise DataRefused("nothing can be learnt", where="a test", hint="none")
        if index > 1:
            running.set()
            try:
                while not ended.wait(0.001):
                    progress("trial", 1, 2)
            finally:
                ended.set()
        return result(index, share=2)

    def show(task: str, done: int, total: int | None) -> None:
        del total
        if (task, done) == ("trials", 1):
            ended.wait(5)  # meanwhile, the search itself hears of nothing

    with pytest.raises(DataRefused, match="nothing can be learnt"):
        search(split, fit, 9, Runs(), show)
    assert ended.is_set()
    assert sorted(begun) == [0, 1, 2]


@pytest.mark.parametrize(
    ("threads", "trials", "rows", "expected"),
    [
        (8, 27, 12_000, (8, 1)),
        (8, 3, 12_000, (3, 2)),
        (8, 1, 12_000, (1, 8)),
        (1, 27, 12_000, (1, 1)),
        (8, 27, ONE_BY_ONE_ROWS, (8, 1)),
        (8, 27, ONE_BY_ONE_ROWS + 1, (1, 8)),
        (-1, 27, ONE_BY_ONE_ROWS + 1, (1, -1)),
    ],
)
def test_threads_are_divided_among_trials(threads: int, trials: int, rows: int, expected: tuple[int, int]) -> None:
    """No more threads than asked for; a trial of many rows has all of them, and memory, for itself."""
    assert divided(threads, trials=trials, rows=rows) == expected
