"""What the data monitor makes of answers to its rules; tests/integration has the rules, and what answers them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.snapshots import put_snapshot
from support.stores import TABLES

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.monitoring import checkpoint
from ctcd.monitoring.checkpoint import Answer
from ctcd.monitoring.data_monitor import monitor_data
from ctcd.monitoring.expectations import Profile, Rule
from ctcd.monitoring.outcome import Check, DataMonitorReport, SnapshotRefused
from ctcd.monitoring.profiles import accept, accepted_before
from ctcd.monitoring.tolerances import Tolerances, load_tolerances

DAY = date(2025, 8, 31)
BEFORE = DAY - timedelta(days=1)
TOLERANCES = load_tolerances(INSTANCE)
GOOD = Answer(passed=True, observed="", failed=0)
BAD = Answer(passed=False, observed="-1, -2", failed=2)
MOVED = Answer(passed=False, observed="150", failed=0)
Run = Callable[..., DataMonitorReport]


@pytest.fixture
def monitored(store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the data monitor with three rules: one of the contract, and two that compare, one of them with nothing.

    The fresh snapshot must be of `needed`, and the rules are answered as given, for the rows that the query selects.
    """
    for rows, day in ((40, BEFORE), (30, DAY)):
        put_snapshot(store, CONTRACT, snapshot_frame(CONTRACT, rows=rows, base_dt=day), day)

    def run(
        day: date | None = DAY,
        *,
        contract: Answer | None = GOOD,
        rows: Answer | None = GOOD,
        needed: date = DAY,
        selected: int = 30,
        **options: Any,
    ) -> DataMonitorReport:
        def rules(of: Contract, tolerances: Tolerances, base_dt: date, accepted: Profile | None) -> Sequence[Rule]:
            assert (of, tolerances, base_dt) == (CONTRACT, TOLERANCES, needed)
            something: Any = object()
            known = something if accepted else None
            return (
                Rule(column="hours", rule="is within its bounds", limit="0 to 9", expectation=something),
                Rule(column="", rule="rows", limit="20 to 60", compares=True, expectation=known),
                Rule(column="wear", rule="mean", limit="", compares=True),
            )

        def answers(engine: Engine, query: str, asked: Sequence[Rule], *, name: str) -> Mapping[int, Answer]:
            assert (engine, name) == (store, CONTRACT.snapshot_table)
            with engine.connect() as connection:
                assert len(connection.execute(text(query)).all()) == selected
            given = (contract, rows)
            known = [at for at, rule in enumerate(asked) if rule.expectation is not None]
            return {at: found for at in known if (found := given[at]) is not None}

        monkeypatch.setattr("ctcd.monitoring.data_monitor.snapshot_rules", rules)
        monkeypatch.setattr(checkpoint, "run", answers)
        monkeypatch.setattr(checkpoint, "require", lambda: None)
        return monitor_data(store, CONTRACT, day, reports=tmp_path, tolerances=TOLERANCES, **options)

    return run


def test_the_first_snapshot_is_compared_with_nothing(monitored: Run, store: Engine, tmp_path: Path) -> None:
    """It is accepted if it meets the contract; the report is written, as a page and as data, and a list of all days."""
    report = monitored(BEFORE, needed=BEFORE, selected=40)
    page = tmp_path / "data-monitor" / "2025-08-30.html"
    assert report == DataMonitorReport(
        where=f"{CONTRACT.snapshot_table} of 2025-08-30",
        snapshot="2025-08-30",
        compared_with=None,
        passed=True,
        checks=(
            Check(
                column="hours",
                rule="is within its bounds",
                limit="0 to 9",
                observed="",
                failed=0,
                verdict="passed",
                compares=False,
            ),
            *(
                Check(
                    column=column,
                    rule=rule,
                    limit="",
                    observed="first snapshot",
                    failed=0,
                    verdict="not compared",
                    compares=True,
                )
                for column, rule in (("", "rows"), ("wear", "mean"))
            ),
        ),
        page=str(page),
    )
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(json.dumps(asdict(report)))
    assert f"Data monitor: {report.where}" in page.read_text()
    assert "2025-08-30.html" in page.with_name("index.html").read_text()
    profile = accepted_before(store, CONTRACT, DAY)
    assert profile is not None
    assert (profile.day, profile.rows) == (BEFORE, 40)


