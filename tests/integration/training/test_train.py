import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.spec import names
from ctcd.errors import DataRefused, Unreachable
from ctcd.model.metrics import scores
from ctcd.model.scorer import PROBABILITY, Scorer
from ctcd.registry import tracking
from ctcd.registry.versions import SCORER_FOLDER
from ctcd.settings import Settings
from ctcd.training import runs
from ctcd.training.fingerprint import FINGERPRINT
from ctcd.training.grid import Profile, load_profile
from ctcd.training.job import Plan
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import split_by_group
from ctcd.training.summary import TrainingReport
from ctcd.training.train import train

pytestmark = pytest.mark.integration

BASE_DT = date(2025, 8, 31)
ROWS = 2_000
SEED = 11
SMOKE = load_profile("smoke", INSTANCE)
TWO = Profile(
    name="two",
    description="",
    fixed={name: value for name, value in SMOKE.fixed.items() if name != "iterations"},
    grid={"iterations": [2, 40]},
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return snapshot_frame(CONTRACT, rows=ROWS, base_dt=BASE_DT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Settings:
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_mlflow, home)
    return Settings(home=home)


@pytest.fixture(scope="module")
def report(frame: pd.DataFrame, shared: Settings) -> TrainingReport:
    """A training of two trials that several tests look at."""
    return run(frame, shared, profile=TWO)


def run(frame: pd.DataFrame, settings: Settings, **changes: Any) -> TrainingReport:
    given = {"profile": SMOKE, "base_dt": BASE_DT, "seed": SEED, "threads": 2, **changes}
    settings = settings.model_copy(update={name: given.pop(name) for name in ("seed", "threads")})
    plan = Plan(profile=given.pop("profile"), base_dt=given.pop("base_dt"))
    return train(frame, CONTRACT, plan, settings=settings, **given)


def client_of(settings: Settings) -> tuple[MlflowClient, str]:
    client = tracking.connect(settings)
    return client, tracking.experiment_id(client, CONTRACT, settings)


def all_runs(settings: Settings, kind: str = runs.TRAINING) -> list[Run]:
    client, experiment = client_of(settings)
    return list(client.search_runs([experiment], f"tags.{runs.KIND} = '{kind}'"))


def scorer_of(report: TrainingReport, settings: Settings) -> Scorer:
    tracking.connect(settings)
    return Scorer.load(Path(download_artifacts(f"runs:/{report.run_id}/model")) / SCORER_FOLDER)


def evidence(report: TrainingReport, settings: Settings, name: str) -> pd.DataFrame:
    tracking.connect(settings)
    return pd.read_parquet(download_artifacts(f"runs:/{report.run_id}/{runs.EVIDENCE}/{name}"))


def test_parent_run_says_what_was_trained(report: TrainingReport, shared: Settings) -> None:
    """The parent run is finished and carries tags for data, contract, profile, date, seed and source."""
    (parent,) = all_runs(shared)
    assert parent.info.run_id == report.run_id
    assert parent.info.status == "FINISHED"
    expected = {
        "kind": "training",
        "fingerprint": report.fingerprint,
        "base_dt": "2025-08-31",
        "profile": "two",
        "data_hash": report.data_hash,
        "contract_version": CONTRACT.version,
        "git_revision": report.git_revision,
        "seed": str(SEED),
    }
    assert expected.items() <= parent.data.tags.items()
    assert parent.data.metrics["holdout_macro_f1"] == pytest.approx(report.holdout.macro_f1)
    assert parent.data.metrics["logistic_regression_macro_f1"] > parent.data.metrics["majority_class_macro_f1"]


def test_every_trial_is_a_child_run(report: TrainingReport, shared: Settings) -> None:
    """Each trial has a run below the parent, with its parameters, scores, trees and seconds."""
    children = {child.data.params["iterations"]: child for child in all_runs(shared, runs.TRIAL)}
    assert len(children) == len(report.trials) == 2
    for trial in report.trials:
        child = children[str(trial.params["iterations"])]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == report.run_id
        assert child.data.params == {name: str(value) for name, value in trial.params.items()}
        assert child.data.metrics["iterations"] == trial.iterations
        assert child.data.metrics["fit_seconds"] == pytest.approx(trial.seconds)
        assert child.data.metrics["validation_macro_f1"] == pytest.approx(trial.validation.macro_f1)
        for label, recall in trial.validation.recall.items():
            assert child.data.metrics[f"validation_recall_{label}"] == pytest.approx(recall)


def test_the_reference_is_frozen_with_the_model(report: TrainingReport, shared: Settings, frame: pd.DataFrame) -> None:
    """All rows of the snapshot are in the bins of each feature, and the answers are those for the holdout."""
    found = runs.TrainingRuns(tracking.connect(shared), CONTRACT, shared)
    reference = found.reference(report.run_id)
    assert reference is not None
    assert {sum(each.counts.bins) + each.counts.missing for each in reference.columns.values()} == {len(frame)}
    holdout = split_by_group(frame, CONTRACT, seed=SEED).holdout
    predicted = scorer_of(report, shared).predict(holdout)
    counts = reference.count_answers(predicted.classes, predicted.confidences)
    assert {name: each.counts.bins for name, each in reference.answers.items()} == {
        name: each.bins for name, each in counts.items()
    }
    assert found.reference("0" * 32) is found.reference("no run") is None


def test_best_of_validation_wins(report: TrainingReport, shared: Settings) -> None:
    """The model of the trial with the best macro F1 on the validation part is logged."""
    reached = [trial.validation.macro_f1 for trial in report.trials]
    assert reached[0] != reached[1]
    assert report.best == reached.index(max(reached))
    scorer = scorer_of(report, shared)
    assert scorer.estimator.rounds == scorer.params["iterations"] == report.trials[report.best].iterations


def test_trials_are_stopped_and_scored_on_the_validation_part(
    report: TrainingReport, shared: Settings, frame: pd.DataFrame
) -> None:
    """Trials are compared by their score on the validation part, not on the holdout."""
    validation = split_by_group(frame, CONTRACT, seed=SEED).validation
    labels = validation[CONTRACT.label.name].to_list()
    reached = scores(labels, scorer_of(report, shared).probabilities(validation), CONTRACT.classes)
    reported = report.trials[report.best].validation
    assert reported.recall == pytest.approx(reached.recall)
    assert (reported.macro_f1, reported.log_loss) == pytest.approx((reached.macro_f1, reached.log_loss))


def test_holdout_is_scored_with_the_logged_model(report: TrainingReport, shared: Settings, frame: pd.DataFrame) -> None:
    """The evidence is exactly the holdout, and the logged model has the reported scores on it."""
    holdout = evidence(report, shared, runs.HOLDOUT_FILE)
    split = split_by_group(frame, CONTRACT, seed=SEED)
    columns = (*CONTRACT.row_keys, *CONTRACT.model_inputs, CONTRACT.label, CONTRACT.event_date)
    assert list(holdout) == names(columns)
    assert holdout[CONTRACT.key.name].to_list() == split.holdout[CONTRACT.key.name].to_list()
    model = mlflow.pyfunc.load_model(f"runs:/{report.run_id}/model")
    answers = model.predict(holdout)
    assert (answers["prediction"] == holdout[CONTRACT.label.name]).mean() == pytest.approx(report.holdout.accuracy)
    assert report.parts["holdout"].rows == report.holdout.rows == len(holdout)


def test_mlflow_model_and_scorer_agree(report: TrainingReport, shared: Settings, frame: pd.DataFrame) -> None:
    """The MLflow model gives the scorer's probabilities, bit for bit, on rows with nulls and unseen categories."""
    rows = frame.copy()
    for column in CONTRACT.model_inputs:
        if column.nullable:
            rows.loc[::3, column.name] = None
        elif column.pattern and column.list_of is None:
            rows.loc[::5, column.name] = "Never seen"
    tracking.connect(shared)
    answers = mlflow.pyfunc.load_model(f"runs:/{report.run_id}/model").predict(rows)
    probabilities = answers[[f"{PROBABILITY}{name}" for name in CONTRACT.classes]].to_numpy()
    np.testing.assert_array_equal(probabilities, scorer_of(report, shared).probabilities(rows))


def test_groups_that_were_seen_are_not_in_the_holdout(
    report: TrainingReport, shared: Settings, frame: pd.DataFrame
) -> None:
    """The seen groups are those of training and validation; together with the holdout's they are all groups."""
    seen = set(evidence(report, shared, runs.SEEN_GROUPS_FILE)[CONTRACT.group.name])
    held = set(evidence(report, shared, runs.HOLDOUT_FILE)[CONTRACT.group.name])
    assert not seen & held
    assert seen | held == set(frame[CONTRACT.group.name])


def test_preprocessing_saw_the_training_part_only(
    report: TrainingReport, shared: Settings, frame: pd.DataFrame
) -> None:
    """The encoder in the logged model was fitted on the training part, not on all rows."""
    fitted = scorer_of(report, shared).encoder
    assert fitted == fit_encoder(split_by_group(frame, CONTRACT, seed=SEED).train, CONTRACT)
    assert fitted != fit_encoder(frame, CONTRACT)


def test_nothing_personal_is_logged(frame: pd.DataFrame, settings: Settings) -> None:
    """Personal columns of a frame are written to no artifact and no table of MLflow."""
    marker = "Jane-Marker-Doe"
    run(frame.assign(**{column.name: marker for column in CONTRACT.personal}), settings)
    written = [path for path in settings.home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in written)
    assert [path for path in written if marker.encode() in path.read_bytes()] == []


def test_same_training_is_not_done_twice(frame: pd.DataFrame, settings: Settings) -> None:
    """The same data in another order is not trained on again; with force it is, and gives the same probabilities."""
    first = run(frame, settings)
    again = run(frame.sample(frac=1, random_state=1), settings)
    assert again.reused
    assert (again.run_id, again.trials, again.holdout) == (first.run_id, first.trials, first.holdout)
    assert len(all_runs(settings)) == 1
    forced = run(frame.sample(frac=1, random_state=2), settings, force=True, threads=1)
    assert not forced.reused
    assert len(all_runs(settings)) == 2
    one, other = (scorer_of(report, settings).probabilities(frame) for report in (first, forced))
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_other_data_are_not_served_by_an_earlier_training(frame: pd.DataFrame, settings: Settings) -> None:
    """A finished training is not reused for data that differ by one row."""
    assert run(frame, settings).run_id != run(frame.iloc[1:], settings).run_id


def test_a_training_whose_evidence_is_lost_is_done_again(frame: pd.DataFrame, settings: Settings) -> None:
    """A finished run without its report is not reused."""
    first = run(frame, settings)
    for path in settings.artifacts.rglob(runs.REPORT_FILE):
        path.unlink()
    assert run(frame, settings).run_id != first.run_id


def test_a_killed_training_can_be_run_again(frame: pd.DataFrame, settings: Settings, tmp_path: Path) -> None:
    """Runs that a killed process left running are marked as killed, and training again succeeds."""
    frame.to_parquet(tmp_path / "frame.parquet")
    code = f"""
        import os, signal, pandas as pd
        from datetime import date
        from support.instance import CONTRACT, INSTANCE
        from ctcd.settings import Settings
        from ctcd.training.grid import load_profile
        from ctcd.training.job import Plan
        from ctcd.training.train import train

        def die(task, done, total):
            if task == "trial 1 of 1" and done == 5:
                os.kill(os.getpid(), signal.SIGKILL)

        plan = Plan(profile=load_profile("smoke", INSTANCE), base_dt=date(2025, 8, 31))
        train(pd.read_parquet({str(tmp_path / "frame.parquet")!r}), CONTRACT, plan,
              settings=Settings(home={str(settings.home)!r}, seed={SEED}, threads=1), progress=die)
    """
    done = subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert [left.info.status for left in all_runs(settings) + all_runs(settings, runs.TRIAL)] == ["RUNNING", "RUNNING"]
    report = run(frame, settings)
    assert not report.reused
    assert {run.info.run_id: run.info.status for run in all_runs(settings)}[report.run_id] == "FINISHED"
    for kind in (runs.TRAINING, runs.TRIAL):
        assert sorted(run.info.status for run in all_runs(settings, kind)) == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_breaks_off_is_marked(
    frame: pd.DataFrame, settings: Settings, error: type[BaseException], status: str
) -> None:
    """An exception during training marks run and trial as failed, an interrupt as killed; neither is reused."""

    def stop(*step: object) -> None:
        if step == ("trials", 1, 1):
            raise error

    with pytest.raises(error):
        run(frame, settings, progress=stop)
    assert [left.info.status for left in all_runs(settings)] == [status]
    assert not run(frame, settings).reused


@pytest.mark.parametrize(
    ("tags", "age", "ended"),
    [
        ({runs.HOST: "here", runs.PID: "parent", runs.PROCESS: "x"}, timedelta(days=9), False),
        ({runs.HOST: "here", runs.PID: "dead", runs.PROCESS: "x"}, timedelta(0), True),
        ({runs.HOST: "here", runs.PID: "own", runs.PROCESS: "x"}, timedelta(0), True),
        ({runs.HOST: "elsewhere", runs.PID: "dead", runs.PROCESS: "x"}, timedelta(hours=23), False),
        ({runs.HOST: "elsewhere", runs.PID: "dead", runs.PROCESS: "x"}, timedelta(hours=25), True),
    ],
    ids=["alive", "dead", "process id used again", "another host", "another host, long ago"],
)
def test_only_abandoned_trainings_are_ended(
    settings: Settings, tags: dict[str, str], age: timedelta, ended: bool
) -> None:
    """A running training is marked as killed only if its process has ended, or cannot be checked and the run is old."""
    with subprocess.Popen([sys.executable, "-c", ""]) as finished:
        pass
    pids = {"parent": os.getppid(), "dead": finished.pid, "own": os.getpid()}
    host = os.uname().nodename if tags[runs.HOST] == "here" else "another-host"
    client, experiment = client_of(settings)
    start = datetime.now(UTC) - age
    left = client.create_run(
        experiment,
        start_time=int(start.timestamp() * 1000),
        tags={**tags, FINGERPRINT: "f", runs.HOST: host, runs.PID: str(pids[tags[runs.PID]])},
    )
    runs.TrainingRuns(client, CONTRACT, settings).end_abandoned("f")
    assert client.get_run(left.info.run_id).info.status == ("KILLED" if ended else "RUNNING")


def test_a_training_of_this_process_is_left_alone(settings: Settings) -> None:
    """A training in another thread of this process is not ended."""
    trainings = runs.TrainingRuns(tracking.connect(settings), CONTRACT, settings)
    with trainings.training_run("n", {FINGERPRINT: "f"}) as run_id:
        trainings.end_abandoned("f")
        assert trainings.client.get_run(run_id).info.status == "RUNNING"


def test_progress_covers_trials_and_trees(frame: pd.DataFrame, settings: Settings) -> None:
    """Progress covers all trials, and all trees of each trial."""
    reported: list[tuple[str, int, int | None]] = []
    run(frame, settings, profile=TWO, progress=lambda *step: reported.append(step))
    assert [step for step in reported if step[0] == "trials"] == [("trials", 0, 2), ("trials", 1, 2), ("trials", 2, 2)]
    for name, total in (("trial 1 of 2", 2), ("trial 2 of 2", 40)):
        steps = [done for task, done, of in reported if task == name and of == total]
        assert steps == sorted(steps)
        assert steps[-1] == total


def test_too_little_data_leaves_no_run(frame: pd.DataFrame, settings: Settings) -> None:
    """Data that cannot be split is refused before anything is logged."""
    with pytest.raises(DataRefused, match="too little data"):
        run(frame.head(3), settings)
    assert all_runs(settings) == []


def test_a_missing_column_is_refused(frame: pd.DataFrame, settings: Settings) -> None:
    """A frame that lacks a column is refused with its name."""
    with pytest.raises(DataRefused, match=re.escape(CONTRACT.label.name)):
        run(frame.drop(columns=CONTRACT.label.name), settings)


def test_an_unreachable_mlflow_gives_a_one_line_error(frame: pd.DataFrame) -> None:
    """A tracking server that does not answer gives a one-line error that names it."""
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9"):
        run(frame, Settings.model_validate({"mlflow_tracking_uri": "http://127.0.0.1:9"}))


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """A snapshot of 20,000 rows."""
    return snapshot_frame(CONTRACT, rows=20_000, base_dt=BASE_DT)


def test_fast_profile_reaches_its_floors(many: pd.DataFrame, settings: Settings) -> None:
    """On 20,000 rows the fast profile reaches accuracy 0.69 and macro F1 0.665, and beats the baselines."""
    report = run(many, settings, profile=load_profile("fast", INSTANCE), seed=42)
    assert report.holdout.accuracy >= 0.69
    assert report.holdout.macro_f1 >= 0.665
    for baseline in ("majority_class", "logistic_regression"):
        assert report.holdout.macro_f1 > report.baselines[baseline].macro_f1 + 0.02
        assert report.holdout.log_loss < report.baselines[baseline].log_loss
