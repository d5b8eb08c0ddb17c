"""Stages of the data: from raw tables to a snapshot that keeps the contract."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd.errors import NotFound
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_store

if TYPE_CHECKING:
    import pandas as pd

    from ctcd.contract.validation import ValidationReport
    from ctcd.monitoring.outcome import DataMonitorReport
    from ctcd.store.ingest import IngestReport
    from ctcd.store.snapshot import SnapshotReport


def migrate(settings: Settings) -> None:
    """Bring the feature store's schema up to date."""
    from ctcd.store import migrations

    migrations.upgrade(settings.store_url, instance(settings).migrations)


def ingest(settings: Settings, source: Path, *, progress: Progress = silent) -> "IngestReport":
    """Bring a file or a folder of raw tables into the store; rows that break the contract are quarantined."""
    from ctcd.store.ingest import ingest

    contract = instance(settings).contract
    return ingest(open_store(settings), contract, source, chunk_rows=settings.ingest_chunk_rows, progress=progress)


def snapshot(settings: Settings, base_dt: date, *, months: int | None = None) -> "SnapshotReport":
    """Take the training snapshot of a day."""
    from ctcd.store.snapshot import take_snapshot

    contract = instance(settings).contract
    return take_snapshot(
        open_store(settings),
        contract,
        base_dt,
        months=months or settings.snapshot_months,
        keep_days=settings.snapshot_keep_days,
    )


def known_day(settings: Settings, base_dt: date | None) -> date:
    """Return the day that was asked for, else that of the newest snapshot.

    Raises:
        NotFound: there is no snapshot.
    """
    from ctcd.store.snapshot import latest_snapshot

    contract = instance(settings).contract
    day = base_dt or latest_snapshot(open_store(settings), contract)
    if day is None:
        raise NotFound("there is no snapshot", where=contract.snapshot_table, hint="run: ctcd snapshot")
    return day


def validate(settings: Settings, base_dt: date) -> "ValidationReport":
    """Check the snapshot of a day against the contract; the report is kept as JSON and as a page, whatever it says.

    Raises:
        ContractBroken: a rule is broken; carries the report.
    """
    return valid_snapshot(settings, base_dt)[1]


def valid_snapshot(settings: Settings, base_dt: date) -> "tuple[pd.DataFrame, ValidationReport]":
    """Return the rows of a snapshot that keeps the contract, and the report; see `validate`."""
    from ctcd.contract.schemas import snapshot_schema
    from ctcd.contract.validation import ContractBroken, examine
    from ctcd.contract.validation_page import write_validation
    from ctcd.store.snapshot import read_snapshot

    contract = instance(settings).contract
    frame = read_snapshot(open_store(settings), contract, base_dt)
    where = f"{contract.snapshot_table} of {base_dt}"
    report = examine(frame, snapshot_schema(contract), contract, where=where)
    write_validation(report, settings.reports / "validation", base_dt.isoformat())
    if report.breaches:
        raise ContractBroken(report)
    return frame, report


def monitor_data(settings: Settings, base_dt: date, *, accept_change: bool = False) -> "DataMonitorReport":
    """Hold the snapshot of a day, inside the database, against the contract and the last accepted snapshot."""
    from ctcd.monitoring.data_monitor import monitor_data
    from ctcd.monitoring.tolerances import load_tolerances

    found = instance(settings)
    tolerances = load_tolerances(found.monitoring_policy)
    return monitor_data(settings, found.contract, base_dt, tolerances=tolerances, accept_change=accept_change)
