"""The verb that watches the store."""

from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay
from ctcd.cli.output import emit, out, table
from ctcd.settings import load_settings
from ctcd.stages import data as stages


def watch(
    base_dt: KnownDay = None,
    accept_change: Annotated[
        bool,
        typer.Option("--accept-change", help="Accept a snapshot that keeps the contract, however much has changed."),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Hold a snapshot against the contract and the last accepted one; a broken rule ends in exit code 3."""
    settings = load_settings()
    report = stages.watch(settings, stages.known_day(settings, base_dt), accept_change=accept_change)
    if json:
        emit(report)
        return
    failed = [check for check in report.checks if check.verdict == "failed"]
    if failed:
        rows = [(check.column, check.rule, check.limit, check.observed) for check in failed]
        table("Accepted changes", ("column", "rule", "limit", "observed"), rows)
    before = f", compared with {report.compared_with}" if report.compared_with else ""
    out.print(f"{report.where}: accepted after {len(report.checks)} checks{before}; see {report.page}", soft_wrap=True)
