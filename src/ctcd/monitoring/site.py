"""The report site: a folder of pages about data, models and predictions that can be read offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine, Table, select

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.files import files_in, write_text, writing_to
from ctcd.html_report import Figure, Page, Row, Section, render, row_of
from ctcd.monitoring import plots
from ctcd.monitoring.findings import list_findings
from ctcd.monitoring.page import FOLDER as DATA_MONITOR
from ctcd.monitoring.page import INDEX
from ctcd.monitoring.performance import UNKNOWABLE, with_share
from ctcd.monitoring.periods import Period
from ctcd.registry.versions import CHAMPION, GATE, REASONS, Registry
from ctcd.store.engine import reading
from ctcd.store.tables import build_tables
from ctcd.times import moment

WEEKS = 26
"""Number of past weeks of predictions that are shown."""
DAYS = 31
"""Number of past days of which the columns that have drifted are shown."""
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
        OSError: a folder of reports may not be read.
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
        for file in files_in(reports / folder, ".html"):
            copied[f"{folder}/{file.name}"] = file.read_text(encoding="utf-8")
        for file in reversed(files_in(reports / folder, ".json")):
            try:
                report = json.loads(file.read_text(encoding="utf-8"))
                broken = len(report["breaches"]) if folder == VALIDATION else _failed(report)
                good = broken == 0 if folder == VALIDATION else report["passed"]
            except (ValueError, KeyError, TypeError):  # damaged, or a file of something else
                rows.append(row_of(file.stem, folder, None, "cannot be read", mark="bad"))
                continue
            links.append((f"{folder} of {file.stem}", f"{folder}/{file.stem}.html"))
            verdict = "accepted" if good else "refused"
            rows.append(row_of(file.stem, folder, broken, verdict, mark="good" if good else "bad"))
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
    found = _newest(engine, build_tables(contract).performance, Period.WEEKLY, WEEKS)
    rows = [
        row_of(
            *_whose(each),
            f"{each['predictions']:,}",
            with_share(each["labelled"], each["predictions"]),
            _with_interval(each, "accuracy"),
            _with_interval(each, "macro_f1"),
            _recall(each),
            _both(each, "estimated_{}", ".4f"),
            _both(each, "{}_error", "+.4f"),
        )
        for each in found
    ]
    known = next((each for each in found if each["accuracy"] is not None), None)
    estimated = next((each for each in found if each["estimated_accuracy"] is not None), None)
    verdict = (
        f"accuracy {_score(known['accuracy'])} of version {known['model_version']} in the week from {known['first_day']}"
        if known
        else ("no label is known yet" if contract.identity else UNKNOWABLE)
    )
    if estimated and (known is None or estimated["first_day"] > known["first_day"]):
        verdict += (
            f"; estimated {_score(estimated['estimated_accuracy'])} of version {estimated['model_version']} "
            f"in the week from {estimated['first_day']}"
        )
    header = (
        *("week", "version", "run", "predictions", "labelled", "accuracy", "macro F1", "recall by class"),
        *("estimated without labels", "error of the estimate"),
    )
    note = "With 95 % intervals; only predictions whose label is known."
    figures = plots.performance(found)
    return _page("Performance by week", verdict, header, rows, plots=figures, note=note, sections=_slices(found))


def _slices(weeks: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """Return the section about slices, for each model of the newest week that has some; `weeks` begin with the newest."""
    newest = {(each["model_version"], each["run_id"]): each for each in reversed(weeks) if each["slices"]}
    rows = [
        row_of(
            *_whose(each),
            column,
            name,
            f"{scores['labelled']:,}",
            _with_interval(scores | {"accuracy_low": scores["low"], "accuracy_high": scores["high"]}, "accuracy"),
            _with_interval(scores, "macro_f1"),
        )
        for each in newest.values()
        for column, of_column in each["slices"].items()
        for name, scores in of_column.items()
    ]
    header = ("week", "version", "run", "column", "slice", "labelled", "accuracy", "macro F1")
    note = "Of the newest week of each model with enough labels, with 95 % intervals."
    return (Section(title="Slices", note=note, header=header, rows=tuple(rows)),) if rows else ()


def _drift(engine: Engine, contract: Contract) -> Page:
    table = build_tables(contract).drift
    days, weeks = (
        _newest(engine, table, period, most) for period, most in ((Period.DAILY, DAYS), (Period.WEEKLY, WEEKS))
    )
    drifted = sorted((each for each in (*days, *weeks) if each["drifted"]), key=_last_day, reverse=True)
    rows = [
        row_of(
            *_whose(each),
            each["source"],
            each["feature"],
            f"{each['rows']:,}",
            _score(each["distance"]),
            _score(each["distance_limit"]),
            _shares(each, "missing"),
            _shares(each, "unseen"),
            ", ".join(each["drifted"]),
        )
        for each in drifted
    ]
    verdicts, good = [], True
    for when, found in (("on", days), ("in the week from", weeks)):
        newest = [each for each in found if each["first_day"] == found[0]["first_day"]]
        moved = sum(bool(each["drifted"]) for each in newest)
        good = good and not moved
        if newest:
            verdicts.append(f"{moved} of {len(newest)} columns beyond a limit {when} {newest[0]['first_day']}")
    verdict = "; ".join(verdicts) or "no day and no week compared yet"
    header = (
        *("day or week", "version", "run", "rows of", "feature", "rows", "distance", "limit"),
        *("missing (in training)", "unseen (in training)", "drifted"),
    )
    note = (
        "Jensen-Shannon distance as a multiple of its limit (dashed), of the columns that were furthest away. One beyond "
        "its limit has drifted if its PSI is large enough to matter, too."
    )
    links = [("Findings", "findings.html")]
    return _page("Drift", verdict, header, rows, good=good, links=links, plots=plots.drift(weeks), note=note)


def _newest(engine: Engine, table: Table, period: Period, most: int) -> list[dict[str, Any]]:
    """Return the rows of the newest days or weeks, the newest first."""
    columns = table.c
    begins = select(columns.first_day).where(columns.period == period.value).distinct()
    with reading(engine) as connection:
        days = connection.scalars(begins.order_by(columns.first_day.desc()).limit(most)).all()
        query = select(table).where(columns.period == period.value, columns.first_day.in_(days))
        found = [dict(row) for row in connection.execute(query.order_by(*table.primary_key)).mappings()]
    return sorted(found, key=_last_day, reverse=True)


def _last_day(row: Mapping[str, Any]) -> date:
    last: date = row["last_day"]
    return last


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
        rows.append(row_of(each.version, moment(each.created_at), ", ".join(each.aliases), reasons, verdict))
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
        row_of(
            each.id,
            each.kind,
            each.subject,
            "\n".join(f"{name}: {_number(value)}" for name, value in each.numbers()),
            each.day,
            each.last_seen,
            each.closed_on,
            each.closed_by,
            each.reason,
        )
        for each in found
    ]
    number = sum(each.closed_on is None for each in found)
    header = ("number", "kind", "subject", "evidence", "found on", "last seen", "closed on", "by", "reason")
    return _page("Findings", f"{number} open", header, rows, good=not number)


class _LoadTest(BaseModel):
    """What is shown of a report of a load test."""

    passed: bool | None = None
    measured: dict[str, Any] = {}


def _load(folder: Path) -> Page:
    rows = []
    for file in files_in(folder, ".json"):
        try:
            result = _LoadTest.model_validate_json(file.read_bytes())
        except ValidationError:
            result = _LoadTest(passed=False)
        if result.passed is None:  # what was measured, without limits
            continue
        if not result.measured:  # half-written, or a file of something else
            rows.append(row_of(file.stem, "no report of a load test", "failed", mark="bad"))
            continue
        measured = "\n".join(
            f"{name}: {value}" for name, value in result.measured.items() if isinstance(value, int | float)
        )
        good = result.passed
        rows.append(row_of(file.stem, measured, "passed" if good else "failed", mark="good" if good else "bad"))
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
    sections: tuple[Section, ...] = (),
) -> Page:
    figures = tuple(Figure(title=name, svg=svg) for name, svg in (plots or {}).items())
    return Page(
        title=title,
        verdict=verdict,
        good=good,
        header=header,
        rows=tuple(rows),
        links=tuple(links),
        sections=(*((Section(title="Over time", note=note, figures=figures),) if figures else ()), *sections),
    )


def _whose(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the day or week of a row, and the model: version and run, as a number of a version can come again."""
    first, last = row["first_day"], row["last_day"]
    return f"{first}" if first == last else f"{first} to {last}", row["model_version"], row["run_id"][:8]


