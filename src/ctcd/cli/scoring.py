"""Verbs that work for many customers at once, inside the store."""

from enum import StrEnum
from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, NewDay
from ctcd.cli.output import emit, out, shown_progress, table
from ctcd.settings import load_settings
from ctcd.stages import scoring as stages


class PeriodName(StrEnum):
    """Periods that a performance report sums up."""

    DAILY = "daily"
    WEEKLY = "weekly"


def score(json: JsonOutput = False) -> None:
    """Score the newest features of each customer that the champion has not scored yet, into a table of the store."""
    with shown_progress() as progress:
        report = stages.score(load_settings(), progress=progress)
    if json:
        emit(report)
    elif report.model_version is None:
        out.print("there is no champion yet: nothing was scored")
    else:
        out.print(f"{report.rows:,} rows scored with version {report.model_version} into {report.table}")


def performance(
    base_dt: NewDay = None,
    period: Annotated[PeriodName, typer.Option("--period", help="What a row sums up.")] = PeriodName.DAILY,
    json: JsonOutput = False,
) -> None:
    """Compare the predictions before a day with the labels that came since, and keep the result in the store."""
    settings = load_settings()
    report = stages.performance(settings, base_dt or settings.today(), period=period.value)
    if json:
        emit(report)
        return
    rows = [
        (row.first_day, row.model_version, row.predictions, row.labelled, _shown(row.accuracy), _shown(row.macro_f1))
        for row in report.rows
    ]
    table(f"Performance, {period.value}", ("from", "version", "predictions", "labelled", "accuracy", "macro F1"), rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
