"""Reports as files: JSON for programs and one self-contained HTML page for people, without scripts or foreign parts."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ctcd.errors import UsageError
from ctcd.files import write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a page's table.

    Args:
        cells: its texts.
        mark: "good", "bad" or nothing: how it is coloured.
    """

    cells: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows; every text is escaped.

    Args:
        title: what it is about.
        verdict: the result in a few words.
        good: whether that is a good one.
        facts: names and values shown above the table.
        header: names of the table's columns.
        rows: the table.
        links: texts and addresses of further pages, shown below.
    """

    title: str
    verdict: str
    good: bool
    facts: tuple[tuple[str, str], ...]
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Written:
    """Paths of a report's files."""

    json: str
    html: str


def write(page: Page, report: "DataclassInstance", folder: Path, name: str) -> Written:
    """Write `<name>.json` and `<name>.html`; each replaces an older one in one step.

    Args:
        page: what the HTML page shows.
        report: what the JSON document holds, plain values only.
        folder: is made if it is missing.
        name: name of the report, without folder and ending.

    Raises:
        UsageError: the folder cannot be written.
    """
    paths = Written(json=str(folder / f"{name}.json"), html=str(folder / f"{name}.html"))
    document = json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_text(Path(paths.json), document)
        write_text(Path(paths.html), render(page))
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror}", where=str(folder), hint="choose a folder that can be written"
        ) from error
    return paths


def render(page: Page) -> str:
    """Return the HTML page."""
    templates = Environment(loader=PackageLoader("ctcd", "templates"), autoescape=True, undefined=StrictUndefined)
    return templates.get_template("report.html.j2").render(page=page)


def cells(*values: Any) -> tuple[str, ...]:
    """Return values as the texts of a table."""
    return tuple("" if value is None else str(value) for value in values)