def _shares(row: Mapping[str, Any], what: str) -> str | None:
    """Return the share of missing or unseen values, and that in the training data; None for a column that has none."""
    now, then = row[what], row[f"reference_{what}"]
    return None if now is None or then is None else f"{now:.2%} ({then:.2%})"


def _recall(row: Mapping[str, Any]) -> str:
    ends = row["recall_interval"] or {}  # rows of an earlier release have none
    return "\n".join(
        f"{name} {_scored(value, *(ends.get(name) or (None, None)))}"
        for name, value in row["recall"].items()
        if value is not None
    )


def _both(row: Mapping[str, Any], field: str, form: str) -> str:
    """Return one line for accuracy and one for the macro F1; `field` is the name of their columns with a gap."""
    values = {"accuracy": row[field.format("accuracy")], "macro F1": row[field.format("macro_f1")]}
    return "\n".join(f"{name} {value:{form}}" for name, value in values.items() if value is not None)


def _with_interval(row: Mapping[str, Any], score: str) -> str | None:
    return _scored(*(row.get(name) for name in (score, f"{score}_low", f"{score}_high")))


def _scored(value: float | None, low: float | None, high: float | None) -> str | None:
    text = _score(value)
    return text if low is None or high is None else f"{text} [{_score(low)}, {_score(high)}]"


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
