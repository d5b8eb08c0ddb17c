"""Stages of the data: from raw tables to a snapshot that meets the contract."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd.errors import NotFound
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_store
from ctcd.stages.findings import record_refusal

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

    from ctcd.contract.validation import ValidationReport
    from ctcd.monitoring.outcome import DataMonitorReport
    from ctcd.store.ingest import IngestReport
    from ctcd.store.ingested import Quarantined, SourceFile
    from ctcd.store.snapshot import SnapshotReport


@dataclass(eq=False)
class ValidSnapshot:
    """A snapshot that meets the contract: its rows, and the report.

    Args:
        frame: the columns of `snapshot_schema`, those of text as categories.
        quarantined: rows that the store had refused by then.
        sources: files that had been ingested by then.
    """

    day: date
    frame: "pd.DataFrame"
    report: "ValidationReport"
    quarantined: "tuple[Quarantined, ...]" = ()
    sources: "tuple[SourceFile, ...]" = ()

    def give_up(self) -> "pd.DataFrame":
        """Return the rows and keep none, so that they are in memory only as long as the caller needs them."""
        frame, self.frame = self.frame, self.frame.iloc[:0].copy()
        return frame


def migrate(settings: Settings) -> tuple[str, ...]:
    """Migrate the feature store's schema to the newest version; return the tables that were missing and are empty now."""
    from ctcd.store import migrations

    found = instance(settings)
    migrations.upgrade(settings.store_url, found.migrations)
    return migrations.restore(settings.store_url, found.contract)


def ingest(settings: Settings, source: Path, *, replace: bool = False, progress: Progress = silent) -> "IngestReport":
    """Load a file or a folder of raw tables into the store; rows that break the contract are quarantined."""
    from ctcd.store.ingest import ingest

    store, contract = open_store(settings), instance(settings).contract
    return ingest(
        store,
        contract,
        source,
        chunk_rows=settings.ingest_chunk_rows,
        replace=replace,
        today=settings.today(),
        progress=progress,
    )


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


def validate_snapshot(settings: Settings, base_dt: date | None) -> "ValidationReport":
    """Validate a snapshot as `valid_snapshot` does, in memory that does not depend on its rows."""
    return _validated(settings, open_store(settings), base_dt, lambda _: None)[1]


def valid_snapshot(settings: Settings, base_dt: date | None) -> ValidSnapshot:
    """Read the snapshot of a day, by default the newest one, validate it, and write the report as JSON and HTML.

    Raises:
        NotFound: there is no snapshot.
        ContractBroken: a rule is broken; carries the report.
    """
    from ctcd.store.ingested import quarantined, source_files
    from ctcd.store.snapshot import compact, joined

    frames: list[pd.DataFrame] = []
    contract, store = instance(settings).contract, open_store(settings)
    day, report = _validated(settings, store, base_dt, lambda frame: frames.append(compact(frame)))
    return ValidSnapshot(day, joined(frames), report, quarantined(store, contract), source_files(store, contract))


def _validated(
    settings: Settings, store: "Engine", base_dt: date | None, use: "Callable[[pd.DataFrame], None]"
) -> "tuple[date, ValidationReport]":
    """Validate a snapshot and write the report; `use` gets the rows, in several frames."""
    from ctcd import html_report
    from ctcd.contract.schemas import snapshot_schema
    from ctcd.contract.validation import ContractBroken, examine_chunks
    from ctcd.contract.validation_page import validation_page
    from ctcd.store.snapshot import latest_snapshot, snapshot_chunks

    contract = instance(settings).contract
    day, folder = base_dt or latest_snapshot(store, contract), settings.reports / "validation"
    if day is None:
        raise NotFound("there is no snapshot", where=contract.snapshot_table, hint="run: ctcd snapshot")

    def used() -> "Iterator[pd.DataFrame]":
        for frame in snapshot_chunks(store, contract, day):
            use(frame)
            yield frame

    where = f"{contract.snapshot_table} of {day}"
    report = examine_chunks(used(), snapshot_schema(contract), contract, where=where, ordered=True)
    report = replace(report, page=str(folder / f"{day}.html"))
    html_report.write(validation_page(report), report, folder, str(day))
    if report.breaches:
        broken = {f"{breach.column} {breach.rule}".strip(): breach.count for breach in report.breaches}
        record_refusal(settings, store, contract, "validate", broken)
        raise ContractBroken(report)
    return day, report


def monitor_data(settings: Settings, base_dt: date | None, *, accept_change: bool = False) -> "DataMonitorReport":
    """Check the snapshot of a day, by default the newest, against the contract and the last accepted snapshot."""
    from ctcd.monitoring.data_monitor import monitor_data
    from ctcd.monitoring.outcome import SnapshotRefused
    from ctcd.monitoring.tolerances import load_tolerances

    found, store = instance(settings), open_store(settings)
    tolerances = load_tolerances(found)
    try:
        return monitor_data(
            store,
            found.contract,
            base_dt,
            reports=settings.reports,
            tolerances=tolerances,
            accept_change=accept_change,
        )
    except SnapshotRefused as refused:
        failed = [check for check in refused.report.checks if check.verdict == "failed"]
        broken = {f"{check.column} {check.rule}".strip(): check.failed for check in failed}
        record_refusal(settings, store, found.contract, "monitor", broken)
        raise
