"""The data monitor's report as files that, unlike Data Docs, need no resources from the internet."""

import os
from pathlib import Path

from ctcd import html_report
from ctcd.html_report import Page, Row, Written, cells
from ctcd.monitoring.outcome import Check, DataMonitorReport

_MARKS = {"passed": "good", "failed": "bad"}
_ORDER = ("failed", "not compared", "passed")


def write_data_monitor(report: DataMonitorReport) -> Written:
    """Write a report as an HTML page, at the path in the report, and a JSON file next to it, replacing older ones atomically.

    Raises:
        UsageError: the folder is not writable.
    """
    path = Path(report.page)
    page = data_monitor_page(report, data_docs=os.path.relpath(report.data_docs, path.parent))
    return html_report.write(page, report, path.parent, path.stem)


def data_monitor_page(report: DataMonitorReport, *, data_docs: str) -> Page:
    """Return the page: a row for every rule, broken ones first, and a link to Data Docs."""
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
        rows=tuple(Row(cells=_cells(check), mark=_MARKS.get(check.verdict, "")) for check in checks),
        links=(("Data Docs of Great Expectations", data_docs),),
    )


def _cells(check: Check) -> tuple[str, ...]:
    return cells(
        check.column or "(table)", check.rule, check.limit, check.observed, check.failed or None, check.verdict
    )
