"""How trainings are stored in MLflow: a parent run with its evidence, and a child run for each trial."""

import json
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
import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE
from pydantic import TypeAdapter, ValidationError

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, Unreachable
from ctcd.model.metrics import Scores
from ctcd.model.pyfunc import signature
from ctcd.model.reference import Reference
from ctcd.registry.tracking import experiment_id, mlflow_errors, translate_mlflow_errors, unless_missing
from ctcd.settings import Settings
from ctcd.training.fingerprint import FINGERPRINT
from ctcd.training.split import Split, kept
from ctcd.training.summary import TrainingReport
from ctcd.training.trial import Trial

EVIDENCE = "evidence"
"""Folder of a training's artifacts in which these files are."""
HOLDOUT_FILE = "holdout.parquet"
SEEN_GROUPS_FILE = "seen_groups.parquet"
REPORT_FILE = "training.json"
REFERENCE_FILE = "reference.json"
KIND, HOST, PID, PROCESS = "kind", "host", "pid", "process"
"""Names of tags."""
TRAINING, TRIAL = "training", "trial"
"""Values of the tag `KIND`."""
LOSS = "loss_"
"""Prefix of the metrics that are a learning curve: one value for each round that is kept."""
ABANDONED_AFTER = timedelta(days=1)
"""Age at which a run of another host, whose process cannot be checked, counts as abandoned."""
_REPORTS = TypeAdapter(TrainingReport)
_THIS_PROCESS = uuid.uuid4().hex
_RUNNING, _FINISHED, _FAILED, _KILLED = (
    RunStatus.to_string(status)
    for status in (RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
)


@translate_mlflow_errors
class TrainingRuns:
    """The trainings in the MLflow experiment of one contract.

    Every method raises `Unreachable` if MLflow does not answer or denies access.
    """

    def __init__(self, client: MlflowClient, contract: Contract, settings: Settings) -> None:
        self.client, self._contract = client, contract
        with mlflow_errors(client.tracking_uri):
            self._experiment = experiment_id(client, contract, settings)

    def find_report(self, fingerprint: str) -> TrainingReport | None:
        """Return the report of the newest finished training with a fingerprint, or None if there is no readable one."""
        for run in self._search(f"tags.{FINGERPRINT} = '{fingerprint}'", _FINISHED):
            try:
                return self.report(run.info.run_id)
            except (NotFound, Unreachable):
                continue
        return None

    def report(self, run_id: str) -> TrainingReport:
        """Return the report of a training.

        Raises:
            NotFound: it is missing, or another version of the package wrote it.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                return _REPORTS.validate_json(self._download(run_id, REPORT_FILE, folder).read_bytes())
            except (OSError, ValidationError) as error:
                raise NotFound(
                    f"{REPORT_FILE} is missing or cannot be read",
                    where=f"evidence of run {run_id}",
                    hint="train again: ctcd train --force",
                ) from error

    def end_abandoned(self, fingerprint: str) -> None:
        """Mark trainings with a fingerprint as killed if their process left them running.

        Runs of live processes on this host are left alone, and runs of other hosts for a day.
        """
        for run in filter(_is_abandoned, self._search(f"tags.{FINGERPRINT} = '{fingerprint}'", _RUNNING)):
            for child in self._search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'", _RUNNING):
                self.client.set_terminated(child.info.run_id, _KILLED)
            self.client.set_terminated(run.info.run_id, _KILLED)

    def newest(self) -> str:
        """Return the run of the newest finished training.

        Raises:
            NotFound: there is none.
        """
        found = self._search(f"tags.{KIND} = '{TRAINING}'", _FINISHED)
        if not found:
            where = f"experiment {self._contract.name}"
            raise NotFound("no finished training", where=where, hint="run: ctcd train")
        return str(found[0].info.run_id)

    def evidence(self, run_id: str, name: str) -> pd.DataFrame:
        """Return a table of a training's evidence: `HOLDOUT_FILE` or `SEEN_GROUPS_FILE`.

        Raises:
            NotFound: the file is missing.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                return pd.read_parquet(self._download(run_id, name, folder))
            except OSError as error:
                raise NotFound(
                    f"{name} is missing", where=f"evidence of run {run_id}", hint="train again: ctcd train --force"
                ) from error

    def reference(self, run_id: str) -> Reference | None:
        """Return the reference that a training stored; None without such a run, or with one of an old release."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = unless_missing(self._download, run_id, REFERENCE_FILE, folder)
                return Reference.from_json(path.read_bytes()) if path else None
            except (OSError, ValidationError):
                return None

    @contextmanager
    def training_run(self, name: str, tags: Mapping[str, object]) -> Iterator[str]:
        """Yield the id of a new parent run, which ends as finished, or as failed or killed on an exception."""
        own = {KIND: TRAINING, HOST: socket.gethostname(), PID: os.getpid(), PROCESS: _THIS_PROCESS}
        with mlflow_errors(self.client.tracking_uri), self._run(name, {**tags, **own}) as run_id:
            yield run_id

    @contextmanager
    def trial_run(self, name: str, parent: str) -> Iterator[str]:
        """Yield the id of a new child run, which ends as finished, or as failed or killed on an exception."""
        with self._run(name, {KIND: TRIAL, MLFLOW_PARENT_RUN_ID: parent}) as run_id:
            yield run_id

    def log_trial(self, run_id: str, trial: Trial) -> None:
        """Log parameters, validation scores, iterations and seconds of a trial."""
        scores = _flat("validation", trial.validation)
        metrics = {**scores, "iterations": trial.iterations, "fit_seconds": trial.seconds}
        self._log(run_id, metrics, trial.params, trial.curve)

    def log_evidence(self, run_id: str, report: TrainingReport, split: Split, reference: Reference) -> None:
        """Log the report, its metrics, the holdout, the groups seen in training, and the reference; no personal column is among them."""
        metrics = {**_flat("holdout", report.holdout), "fit_seconds": report.fit_seconds, "seconds": report.seconds}
        for name, scores in report.baselines.items():
            metrics |= _flat(name, scores)
        winner, contract = report.trials[report.best], self._contract
        self._log(run_id, metrics | {"iterations": winner.iterations}, winner.params, winner.curve)
        self.client.log_inputs(run_id, [_data_set(report, contract)])
        group = contract.group.name
        seen = pd.concat([split.train[group], split.validation[group]]).drop_duplicates().sort_values()
        with tempfile.TemporaryDirectory() as folder:
            holdout = kept(split.holdout, contract)
            # Text, which a model's signature asks for; the parts of a large snapshot have categories.
            texts = holdout.select_dtypes("category").columns
            holdout.astype(dict.fromkeys(texts, "str")).to_parquet(Path(folder) / HOLDOUT_FILE, index=False)
            seen.to_frame().to_parquet(Path(folder) / SEEN_GROUPS_FILE, index=False)
            (Path(folder) / REPORT_FILE).write_bytes(_REPORTS.dump_json(report, indent=2))
            (Path(folder) / REFERENCE_FILE).write_bytes(reference.to_json())
            self.client.log_artifacts(run_id, folder, EVIDENCE)

    @contextmanager
    def _run(self, name: str, tags: Mapping[str, object]) -> Iterator[str]:
        texts = {key: str(value) for key, value in tags.items() if value is not None}
        run = self.client.create_run(self._experiment, run_name=name, tags=texts)
        try:
            yield run.info.run_id
        except BaseException as error:
            self.client.set_terminated(run.info.run_id, _FAILED if isinstance(error, Exception) else _KILLED)
            raise
        self.client.set_terminated(run.info.run_id, _FINISHED)

    def _search(self, condition: str, status: str) -> list[Run]:
        """Return the runs that meet a condition, newest first."""
        condition += f" and attributes.status = '{status}'"
        return list(self.client.search_runs([self._experiment], condition, order_by=["attributes.start_time DESC"]))

    def _download(self, run_id: str, name: str, folder: str) -> Path:
        path = f"{EVIDENCE}/{name}"
        uri = self.client.tracking_uri
        try:
            return Path(download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder, tracking_uri=uri))
        except requests.RequestException:  # an OSError, too, which would say that the file is missing
            with mlflow_errors(uri):
                raise

    def _log(
        self, run_id: str, metrics: Mapping[str, float], params: Mapping[str, object], curve: Mapping[str, list[float]]
    ) -> None:
        now = int(datetime.now(UTC).timestamp() * 1000)
        points = [
            Metric(f"{LOSS}{name}", value, now, int(step))
            for name, values in curve.items()
            if name != "round"
            for step, value in zip(curve["round"], values, strict=True)
        ]
        self.client.log_batch(
            run_id,
            metrics=[*(Metric(name, value, now, 0) for name, value in metrics.items()), *points],
            params=[Param(name, str(value)) for name, value in params.items()],
        )


def _data_set(report: TrainingReport, contract: Contract) -> DatasetInput:
    """Return the snapshot of a training as MLflow lists it; its digest is the beginning of the data's hash."""
    source = {"table": contract.snapshot_table, contract.snapshot_date: str(report.base_dt), "sha256": report.data_hash}
    rows = {name: part.rows for name, part in report.parts.items()}
    found = Dataset(
        name=f"{contract.snapshot_table} {report.base_dt}",
        digest=report.data_hash[:MAX_DATASET_DIGEST_SIZE],
        source_type="code",  # of MLflow's types, the one for what no URL leads to
        source=json.dumps({"tags": source}),
        schema=json.dumps({"mlflow_colspec": signature(contract).inputs.to_dict()}),
        profile=json.dumps({"num_rows": sum(rows.values()), **rows}),
    )
    return DatasetInput(found, [InputTag(MLFLOW_DATASET_CONTEXT, TRAINING)])


def _is_abandoned(run: Run) -> bool:
    tags = run.data.tags
    if tags.get(PROCESS) == _THIS_PROCESS:
        return False
    if tags.get(HOST) != socket.gethostname():
        started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        return datetime.now(UTC) - started > ABANDONED_AFTER
    pid = int(tags.get(PID, 0))
    # A restarted container has the host name, and often the process id, of the one that was killed.
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
    single = {
        name: value for name, value in vars(scores).items() if name not in ("rows", "recall") and value is not None
    }
    recall = {f"recall_{name}": value for name, value in scores.recall.items()}
    # MLflow allows few characters in a name.
    return {re.sub(r"[^\w\-. /]", "_", f"{prefix}_{name}"): value for name, value in (single | recall).items()}
