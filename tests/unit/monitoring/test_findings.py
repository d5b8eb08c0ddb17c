"""Findings: raised once, open until somebody closes them, and never deleted."""

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from support.instance import CONTRACT
from support.stores import TABLES, count

from ctcd.errors import NotFound, UsageError
from ctcd.monitoring.findings import (
    Finding,
    TrainingDue,
    close_finding,
    find,
    list_findings,
    raise_finding,
    training_due,
)

DAY = date(2025, 9, 2)
EVIDENCE = {"psi": 0.4, "bins": [1, 2], "missing": {"now": 0.1, "before": None}}


def drift(store: Engine, after: int = 0, **changes: Any) -> Finding:
    """Raise a finding about a day, counted from `DAY`."""
    given: dict[str, Any] = {
        "kind": "drift",
        "subject": "temperature",
        "evidence": EVIDENCE,
        "day": DAY + timedelta(days=after),
    }
    return raise_finding(store, CONTRACT, **given | changes)


def test_a_finding_is_kept_with_its_day_and_its_evidence(store: Engine) -> None:
    """It is read back as it was raised, and open."""
    raised = drift(store)
    assert (raised.new, raised.kind, raised.subject, raised.evidence) == (True, "drift", "temperature", EVIDENCE)
    assert raised.day == raised.last_seen == DAY.isoformat()
    found = find(store, CONTRACT, raised.id)
    assert vars(found) == vars(raised) | {"new": False}
    assert (found.closed_on, found.closed_by, found.reason) == (None, None, None)


def test_an_open_finding_is_raised_once_and_stays_open(store: Engine) -> None:
    """Seen again, on the same day or another, it is the same finding; it remembers the last day, not the last call."""
    first = drift(store)
    for after, last in ((0, 0), (3, 3), (1, 3), (-2, 3), (40, 40)):
        again = drift(store, after, evidence={"psi": 0.9})
        assert (again.id, again.new, again.evidence) == (first.id, False, EVIDENCE)
        assert again.last_seen == (DAY + timedelta(days=last)).isoformat()
    assert [each.id for each in list_findings(store, CONTRACT)] == [first.id]


def test_findings_of_another_kind_or_subject_are_others(store: Engine) -> None:
    """What one person closes says nothing about another column or monitor."""
    made = [drift(store), drift(store, subject="power"), drift(store, kind="labels")]
    close_finding(store, CONTRACT, made[0].id, reason="mended", by="ann", day=DAY)
    assert [each.id for each in list_findings(store, CONTRACT)] == [made[1].id, made[2].id]
    assert [each.id for each in list_findings(store, CONTRACT, closed=True)] == [each.id for each in made]


def test_a_closed_finding_is_kept_and_raised_anew_if_it_comes_again(store: Engine) -> None:
    """On the day of the closing or later; the days before were known when it was closed, so a backfill raises nothing."""
    first = drift(store)
    closed = close_finding(store, CONTRACT, first.id, reason=" a new sensor ", by="ann", day=DAY + timedelta(days=5))
    assert (closed.closed_on, closed.closed_by, closed.reason) == ("2025-09-07", "ann", "a new sensor")
    for after in (0, 4):
        assert drift(store, after) == closed
    anew = drift(store, 5)
    assert (anew.new, anew.day, anew.closed_on) == (True, "2025-09-07", None)
    assert drift(store, 6).id == drift(store, 2).id == anew.id > first.id
    assert find(store, CONTRACT, first.id) == closed
    close_finding(store, CONTRACT, anew.id, reason="again", by="bob", day=DAY + timedelta(days=7))
    assert drift(store, 8).new
    assert count(store, TABLES.findings) == 3


