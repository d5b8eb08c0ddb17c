"""Stages of batch scoring, and of logged predictions: performance, drift, export, retention, and the look-up of one."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctcd.git import git_revision
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, open_store

if TYPE_CHECKING:
    from ctcd.model.served import Origin
    from ctcd.monitoring.drift import DriftReport
    from ctcd.monitoring.performance import PerformanceReport
    from ctcd.registry.versions import RegisteredVersion, Registry
    from ctcd.scoring.files import BatchReport
    from ctcd.scoring.spark import SparkScorer
    from ctcd.scoring.store import ScoringReport
    from ctcd.store.retention import RetentionReport
    from ctcd.store.warehouse import ExportReport

PROCESS, SPARK = "process", "spark"
"""Engines of batch scoring: this process, or tasks on Spark."""


def predict(
    settings: Settings, source: str, out: Path | None = None, *, engine: str = PROCESS, progress: Progress = silent
) -> "BatchReport":
    """Score a file, or a table of the store, with the champion; by default into the working directory.

    In this process into a CSV file, on Spark into a folder of Parquet files.
    """
    from ctcd.errors import UsageError
    from ctcd.scoring.files import BatchScorer, check_files
    from ctcd.store.sources import suffix_of

    contract = instance(settings).contract
    path = Path(source)
    stem = path.name[: len(path.name) - len(suffix_of(path))]
    out = out or Path(f"{stem}.predictions.{'parquet' if engine == SPARK else 'csv'}")
    is_table = source in (contract.features_table, contract.snapshot_table) and not path.exists()
    if engine == SPARK:
        from ctcd.scoring.spark import require_spark

        require_spark()
        if not is_table and not path.exists():
            raise UsageError("there is no such file", where=source, hint="correct the path")
        registry = open_registry(settings)
        spark = _on_spark(settings, registry, registry.champion(), progress)
        if is_table:
            return spark.score_table(open_store(settings), source, out)
        return spark.score_files(path, out)
    if not is_table:
        check_files(path, out)  # before the champion is fetched
    registry = open_registry(settings)
    champion = registry.champion()
    model = registry.scorer(champion, settings.scorers)
    scorer = BatchScorer(
        model,
        _origin(settings, champion, model.contract_version),
        contract,
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )
    if is_table:
        return scorer.score_table(open_store(settings), source, out)
    return scorer.score_file(path, out)


def predict_new(settings: Settings, *, engine: str = PROCESS, progress: Progress = silent) -> "ScoringReport":
    """Score the newest features of each group that the champion has not scored yet, into a table of the store."""
    from ctcd.registry.versions import CHAMPION
    from ctcd.scoring.store import ScoringReport, score_new
    from ctcd.store.tables import build_tables

    contract = instance(settings).contract
    if engine == SPARK:
        from ctcd.scoring.spark import require_spark

        require_spark()
    registry = open_registry(settings)
    champion = registry.find(CHAMPION)
    if champion is None:
        return ScoringReport(model_version=None, rows=0, shares={}, table=build_tables(contract).scores.name)
    if engine == SPARK:
        return _on_spark(settings, registry, champion, progress).score_new(open_store(settings))
    model = registry.scorer(champion, settings.scorers)
    return score_new(
        open_store(settings),
        contract,
        model,
        _origin(settings, champion, model.contract_version),
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )


def _on_spark(
    settings: Settings, registry: "Registry", champion: "RegisteredVersion", progress: Progress
) -> "SparkScorer":
    from ctcd.model.scorer import contract_version_of
    from ctcd.scoring.spark import SparkScorer

    folder = registry.scorer_folder(champion, settings.scorers)
    return SparkScorer(
        model=folder,
        instance=instance(settings),
        origin=_origin(settings, champion, contract_version_of(folder)),
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )


def _origin(settings: Settings, champion: "RegisteredVersion", contract_version: str) -> "Origin":
    from ctcd.model.served import Origin
    from ctcd.registry.versions import CHAMPION

    return Origin(
        model_version=champion.version,
        run_id=champion.run_id,
        contract_version=contract_version,
        served_by=settings.served_by or git_revision(settings),
        variant=CHAMPION,
    )


def performance(settings: Settings, base_dt: date, *, period: str) -> "PerformanceReport":
    """Compare the predictions before a day with the labels known by now, write the result to the store, and raise findings."""
    from dataclasses import replace

    from ctcd.monitoring.floors import raise_findings
    from ctcd.monitoring.performance import write_performance
    from ctcd.monitoring.periods import Period
    from ctcd.promotion.policy import Slices, load_policy

    found, store = instance(settings), open_store(settings)
    policy = load_policy(found)
    report = write_performance(
        store,
        found.contract,
        base_dt,
        period=Period(period),
        zone=settings.zone,
        slices=policy.slices if isinstance(policy.slices, Slices) else None,
        chunk_rows=settings.ingest_chunk_rows,
    )
    return replace(report, findings=raise_findings(store, found.contract, report.rows, policy.floors, base_dt))


def drift(settings: Settings, base_dt: date, *, period: str, progress: Progress = silent) -> "DriftReport":
    """Compare the last day or week before a day with what its models were trained on, write the result to the store, and raise findings."""
    from dataclasses import replace

    from ctcd.monitoring.drift import raise_findings, write_drift
    from ctcd.monitoring.periods import Period
    from ctcd.monitoring.tolerances import load_tolerances
    from ctcd.registry.versions import CHAMPION
    from ctcd.training.runs import TrainingRuns

    found = instance(settings)
    limits = load_tolerances(found).drift
    registry = open_registry(settings)
    champion, store = registry.find(CHAMPION), open_store(settings)
    report = write_drift(
        store,
        found.contract,
        base_dt,
        period=Period(period),
        zone=settings.zone,
        limits=limits,
        champion=(champion.version, champion.run_id) if champion else None,
        find_reference=TrainingRuns(registry.client, found.contract, settings).reference,
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )
    return replace(report, findings=raise_findings(store, found.contract, report))


def export(
    settings: Settings, base_dt: date, folder: str = "", *, days: int, progress: Progress = silent
) -> "ExportReport":
    """Write the predictions of the days before a day to a folder, by default that of the settings, as Parquet files.

    Then BigQuery loads them, if the settings name a table.
    """
    from datetime import timedelta

    from ctcd.store import bigquery
    from ctcd.store.warehouse import export_log

    contract, folder = instance(settings).contract, warehouse(settings, folder)
    if settings.bigquery:
        bigquery.require_loadable(contract, folder)
    report = export_log(
        open_store(settings),
        contract,
        [base_dt - timedelta(days=back) for back in range(days, 0, -1)],
        folder,
        zone=settings.zone,
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )
    if not settings.bigquery:
        return report
    return bigquery.load_days(contract, report, settings.bigquery, progress=progress)


def retain(settings: Settings, *, partition: bool = False, progress: Progress = silent) -> "RetentionReport":
    """Delete the months of the prediction log that the settings no longer keep; if asked to, first give it partitions.

    Raises:
        UsageError: partitions are asked for, but the store is SQLite, or an unrelated table has a name that they need;
            or there is a warehouse that does not have everything that would be deleted.
        Unreachable: the store does not answer, or the log was in use for too long; it can be run again.
        NotFound: the log's table is missing.
    """
    from functools import partial

    from ctcd.store.retention import retain
    from ctcd.store.warehouse import require_exported

    store, contract = open_store(settings), instance(settings).contract
    copied = (
        partial(require_exported, store, contract, folder=warehouse(settings, ""), zone=settings.zone)
        if settings.warehouse
        else None
    )
    return retain(
        store,
        contract,
        # Months are those of UTC: the earlier calendar, so that a month does not go before it is over in both.
        min(settings.today(), settings.model_copy(update={"timezone": "UTC"}).today()),
        require_copied=copied,
        keep_months=settings.log_keep_months,
        partitions=partition,
        progress=progress,
    )


def warehouse(settings: Settings, folder: str) -> str:
    """Return a folder or URL for exports, by default that of the settings.

    Raises:
        UsageError: there is none, or it holds a secret.
    """
    from ctcd.errors import UsageError
    from ctcd.urls import masked, shows_secret

    folder = folder or settings.warehouse
    if not folder:
        raise UsageError("no folder to export to", where="CTCD_WAREHOUSE", hint="set it, or give a FOLDER")
    if shows_secret(folder):
        raise UsageError(
            "it holds a password or token", where=masked(folder), hint="give it as the cloud's own tools take it"
        )
    return folder


def warehouse_statements(settings: Settings, folder: str, *, table: str, dialect: str) -> str:
    """Return the SQL with which a warehouse loads what was exported to a folder, by default that of the settings."""
    from ctcd.store.warehouse import Dialect, load_statements

    contract = instance(settings).contract
    return load_statements(contract, warehouse(settings, folder), table or contract.predictions_table, Dialect(dialect))


def logged_predictions(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    """Return the rows of a request in the prediction log: one for `/predict`, one for each row of `/predict_batch`."""
    from sqlalchemy import select

    from ctcd.store.prediction_log import of_requests
    from ctcd.store.tables import build_tables

    contract = instance(settings).contract
    predictions = build_tables(contract).predictions
    with open_store(settings).connect() as connection:
        found = connection.execute(
            select(predictions).where(of_requests(contract, [request_id])).order_by(predictions.c.id)
        )
        return [dict(row) for row in found.mappings()]


def lookup(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    """Return what a request was answered, and with which model; see `logged_predictions`.

    Raises:
        NotFound: the log has no such request.
    """
    from ctcd.errors import NotFound

    found = logged_predictions(settings, request_id)
    if not found:
        raise NotFound(
            f"no prediction has the request id {request_id!r}",
            where=instance(settings).contract.predictions_table,
            hint="a prediction reaches the store a moment after its answer; see also: ctcd outbox list",
        )
    return found
