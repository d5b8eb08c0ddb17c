"""What commands share: options, and the end of their help."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

EXIT_CODES = (
    "Exit codes: 0 done · 1 unexpected error · 2 wrong option, file or setting · 3 data refused · "
    "4 refused by the gate · 5 something is missing · 6 unreachable · 7 deployment broken · 130 interrupted"
)


def epilog(example: str) -> str:
    """Return the end of a command's help: an example of a call, and the exit codes."""
    return f"Example: {example}\n\n{EXIT_CODES}"


def parse_day(value: str) -> date:
    """Return the day of a date in ISO 8601.

    Raises:
        typer.BadParameter: the text is not a calendar date.
    """
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} is not a calendar date such as 2025-08-31") from error


def day_option(name: str, *, help: str, default: str) -> Any:  # noqa: A002 - the name that typer gives it
    """Return an option that takes a day; `default` describes the day without it."""
    return typer.Option(name, parser=parse_day, metavar="YYYY-MM-DD", help=help, show_default=default)


JsonOutput = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
NewDay = Annotated[
    date | None, day_option("--base-dt", help="Day of the snapshot.", default="today in the configured time zone")
]
KnownDay = Annotated[date | None, day_option("--base-dt", help="Day of the snapshot.", default="the newest snapshot")]
Today = Annotated[
    date | None,
    day_option(
        "--today",
        help="Day that the age of the training data is counted to.",
        default="today in the configured time zone",
    ),
]
ProfileName = Annotated[str, typer.Option("--profile", help="Training profile of the instance's training.toml.")]
Summary = Annotated[
    Path | None, typer.Option("--summary", help="Markdown file that the outcome is appended to.", show_default=False)
]
