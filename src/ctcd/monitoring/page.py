"""The data monitor's report as a page that, unlike Data Docs, needs no resources from the internet."""

import os
from pathlib import Path

from ctcd.html_report import Page, Row, cells
from ctcd.monitoring.outcome import Check, DataMonitorReport

_MARKS = {"passed": "good", "failed": "bad"}
_ORDER = ("failed", "not compared", "passed")


def data_monitor_page(report: DataMonitorReport) -> Page:
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
        links=(("Data Docs of Great Expectations", os.path.relpath(report.data_docs, Path(report.page).parent)),),
    )


def _cells(check: Check) -> tuple[str, ...]:
    return cells(
        check.column or "(table)", check.rule, check.limit, check.observed, check.failed or None, check.verdict
    )
