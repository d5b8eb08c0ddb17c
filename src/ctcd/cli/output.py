"""What a command prints: progress on standard error; a table, or one JSON document with --json, on standard output."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from ctcd import progress
from ctcd.errors import CtcdError
from ctcd.files import require_regular, writing_to

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

R = TypeVar("R")

LOG_WIDTH = 120
"""Columns where output goes to a file or a log."""

READABLE = 10
"""Characters that a column has at least, if its texts are that long; numbers and times are never broken."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Return text in which control characters, which a terminal would obey, are escaped; lines and tabs stay."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class _Plain(Console):
    """Prints texts of people and files as they are: none is read as markup, none is obeyed by a terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)


_plain = partial(_Plain, markup=False, emoji=False, highlight=False)
out = _plain(width=None if sys.stdout.isatty() else LOG_WIDTH, soft_wrap=True)
err = _plain(stderr=True, width=None if sys.stderr.isatty() else LOG_WIDTH)


def emit(result: Any) -> None:
    """Print a result, a dataclass or a dict, as one JSON document."""
    sys.stdout.write(json.dumps(to_jsonable_python(result), indent=2, allow_nan=False) + "\n")


def present(result: R, view: Callable[[R], object] | str, *, json: bool) -> None:
    """Print a result as one JSON document, or as its view does, which may be a line of text."""
    if json:
        emit(result)
    elif isinstance(view, str):
        out.print(view)
    else:
        view(result)


def append(path: Path, text: str) -> None:
    """Append text to a file, such as a summary or outputs of GitHub Actions.

    Raises:
        UsageError: it cannot be written, or is no regular file, such as a pipe or a device.
    """
    with writing_to(path):
        require_regular(path)
        file = path.open("a", encoding="utf-8")
    with writing_to(path), file:
        file.write(text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; columns of numbers are aligned to the right, and None is an empty cell.

    Where it is too wide for its columns to be readable, each row is printed as its own table: a line for each column.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))
    ]
    timed = [
        any(text[index] for text in texts) and all(not text[index] or _TIME.fullmatch(text[index]) for text in texts)
        for index in range(len(columns))
    ]
    least = [
        max(
            len(column) if timed[index] else min(READABLE, len(column)),
            *(
                len(line) if numeric[index] or timed[index] else min(READABLE, len(line))
                for text in texts
                for line in text[index].split("\n")
            ),
            0,
        )
        for index, column in enumerate(columns)
    ]
    if sum(least) + 3 * len(least) + 1 > out.width and len(columns) > 2:
        for number, text in enumerate(texts, 1):
            table(f"{title} ({number} of {len(texts)})", ("column", "value"), list(zip(columns, text, strict=True)))
        return
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column, right, whole, width in zip(columns, numeric, timed, least, strict=True):
        # Widths are taken from the widest columns first, below the minimum of one that may be wrapped.
        shown.add_column(column, justify="right" if right else "left", min_width=width, no_wrap=whole, overflow="fold")
    for text in texts:
        shown.add_row(*text)
    out.print(shown, soft_wrap=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else visible(str(value))


class _Lines:
    """Progress for a log: one line when a task begins and one when it is done."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._ended: set[str] = set()

    def __call__(self, task: str, done: int, total: int | None) -> None:
        if total is not None and done >= total:
            if task not in self._ended:
                self._ended.add(task)
                took = f" in {perf_counter() - self._began[task]:.1f} s" if task in self._began else ""
                err.print(f"{task}: done{took}")
        elif task not in self._began:
            self._began[task] = perf_counter()
            err.print(f"{task} ...")


class _Bars:
    """Progress for a terminal: a bar for each task."""

    def __init__(self, bars: "Progress") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, task: str, done: int, total: int | None) -> None:
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total)
        self._bars.update(self._tasks[task], completed=done, total=total)


@contextmanager
def shown_progress() -> Iterator[progress.Progress]:
    """Give a progress callback that suits standard error: bars on a terminal, lines in a log."""
    if not err.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        yield _Bars(bars)


@contextmanager
def explained() -> Iterator[None]:
    """Run the block of a script; an error of ours ends it as it ends a command, with one line and its exit code.

    Raises:
        SystemExit: with the exit code of the error.
    """
    try:
        yield
    except CtcdError as error:
        err.print(f"error: {error}", style="red", soft_wrap=True)
        raise SystemExit(error.exit_code) from error