@pytest.mark.parametrize(
    ("reason", "by", "problem"),
    [("", "ann", "a reason has 1 to"), (" ", "ann", "a reason has 1 to"), ("r" * 501, "ann", "500"), ("r", " ", "a name has")],
)  # fmt: skip
def test_nobody_closes_a_finding_without_a_reason_and_a_name(store: Engine, reason: str, by: str, problem: str) -> None:
    """It stays open."""
    raised = drift(store)
    with pytest.raises(UsageError, match=problem):
        close_finding(store, CONTRACT, raised.id, reason=reason, by=by, day=DAY)
    assert find(store, CONTRACT, raised.id).closed_on is None


def test_the_first_reason_stays(store: Engine) -> None:
    """A finding that is closed is not closed by another person for another reason."""
    raised = drift(store)
    closed = close_finding(store, CONTRACT, raised.id, reason="mended", by="ann", day=DAY)
    with pytest.raises(UsageError, match=f"finding {raised.id}: it was closed on 2025-09-02 by ann"):
        close_finding(store, CONTRACT, raised.id, reason="no idea", by="bob", day=DAY)
    assert find(store, CONTRACT, raised.id) == closed


def test_a_finding_that_does_not_exist_is_not_found(store: Engine) -> None:
    """The error names number, table and what lists them."""
    with pytest.raises(NotFound, match=r"machine_condition_findings: there is no finding 7 \(run: ctcd findings"):
        close_finding(store, CONTRACT, 7, reason="mended", by="ann", day=DAY)


def test_evidence_is_numbers(store: Engine) -> None:
    """NumPy's, too; one that is not finite is none, and a text, which could be of a person, is refused."""
    kept = drift(store, evidence={"a": np.float64(0.5), "b": math.nan, "c": [math.inf]})
    assert find(store, CONTRACT, kept.id).evidence == {"a": 0.5, "b": None, "c": [None]}
    for value in ("Kim", b"x", DAY):
        with pytest.raises(TypeError, match="evidence is numbers"):
            drift(store, subject="power", evidence={"seen": [value]})
    assert len(list_findings(store, CONTRACT)) == 1


def due(store: Engine, after: int = 0, *, started: bool = False) -> TrainingDue:
    """Ask on a day, counted from `DAY`, with a cool-down of a week."""
    week = timedelta(days=7)
    return training_due(store, CONTRACT, DAY + timedelta(days=after), cool_down=week, started=started)


def test_open_findings_that_a_training_may_answer_ask_for_one(store: Engine) -> None:
    """Not those of labels or of a snapshot, and not one that is closed; asking changes nothing."""
    drift(store, kind="labels")
    drift(store, kind="snapshot")
    assert (due(store).due, due(store).why) == (False, "no finding asks for a training")
    asking = [drift(store), drift(store, kind="performance", subject="accuracy")]
    assert (due(store).due, due(store).why) == (True, "drift: temperature, performance: accuracy")
    assert [each.id for each in due(store).findings] == [each.id for each in asking]
    for each in asking:
        close_finding(store, CONTRACT, each.id, reason="known", by="ann", day=DAY)
    assert not due(store).due


def test_a_finding_starts_a_training_once_in_the_cool_down(store: Engine) -> None:
    """Neither it nor another one, closed or not, before the time is over; then only if it is seen again."""
    first = drift(store)
    assert due(store, started=True).due
    assert find(store, CONTRACT, first.id).trained_on == DAY.isoformat()
    drift(store, 1)
    drift(store, 1, subject="power")
    for after in (0, 1, 6):
        assert not due(store, after, started=True).due
    assert due(store, 6).why == "a finding started a training on 2025-09-02, and none starts another before 2025-09-09"
    assert [each.subject for each in due(store, 7).findings] == ["temperature", "power"]
    close_finding(store, CONTRACT, first.id, reason="known", by="ann", day=DAY + timedelta(days=2))
    assert not due(store, 6).due
    assert due(store, 7, started=True).why == "drift: power"
    assert due(store, 20).why == "no finding asks for a training"  # nobody has seen it since
    drift(store, 8, subject="power")
    assert due(store, 14).due
