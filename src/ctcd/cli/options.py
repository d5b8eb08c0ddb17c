"""Options that verbs share."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer


def parse_day(value: str) -> date:
    """Return the day that an ISO 8601 text names.

    Raises:
        typer.BadParameter: the text is not a calendar date.
    """
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} is not a calendar date such as 2025-08-31") from error


JsonOutput = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
NewDay = Annotated[
    date | None,
    typer.Option(
        "--base-dt",
        parser=parse_day,
        metavar="YYYY-MM-DD",
        help="Day of the snapshot.",
        show_default="today in the configured time zone",
    ),
]
KnownDay = Annotated[
    date | None,
    typer.Option(
        "--base-dt",
        parser=parse_day,
        metavar="YYYY-MM-DD",
        help="Day of the snapshot.",
        show_default="the newest snapshot",
    ),
]
Today = Annotated[
    date | None,
    typer.Option(
        "--today",
        parser=parse_day,
        metavar="YYYY-MM-DD",
        help="Day that counts as today, for how old the training data is: to judge as of a day that is past.",
        show_default="today in the configured time zone",
    ),
]
ProfileName = Annotated[str, typer.Option("--profile", help="Training profile of contracts/training.toml.")]
OutputFile = Annotated[Path | None, typer.Option("--out", dir_okay=False, help="File to write.")]
