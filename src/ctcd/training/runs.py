"""How a training is kept in MLflow: one parent run, one child run for each trial, evidence beside the model."""

import os
import re
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pydantic import ValidationError

from ctcd.contract.spec import Contract, names
from ctcd.model.metrics import Scores
from ctcd.training.split import Split
from ctcd.training.summary import TrainingReport, from_json, to_json
from ctcd.training.trial import Trial

EVIDENCE = "evidence"
HOLDOUT_FILE = "holdout.parquet"
SEEN_GROUPS_FILE = "seen_groups.parquet"
REPORT_FILE = "training.json"
FINGERPRINT, KIND, HOST, PID, PROCESS = "fingerprint", "kind", "host", "pid", "process"
"""Names of tags."""
TRAINING, TRIAL = "training", "trial"
"""Kinds of runs."""
ABANDONED_AFTER = timedelta(days=1)
"""Age at which a run of another host, whose process cannot be asked, counts as left behind."""
_THIS_PROCESS = uuid.uuid4().hex
_RUNNING, _FINISHED, _FAILED, _KILLED = (
    RunStatus.to_string(status)
    for status in (RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
)


def find_report(client: MlflowClient, experiment: str, fingerprint: str) -> TrainingReport | None:
    """Return the report of the newest finished training with a fingerprint, if there is one that can still be read."""
    for run in _search(client, experiment, f"tags.{FINGERPRINT} = '{fingerprint}'", _FINISHED):
        try:
            path = download_artifacts(
                run_id=run.info.run_id, artifact_path=f"{EVIDENCE}/{REPORT_FILE}", tracking_uri=client.tracking_uri
            )
            return from_json(Path(path).read_bytes())
        except (MlflowException, OSError, ValidationError):
            # Its artifacts are gone, or an older version wrote them: as if it were not there.
            continue
    return None


def end_abandoned(client: MlflowClient, experiment: str, fingerprint: str) -> int:
    """End the trainings with a fingerprint that a killed process left running; return how many there were.

    Runs of processes that live, on this host, are left alone; those of other hosts are, for a day.
    """
    abandoned = [
        run
        for run in _search(client, experiment, f"tags.{FINGERPRINT} = '{fingerprint}'", _RUNNING)
        if _is_abandoned(run)
    ]
    for run in abandoned:
        for child in _search(client, experiment, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'", _RUNNING):
            client.set_terminated(child.info.run_id, _KILLED)
        client.set_terminated(run.info.run_id, _KILLED)
    return len(abandoned)


@contextmanager
def training_run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, object]) -> Iterator[str]:
    """Give the id of a new parent run, which is finished at the end, or marked as failed or killed on an error."""
    own = {KIND: TRAINING, HOST: socket.gethostname(), PID: os.getpid(), PROCESS: _THIS_PROCESS}
    with _run(client, experiment, name, {**tags, **own}) as run_id:
        yield run_id


@contextmanager
def trial_run(client: MlflowClient, experiment: str, name: str, parent: str) -> Iterator[str]:
    """Give the id of a new child run, which is finished at the end, or marked as failed or killed on an error."""
    with _run(client, experiment, name, {KIND: TRIAL, MLFLOW_PARENT_RUN_ID: parent}) as run_id:
        yield run_id


def log_trial(client: MlflowClient, run_id: str, trial: Trial) -> None:
    """Log parameters, validation scores, iterations and seconds of a trial."""
    metrics = {**_flat("validation", trial.validation), "iterations": trial.iterations, "fit_seconds": trial.seconds}
    _log(client, run_id, metrics, trial.params)


def log_evidence(client: MlflowClient, run_id: str, report: TrainingReport, split: Split, contract: Contract) -> None:
    """Log the report, its figures, the holdout and the groups that were seen; nothing personal is in it."""
    metrics = {**_flat("holdout", report.holdout), "fit_seconds": report.fit_seconds, "seconds": report.seconds}
    for name, scores in report.baselines.items():
        metrics |= _flat(name, scores)
    winner = report.trials[report.best]
    _log(client, run_id, metrics | {"iterations": winner.iterations}, winner.params)
    group = contract.group.name
    seen = pd.concat([split.train[group], split.validation[group]]).drop_duplicates().sort_values()
    columns = [*names(contract.row_keys), *names(contract.model_inputs), contract.label.name]
    with tempfile.TemporaryDirectory() as folder:
        split.holdout[columns].to_parquet(Path(folder) / HOLDOUT_FILE, index=False)
        seen.to_frame().to_parquet(Path(folder) / SEEN_GROUPS_FILE, index=False)
        (Path(folder) / REPORT_FILE).write_bytes(to_json(report))
        client.log_artifacts(run_id, folder, EVIDENCE)


@contextmanager
def _run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, object]) -> Iterator[str]:
    run = client.create_run(experiment, run_name=name, tags={key: str(value) for key, value in tags.items()})
    try:
        yield run.info.run_id
    except BaseException as error:
        client.set_terminated(run.info.run_id, _FAILED if isinstance(error, Exception) else _KILLED)
        raise
    client.set_terminated(run.info.run_id, _FINISHED)


def _search(client: MlflowClient, experiment: str, condition: str, status: str) -> list[Run]:
    return list(
        client.search_runs(
            [experiment], f"{condition} and attributes.status = '{status}'", order_by=["attributes.start_time DESC"]
        )
    )


def _is_abandoned(run: Run) -> bool:
    tags = run.data.tags
    if tags.get(PROCESS) == _THIS_PROCESS:
        return False
    if tags.get(HOST) != socket.gethostname():
        started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        return datetime.now(UTC) - started > ABANDONED_AFTER
    pid = int(tags.get(PID, 0))
    # A container that starts anew has the host name and often the process id of the one that was killed.
    return pid == os.getpid() or not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flat(prefix: str, scores: Scores) -> dict[str, float]:
    single = {name: value for name, value in vars(scores).items() if name not in ("rows", "recall")}
    recall = {f"recall_{name}": value for name, value in scores.recall.items()}
    # MLflow allows but a few characters in a name.
    return {re.sub(r"[^\w\-. /]", "_", f"{prefix}_{name}"): value for name, value in (single | recall).items()}


def _log(client: MlflowClient, run_id: str, metrics: Mapping[str, float], params: Mapping[str, object]) -> None:
    now = int(datetime.now(UTC).timestamp() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)) for name, value in params.items()],
    )
