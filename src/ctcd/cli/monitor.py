"""The command that monitors the feature store's data."""

from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay
from ctcd.cli.output import out, present, table
from ctcd.settings import load_settings
from ctcd.stages import data as stages

if TYPE_CHECKING:
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
    out.print(f"{report.where}: accepted after {len(report.checks)} checks{before}; see {report.page}", soft_wrap=True)
