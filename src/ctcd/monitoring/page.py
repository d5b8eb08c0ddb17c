"""The data monitor's reports as pages that need nothing from other hosts."""

from pathlib import Path

from ctcd.errors import number_of
from ctcd.files import files_in, write_text
from ctcd.html_report import Page, Row, render, row_of
from ctcd.monitoring.outcome import Check, DataMonitorReport

FOLDER, INDEX = "data-monitor", "index.html"
"""Folder of the pages in the folder of reports, and the name of the page that lists them."""
_MARKS = {"passed": "good", "failed": "bad"}
_ORDER = ("failed", "not compared", "passed")


def data_monitor_page(report: DataMonitorReport) -> Page:
    """Return the page: a row for every rule, broken ones first, and a link to the page of all days."""
    checks = sorted(report.checks, key=lambda check: _ORDER.index(check.verdict))
    failed = sum(check.verdict == "failed" for check in checks)
    return Page(
        title=f"Data monitor: {report.where}",
        verdict=f"{'accepted' if report.passed else 'refused'}, {failed} of {len(checks)} rules broken",
        good=report.passed,
        facts=(
            ("snapshot", report.snapshot),
            ("compared with", report.compared_with or "nothing: first snapshot"),
            ("rules", str(len(checks))),
        ),
        header=("column", "rule", "limit", "observed", "rows that break it", "verdict"),
        rows=tuple(_row(check) for check in checks),
        links=(("all days", INDEX),),
    )


def write_index(folder: Path) -> None:
    """Write the page that links to the page of every day, the newest first."""
    days = [path for path in reversed(files_in(folder, ".html")) if path.name != INDEX]
    page = Page(
        title="Data monitor",
        verdict=f"{number_of(len(days), 'snapshot')} checked",
        good=True,
        links=tuple((path.stem, path.name) for path in days),
    )
    write_text(folder / INDEX, render(page))


def _row(check: Check) -> Row:
    where, mark = check.column or "(table)", _MARKS.get(check.verdict, "")
    return row_of(where, check.rule, check.limit, check.observed, check.failed or None, check.verdict, mark=mark)
