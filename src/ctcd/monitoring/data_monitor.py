"""The data monitor: checks the newest snapshot against the contract and the last accepted snapshot."""

from datetime import date
from pathlib import Path

from sqlalchemy import Engine

from ctcd import html_report
from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.monitoring import checkpoint
from ctcd.monitoring.expectations import Profile, Rule, snapshot_query, snapshot_rules
from ctcd.monitoring.outcome import Check, DataMonitorReport, SnapshotRefused
from ctcd.monitoring.page import FOLDER, data_monitor_page, write_index
from ctcd.monitoring.profiles import accept, accepted_before
from ctcd.monitoring.tolerances import Tolerances
from ctcd.store.snapshot import latest_snapshot


def monitor_data(
    engine: Engine,
    contract: Contract,
    base_dt: date | None,
    *,
    reports: Path,
    tolerances: Tolerances,
    accept_change: bool = False,
) -> DataMonitorReport:
    """Check the newest snapshot, with `base_dt` of that day or earlier, against contract and last accepted snapshot.

    The database computes everything. A snapshot that passes is recorded as accepted. Repeating the call gives the same
    result, because a snapshot is compared only with one of an earlier date. With `accept_change`, a snapshot that
    meets the contract is accepted even if it differs from the accepted one: for changes that have been investigated.
    The result is written as `data-monitor/<snapshot>.html` and `.json` in the folder `reports`, and `index.html` there
    lists all days.

    Raises:
        SnapshotRefused: a rule is broken; carries the report.
        NotFound: the store has no snapshot, or no tables.
        Unreachable: the store does not answer.
        UsageError: Great Expectations is not installed.
    """
    checkpoint.require()
    day = latest_snapshot(engine, contract, until=base_dt or date.max)
    if day is None:
        missing = f" of {base_dt} or before" if base_dt else ""
        raise NotFound(f"there is no snapshot{missing}", where=contract.snapshot_table, hint="run: ctcd snapshot")
    accepted = accepted_before(engine, contract, day)
    rules = snapshot_rules(contract, tolerances, base_dt or day, accepted)
    query = snapshot_query(contract, day, engine.dialect)
    answers = checkpoint.run(engine, query, rules, name=contract.snapshot_table)
    checks = tuple(_check(rule, answers.get(number), accepted) for number, rule in enumerate(rules))
    broken = [check for check in checks if check.verdict == "failed"]
    passed = not any(not (check.compares and accept_change) for check in broken)
    report = DataMonitorReport(
        where=f"{contract.snapshot_table} of {day}",
        snapshot=day.isoformat(),
        compared_with=accepted.day.isoformat() if accepted else None,
        passed=passed,
        checks=checks,
        page=str(reports / FOLDER / f"{day}.html"),
    )
    html_report.write(data_monitor_page(report), report, reports / FOLDER, str(day))
    write_index(reports / FOLDER)
    if not passed:
        only_changes = all(check.compares for check in broken)
        raise SnapshotRefused(
            report,
            "correct the source and take the snapshot again"
            + (", or accept the change once it has been investigated" if only_changes else ""),
        )
    accept(engine, contract, day)
    return report


def _check(rule: Rule, answer: checkpoint.Answer | None, accepted: Profile | None) -> Check:
    if answer is None and rule.expectation is not None:
        answer = checkpoint.Answer(passed=False, observed="no answer", failed=0)
    if answer is None:
        return Check(
            column=rule.column,
            rule=rule.rule,
            limit="",
            observed="not in the accepted snapshot" if accepted else "first snapshot",
            failed=0,
            verdict="not compared",
            compares=rule.compares,
        )
    return Check(
        column=rule.column,
        rule=rule.rule,
        limit=rule.limit,
        observed=answer.observed,
        failed=answer.failed,
        verdict="passed" if answer.passed else "failed",
        compares=rule.compares,
    )
