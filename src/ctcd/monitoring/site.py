"""The report site: a folder of pages about data, models and predictions that can be read offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine, Table, select

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.files import write_text, writing_to
from ctcd.html_report import Figure, Page, Row, Section, cells, render
from ctcd.monitoring import plots
from ctcd.monitoring.findings import list_findings
from ctcd.monitoring.page import FOLDER as DATA_MONITOR
from ctcd.monitoring.page import INDEX
from ctcd.monitoring.periods import Period
from ctcd.registry.versions import CHAMPION, GATE, REASONS, Registry
from ctcd.store.engine import reading
from ctcd.store.tables import build_tables

WEEKS = 26
"""Number of past weeks of predictions that are shown."""
VERSIONS = 20
"""Number of versions, the newest, whose decisions are shown."""
VALIDATION = "validation"


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """A site that was written; `pages` are the names of its files, the overview first."""

    folder: str
    pages: tuple[str, ...]


def write_site(
    engine: Engine, registry: Registry, contract: Contract, *, reports: Path, load: Path, into: Path
) -> SiteReport:
    """Write the site into a folder; files of the same names are replaced, others stay.

    Args:
        engine: the store: performance, drift and findings.
        registry: the versions and the gate's decisions.
        contract: the contract in force.
        reports: folder with the reports about snapshots.
        load: folder with the reports of load tests.
        into: folder of the site.

    Raises:
        UsageError: the folder cannot be written to.
        Unreachable: the store or MLflow does not answer.
    """
    copied: dict[str, str] = {}
    pages = {
        "data.html": _data(reports, copied),
        "performance.html": _performance(engine, contract),
        "drift.html": _drift(engine, contract),
        "decisions.html": _decisions(registry, copied),
        "findings.html": _findings(engine, contract),
        "load.html": _load(load),
    }
    seen = [page.title.lower() for page in pages.values() if not page.good]
    overview = Page(
        title=f"{contract.name} {contract.version}: report",
        verdict=f"look at: {', '.join(seen)}" if seen else "nothing needs attention",
        good=not seen,
        facts=tuple((page.title, page.verdict) for page in pages.values()),
        header=(),
        rows=(),
        links=tuple((page.title, name) for name, page in pages.items()),
    )
    back = ("Overview", INDEX)
    texts = {
        INDEX: render(overview),
        **{name: render(replace(page, links=(*page.links, back))) for name, page in pages.items()},
        **copied,
    }
    with writing_to(into):
        for name, text in texts.items():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(into / name, text)
    return SiteReport(folder=str(into), pages=tuple(texts))


def _data(reports: Path, copied: dict[str, str]) -> Page:
    """Return the page about snapshots, the newest first; the pages about each are `copied`."""
    rows, links = [], []
    for folder in (VALIDATION, DATA_MONITOR):
        for file in (reports / folder).glob("*.html"):
            copied[f"{folder}/{file.name}"] = file.read_text(encoding="utf-8")
        for file in sorted((reports / folder).glob("*.json"), reverse=True):
            report = json.loads(file.read_text(encoding="utf-8"))
            broken = len(report["breaches"]) if folder == VALIDATION else _failed(report)
            good = broken == 0 if folder == VALIDATION else report["passed"]
            links.append((f"{folder} of {file.stem}", f"{folder}/{file.stem}.html"))
            verdict = "accepted" if good else "refused"
            rows.append(Row(cells=cells(file.stem, folder, broken, verdict), mark="good" if good else "bad"))
    rows.sort(key=lambda row: row.cells[0], reverse=True)
    newest = [row for row in rows if row.cells[0] == rows[0].cells[0]]
    good = all(row.mark == "good" for row in newest)
    verdict = (
        f"snapshot of {newest[0].cells[0]}: {'accepted' if good else 'refused'}" if newest else "no snapshot checked"
    )
    header = ("snapshot", "check", "rules broken", "verdict")
    return _page("Data quality", verdict, header, rows, good=good, links=links)


def _failed(report: dict[str, Any]) -> int:
    return sum(check["verdict"] == "failed" for check in report["checks"])


def _performance(engine: Engine, contract: Contract) -> Page:
    found = _weeks(engine, build_tables(contract).performance)
    rows = [
        Row(
            cells=cells(
                f"{each['first_day']} to {each['last_day']}",
                each["model_version"],
                f"{each['predictions']:,}",
                f"{each['labelled']:,}",
                _with_interval(each, "accuracy"),
                _with_interval(each, "macro_f1"),
            )
        )
        for each in found
    ]
    known = next((each for each in found if each["accuracy"] is not None), None)
    verdict = (
        f"accuracy {_score(known['accuracy'])} of version {known['model_version']} in the week from {known['first_day']}"
        if known
        else "no label is known yet"
    )
    header = ("week", "version", "predictions", "labelled", "accuracy", "macro F1")
    note = "With 95 % intervals; only predictions whose label is known."
    return _page("Performance by week", verdict, header, rows, plots=plots.performance(found), note=note)


def _drift(engine: Engine, contract: Contract) -> Page:
    found = _weeks(engine, build_tables(contract).drift)
    drifted = [each for each in found if each["drifted"]]
    rows = [
        Row(
            cells=cells(
                f"{each['first_day']} to {each['last_day']}",
                each["source"],
                each["model_version"],
                each["feature"],
                f"{each['rows']:,}",
                _score(each["distance"]),
                _score(each["distance_limit"]),
                ", ".join(each["drifted"]),
            )
        )
        for each in drifted
    ]
    newest = [each for each in found if each["first_day"] == found[0]["first_day"]]
    moved = sum(bool(each["drifted"]) for each in newest)
    verdict = (
        f"{moved} of {len(newest)} columns beyond a limit in the week from {newest[0]['first_day']}"
        if newest
        else "no week compared yet"
    )
    header = ("week", "rows of", "version", "feature", "rows", "distance", "limit", "drifted")
    note = (
        "Jensen-Shannon distance as a multiple of its limit (dashed), of the columns that were furthest away. One beyond "
        "its limit has drifted if its PSI is large enough to matter, too."
    )
    return _page("Drift", verdict, header, rows, good=not moved, plots=plots.drift(found), note=note)


def _weeks(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """Return the rows of the newest weeks, the newest first."""
    columns = table.c
    weeks = select(columns.first_day).where(columns.period == Period.WEEKLY.value).distinct()
    with reading(engine) as connection:
        days = connection.scalars(weeks.order_by(columns.first_day.desc()).limit(WEEKS)).all()
        query = select(table).where(columns.period == Period.WEEKLY.value, columns.first_day.in_(days))
        found = [dict(row) for row in connection.execute(query.order_by(*table.primary_key)).mappings()]
    return sorted(found, key=lambda row: row["first_day"], reverse=True)


def _decisions(registry: Registry, copied: dict[str, str]) -> Page:
    """Return the page about versions, the newest first; the pages with the evidence of each decision are `copied`."""
    rows, links, champion = [], [], registry.find(CHAMPION)
    for each in registry.versions()[:VERSIONS]:
        verdict = each.tags.get(GATE, "not judged")
        try:
            pages = registry.decision_pages(each.version)
        except NotFound:  # its run was deleted
            pages = {}
            verdict += "; its evidence is gone"
        reasons = "\n".join(json.loads(each.tags.get(REASONS, "[]")))
        rows.append(Row(cells=cells(each.version, each.created_at, ", ".join(each.aliases), reasons, verdict)))
        for name, text in pages.items():
            file = f"decisions/{each.version}/{name}"
            copied[file] = text
            links.append((f"version {each.version}, decision {Path(name).stem}", file))
    verdict = f"version {champion.version} is the champion" if champion else "no champion"
    header = ("version", "registered", "aliases", "reasons", "verdict")
    return _page("Decisions", verdict, header, rows, good=bool(champion), links=links)


def _findings(engine: Engine, contract: Contract) -> Page:
    found = sorted(list_findings(engine, contract, closed=True), key=lambda each: each.id, reverse=True)
    rows = [
        Row(
            cells=cells(
                each.id, each.kind, each.subject, each.day, each.last_seen, each.closed_on, each.closed_by, each.reason
            )
        )
        for each in found
    ]
    number = sum(each.closed_on is None for each in found)
    header = ("number", "kind", "subject", "found on", "last seen", "closed on", "by", "reason")
    return _page("Findings", f"{number} open", header, rows, good=not number)


class _LoadTest(BaseModel):
    """What is shown of a report of a load test."""

    passed: bool | None = None
    measured: dict[str, Any] = {}


def _load(folder: Path) -> Page:
    rows = []
    for file in sorted(folder.glob("*.json")):
        try:
            result = _LoadTest.model_validate_json(file.read_bytes())
        except ValidationError:
            result = _LoadTest(passed=False)
        if result.passed is None:  # what was measured, without limits
            continue
        if not result.measured:  # half-written, or a file of something else
            rows.append(Row(cells=cells(file.stem, "no report of a load test", "failed"), mark="bad"))
            continue
        measured = "\n".join(
            f"{name}: {value}" for name, value in result.measured.items() if isinstance(value, int | float)
        )
        good = result.passed
        rows.append(
            Row(cells=cells(file.stem, measured, "passed" if good else "failed"), mark="good" if good else "bad")
        )
    failed = sum(row.mark == "bad" for row in rows)
    verdict = f"{len(rows) - failed} of {len(rows)} shapes within their limits" if rows else "no load test"
    return _page("Load tests", verdict, ("shape", "measured", "verdict"), rows, good=not failed)


def _page(
    title: str,
    verdict: str,
    header: tuple[str, ...],
    rows: Sequence[Row],
    *,
    good: bool = True,
    links: Sequence[tuple[str, str]] = (),
    plots: Mapping[str, str] | None = None,
    note: str = "",
) -> Page:
    figures = tuple(Figure(title=name, svg=svg) for name, svg in (plots or {}).items())
    return Page(
        title=title,
        verdict=verdict,
        good=good,
        facts=(),
        header=header,
        rows=tuple(rows),
        links=tuple(links),
        sections=(Section(title="Over time", note=note, figures=figures),) if figures else (),
    )


def _with_interval(row: Mapping[str, Any], score: str) -> str | None:
    low, high = (_score(row[f"{score}_{end}"]) for end in ("low", "high"))
    return f"{_score(row[score])} [{low}, {high}]" if low and high else _score(row[score])


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