def newest_accepted(store: Engine) -> date | None:
    profile = accepted_before(store, CONTRACT, date.max)
    return profile.day if profile else None


@pytest.mark.parametrize("base_dt", [None, DAY])
def test_the_newest_snapshot_is_compared_with_the_last_accepted_one(
    monitored: Run, store: Engine, base_dt: date | None
) -> None:
    """Without a day it is the newest of all, and fresh; what the accepted one does not have is not compared."""
    accept(store, CONTRACT, BEFORE)
    report = monitored(base_dt)
    assert (report.passed, report.snapshot, report.compared_with) == (True, "2025-08-31", "2025-08-30")
    assert [(check.limit, check.observed, check.verdict) for check in report.checks] == [
        ("0 to 9", "", "passed"),
        ("20 to 60", "", "passed"),
        ("", "not in the accepted snapshot", "not compared"),
    ]
    assert newest_accepted(store) == DAY


def test_a_later_day_needs_a_later_snapshot(monitored: Run) -> None:
    """The newest snapshot is checked for the day that is needed, and a day without one has that of an earlier day."""
    assert monitored(DAY + timedelta(days=3), needed=DAY + timedelta(days=3)).snapshot == "2025-08-31"


@pytest.mark.slow
def test_a_snapshot_that_breaks_a_rule_is_refused(monitored: Run, store: Engine, tmp_path: Path) -> None:
    """The report is written and names rule and rows, the snapshot is not accepted, and only a change can be."""
    accept(store, CONTRACT, BEFORE)
    again = "correct the source and take the snapshot again"
    for answers, hint, may_be_accepted in (
        ({"rows": MOVED}, f"{again}, or accept the change once it has been investigated", True),
        ({"contract": BAD}, again, False),
        ({"contract": BAD, "rows": MOVED}, again, False),
    ):
        with pytest.raises(SnapshotRefused) as caught:
            monitored(**answers)
        report = caught.value.report
        failed = {check.column: check for check in report.checks if check.verdict == "failed"}
        assert (report.passed, {*failed}) == (False, {{"contract": "hours", "rows": ""}[name] for name in answers})
        assert all(
            (check.observed, check.failed) == (("-1, -2", 2) if column else ("150", 0))
            for column, check in failed.items()
        )
        assert caught.value.hint == hint
        written = json.loads((tmp_path / "data-monitor" / "2025-08-31.json").read_text())
        assert written == json.loads(json.dumps(asdict(report)))
        assert newest_accepted(store) == BEFORE
        if not may_be_accepted:
            with pytest.raises(SnapshotRefused):
                monitored(**answers, accept_change=True)
    report = monitored(rows=MOVED, accept_change=True)
    assert (report.passed, report.checks[1].verdict) == (True, "failed")
    assert newest_accepted(store) == DAY


@pytest.mark.parametrize("unanswered", ["contract", "rows"])
def test_a_rule_that_nobody_has_answered_is_broken(monitored: Run, store: Engine, unanswered: str) -> None:
    """What is not known is no pass: only a rule that has nothing to compare with needs no answer."""
    accept(store, CONTRACT, BEFORE)
    with pytest.raises(SnapshotRefused, match="seen no answer") as caught:
        monitored(**{unanswered: None})
    verdicts = [check.verdict for check in caught.value.report.checks]
    assert verdicts == (["failed", "passed"] if unanswered == "contract" else ["passed", "failed"]) + ["not compared"]
    assert newest_accepted(store) == BEFORE


def test_without_a_snapshot_nothing_is_checked(monitored: Run, store: Engine, tmp_path: Path) -> None:
    """The error names the table and the day, and says what makes one; nothing is written."""
    with pytest.raises(NotFound) as caught:
        monitored(BEFORE - timedelta(days=1))
    assert str(caught.value) == (
        f"{CONTRACT.snapshot_table}: there is no snapshot of 2025-08-29 or before (run: ctcd snapshot)"
    )
    with store.begin() as connection:
        connection.execute(TABLES.snapshot.delete())
    with pytest.raises(NotFound) as caught:
        monitored(None)
    assert str(caught.value) == f"{CONTRACT.snapshot_table}: there is no snapshot (run: ctcd snapshot)"
    assert not any((tmp_path / "data-monitor").rglob("*"))
