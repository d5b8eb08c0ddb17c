"""What commands share: options, groups, and the end of their help."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ctcd import settings
from ctcd.errors import UsageError

EXIT_CODES = (
    "Exit codes: 0 done · 1 unexpected error · 2 wrong option, file or setting · 3 data refused · "
    "4 refused by the gate · 5 something is missing · 6 unreachable · 7 deployment broken · 130 interrupted"
)

MAX_ROWS = 100_000_000
"""Maximum number of rows that are made, or drawn."""


def epilog(example: str) -> str:
    """Return the end of a command's help: an example of a call, and the exit codes."""
    return f"Example: {example}\n\n{EXIT_CODES}"


def group(summary: str) -> typer.Typer:
    """Return a group of commands without any command yet."""
    return typer.Typer(help=summary, no_args_is_help=True, add_completion=False)


def parse_day(value: str) -> date:
    """Return the day of a date in ISO 8601; see `ctcd.settings.parse_day`.

    Raises:
        typer.BadParameter: it is no calendar date, or one too far away.
    """
    try:
        return settings.parse_day(value)
    except UsageError as error:
        raise typer.BadParameter(error.what) from error


def day_option(name: str, *, help: str, default: str) -> Any:  # noqa: A002 - the name that typer gives it
    """Return an option that takes a day; `default` describes the day without it."""
    return typer.Option(name, parser=parse_day, metavar="YYYY-MM-DD", help=help, show_default=default)


def parse_moment(value: str) -> date:
    """Return a day, or a time as a `datetime`, in ISO 8601.

    Raises:
        typer.BadParameter: it is neither, or too far away.
    """
    day = parse_day(value[:10])
    if len(value) == len("2025-08-31"):
        return day
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} is neither a day nor a time such as 2025-08-31T12:30:00") from error


def moment_option(name: str, *, help: str, default: str) -> Any:  # noqa: A002 - the name that typer gives it
    """Return an option that takes a day or a time; a time without a zone is in the configured one."""
    return typer.Option(name, parser=parse_moment, metavar="DAY|TIME", help=help, show_default=default)


JsonOutput = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
NewDay = Annotated[
    date | None, day_option("--base-dt", help="Day of the snapshot.", default="today in the configured time zone")
]
NextDay = Annotated[
    date | None,
    day_option("--base-dt", help="Day after the days that are looked at.", default="today in the configured time zone"),
]
KnownDay = Annotated[date | None, day_option("--base-dt", help="Day of the snapshot.", default="the newest snapshot")]
Today = Annotated[
    date | None,
    day_option(
        "--today",
        help="Day that counts as today for the age of the training data.",
        default="today in the configured time zone",
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Reason; recorded in the history.")]
ProfileName = Annotated[str, typer.Option("--profile", help="Training profile of the instance's training.toml.")]
Summary = Annotated[
    Path | None, typer.Option("--summary", help="Markdown file that the outcome is appended to.", show_default=False)
]
