"""The report of the data monitor."""

from dataclasses import dataclass
from typing import Literal

from ctcd.errors import DataRefused, number_of

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one rule; for its column, its words and its limit in words see `Rule`.

    Args:
        observed: observed value, or the first offending values.
        failed: number of rows that break the rule; 0 for a rule about the whole table.
        verdict: whether it is met; "not compared" if there is no accepted snapshot to compare with.
        compares: whether it compares with the accepted snapshot.
    """

    column: str
    rule: str
    limit: str
    observed: str
    failed: int
    verdict: Literal["passed", "failed", "not compared"]
    compares: bool


@dataclass(frozen=True, kw_only=True)
class DataMonitorReport:
    """How a snapshot compares with its contract and with the last accepted snapshot.

    Args:
        where: table and date of the snapshot, for messages.
        snapshot: its date, ISO 8601.
        compared_with: date of the accepted snapshot; None if there is none yet.
        page: path of a page with the same content.
    """

    where: str
    snapshot: str
    compared_with: str | None
    passed: bool
    checks: tuple[Check, ...]
    page: str


class SnapshotRefused(DataRefused):
    """The data monitor did not accept a snapshot; `report` has the details."""

    def __init__(self, report: DataMonitorReport, hint: str) -> None:
        self.report = report
        failed = [check for check in report.checks if check.verdict == "failed"]
        shown = "; ".join(_sentence(check) for check in failed[:_SHOWN])
        more = len(failed) - _SHOWN
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown, where=report.where, hint=hint)


def _sentence(check: Check) -> str:
    about = f'{check.column} "{check.rule}"' if check.column else f'"{check.rule}"'
    rows = f" in {number_of(check.failed, 'row')}" if check.failed else ""
    seen = f", seen {check.observed}" if check.observed else ""
    return f"{about} is broken{rows} (limit {check.limit}{seen})"
