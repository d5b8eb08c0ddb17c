"""The commands that monitor the data, a snapshot and the rows that are answered, and the site that shows what they found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctcd.cli.options import JsonOutput, KnownDay, NextDay
from ctcd.cli.output import out, present, shown_progress, table
from ctcd.errors import number_of
from ctcd.settings import load_settings
from ctcd.stages import data as stages
from ctcd.stages import scoring
from ctcd.stages import site as pages

if TYPE_CHECKING:
    from ctcd.monitoring.drift import DriftReport
    from ctcd.monitoring.outcome import DataMonitorReport


def monitor(
    base_dt: KnownDay = None,
    accept_change: Annotated[
        bool,
        typer.Option(
            "--accept-change", help="Accept a snapshot that meets the contract even if it differs from the last one."
        ),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Compare a snapshot with the contract and the last accepted snapshot; a broken rule ends in exit code 3."""
    report = stages.monitor_data(load_settings(), base_dt, accept_change=accept_change)
    present(report, show_monitored, json=json)


def show_monitored(report: "DataMonitorReport") -> None:
    """Show the changes that were accepted, and where the page is."""
    failed = [check for check in report.checks if check.verdict == "failed"]
    if failed:
        rows = [(check.column, check.rule, check.limit, check.observed) for check in failed]
        table("Accepted changes", ("column", "rule", "limit", "observed"), rows)
    before = f", compared with {report.compared_with}" if report.compared_with else ""
    out.print(f"{report.where}: accepted after {number_of(len(report.checks), 'check')}{before}; see {report.page}")


def drift(
    base_dt: NextDay = None,
    period: Annotated[
        Literal["daily", "weekly"], typer.Option("--period", help="Whether a day or a week is compared.")
    ] = "daily",
    json: JsonOutput = False,
) -> None:
    """Compare the last day or week before a day with what its models were trained on, and keep the result in the store."""
    settings = load_settings()
    with shown_progress() as progress:
        report = scoring.drift(settings, base_dt or settings.today(), period=period, progress=progress)
    present(report, show_drift, json=json)


def show_drift(report: "DriftReport") -> None:
    """Show the columns of the samples, and how many are beyond a limit."""
    days = report.first_day if report.first_day == report.last_day else f"{report.first_day} to {report.last_day}"
    rows = [
        (
            column.source,
            column.model_version,
            column.feature,
            column.psi,
            column.distance,
            column.limit,
            column.missing,
            column.unseen,
            ", ".join(column.drifted),
        )
        for column in report.columns
    ]
    if rows:
        header = ("rows", "version", "feature", "PSI", "distance", "limit", "missing", "unseen", "drifted")
        table(f"Drift, {days}", header, rows)
    for sample in report.samples:
        rows_of = "predictions of" if sample.source == "predictions" else "rows of the feature table, compared with"
        what = f"{sample.rows:,} {rows_of} version {sample.model_version}"
        out.print(f"{what}, {sample.effective_rows:,.0f} effective: {sample.verdict}")
    for finding in report.findings:
        out.print(f"finding {finding.id}: {finding.subject}")
    if rows:
        seen = f"{report.drifted} of {len(report.columns)} columns have drifted"
    elif report.samples:
        seen = "nothing was judged"
    else:
        seen = "no predictions and no rows of the feature table to compare"
    out.print(f"{days}: {seen}; kept in {report.table}")


def report(
    into: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="Folder of the site.", show_default="<home>/reports/site"),
    ] = None,
    load: Annotated[Path, typer.Option("--load", help="Folder with the reports of load tests.")] = Path(
        "build/reports/load"
    ),
    json: JsonOutput = False,
) -> None:
    """Write data quality, performance, drift, decisions, findings and load tests as pages that can be read offline."""
    written = pages.write_site(load_settings(), into, load=load)
    present(
        written, f"{number_of(len(written.pages), 'page')}; open {Path(written.folder) / written.pages[0]}", json=json
    )
