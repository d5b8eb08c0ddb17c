"""Writing reports as JSON and as a self-contained HTML page, without scripts or external resources."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ctcd.files import write_text, writing_to

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a page's table; `mark` is "good" or "bad" to colour the last cell, and empty for none."""

    cells: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot; `svg` becomes part of the page as it is."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page under a heading of its own: a note, names and values, a table, and plots side by side."""

    title: str
    note: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of an HTML page; all texts are escaped.

    Args:
        verdict: the result in a few words.
        good: whether the result is good; chooses the colour of the verdict.
        facts: names and values shown above the table.
        links: texts and addresses of links below the table.
        sections: what comes below the table.
    """

    title: str
    verdict: str
    good: bool
    facts: tuple[tuple[str, str], ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = ()


def write(page: Page, report: "DataclassInstance", folder: Path, name: str) -> None:
    """Write `<name>.json`, the report, and `<name>.html`, the page; each file is replaced atomically.

    Raises:
        UsageError: the folder cannot be written to.
    """
    document = json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with writing_to(folder):
        write_text(folder / f"{name}.json", document)
        write_text(folder / f"{name}.html", render(page))


def render(page: Page) -> str:
    """Return a page as HTML."""
    return from_template("report.html.j2", page=page)


def from_template(name: str, **values: Any) -> str:
    """Return a template of the package with values filled in, which are escaped unless they are `Markup`."""
    templates = Environment(loader=PackageLoader("ctcd", "templates"), autoescape=True, undefined=StrictUndefined)
    return templates.get_template(name).render(**values)


def row_of(*values: Any, mark: str = "") -> Row:
    """Return a row of a table with these values as texts; None becomes an empty text."""
    return Row(cells=tuple("" if value is None else str(value) for value in values), mark=mark)
