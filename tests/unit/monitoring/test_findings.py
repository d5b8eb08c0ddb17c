"""Findings: raised once, open until somebody closes them, and never deleted."""

import math
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
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
from ctcd.store.engine import connect

DAY = date(2025, 9, 2)
EVIDENCE = {"psi": 0.4, "bins": [1, 2], "missing": {"now": 0.1, "before": None}}


@pytest.fixture
def engine(migrated_file: bytes, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "store.db").write_bytes(migrated_file)
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    yield engine
    engine.dispose()


def drift(engine: Engine, after: int = 0, **changes: Any) -> Finding:
    """Raise a finding about a day, counted from `DAY`."""
    given: dict[str, Any] = {
        "kind": "drift",
        "subject": "temperature",
        "evidence": EVIDENCE,
        "day": DAY + timedelta(days=after),
    }
    return raise_finding(engine, CONTRACT, **given | changes)


def test_a_finding_is_kept_with_its_day_and_its_evidence(engine: Engine) -> None:
    """It is read back as it was raised, and open."""
    raised = drift(engine)
    assert (raised.new, raised.kind, raised.subject, raised.evidence) == (True, "drift", "temperature", EVIDENCE)
    assert raised.day == raised.last_seen == DAY.isoformat()
    found = find(engine, CONTRACT, raised.id)
    assert vars(found) == vars(raised) | {"new": False}
    assert (found.closed_on, found.closed_by, found.reason) == (None, None, None)


def test_an_open_finding_is_raised_once_and_stays_open(engine: Engine) -> None:
    """Seen again, on the same day or another, it is the same finding; it remembers the last day, not the last call."""
    first = drift(engine)
    for after, last in ((0, 0), (3, 3), (1, 3), (-2, 3), (40, 40)):
        again = drift(engine, after, evidence={"psi": 0.9})
        assert (again.id, again.new, again.evidence) == (first.id, False, EVIDENCE)
        assert again.last_seen == (DAY + timedelta(days=last)).isoformat()
    assert [each.id for each in list_findings(engine, CONTRACT)] == [first.id]


def test_findings_of_another_kind_or_subject_are_others(engine: Engine) -> None:
    """What one person closes says nothing about another column or monitor."""
    made = [drift(engine), drift(engine, subject="power"), drift(engine, kind="labels")]
    close_finding(engine, CONTRACT, made[0].id, reason="mended", by="ann", day=DAY)
    assert [each.id for each in list_findings(engine, CONTRACT)] == [made[1].id, made[2].id]
    assert [each.id for each in list_findings(engine, CONTRACT, closed=True)] == [each.id for each in made]


def test_a_closed_finding_is_kept_and_raised_anew_if_it_comes_again(engine: Engine) -> None:
    """On the day of the closing or later; the days before were known when it was closed, so a backfill raises nothing."""
    first = drift(engine)
    closed = close_finding(engine, CONTRACT, first.id, reason=" a new sensor ", by="ann", day=DAY + timedelta(days=5))
    assert (closed.closed_on, closed.closed_by, closed.reason) == ("2025-09-07", "ann", "a new sensor")
    for after in (0, 4):
        assert drift(engine, after) == closed
    anew = drift(engine, 5)
    assert (anew.new, anew.day, anew.closed_on) == (True, "2025-09-07", None)
    assert drift(engine, 6).id == drift(engine, 2).id == anew.id > first.id
    assert find(engine, CONTRACT, first.id) == closed
    close_finding(engine, CONTRACT, anew.id, reason="again", by="bob", day=DAY + timedelta(days=7))
    assert drift(engine, 8).new
    assert count(engine, TABLES.findings) == 3


@pytest.mark.parametrize(
    ("reason", "by", "problem"),
    [("", "ann", "a reason has 1 to"), (" ", "ann", "a reason has 1 to"), ("r" * 501, "ann", "500"), ("r", " ", "a name has")],
)  # fmt: skip
def test_nobody_closes_a_finding_without_a_reason_and_a_name(
    engine: Engine, reason: str, by: str, problem: str
) -> None:
    """It stays open."""
    raised = drift(engine)
    with pytest.raises(UsageError, match=problem):
        close_finding(engine, CONTRACT, raised.id, reason=reason, by=by, day=DAY)
    assert find(engine, CONTRACT, raised.id).closed_on is None


def test_the_first_reason_stays(engine: Engine) -> None:
    """A finding that is closed is not closed by another person for another reason."""
    raised = drift(engine)
    closed = close_finding(engine, CONTRACT, raised.id, reason="mended", by="ann", day=DAY)
    with pytest.raises(UsageError, match=f"finding {raised.id}: it was closed on 2025-09-02 by ann"):
        close_finding(engine, CONTRACT, raised.id, reason="no idea", by="bob", day=DAY)
    assert find(engine, CONTRACT, raised.id) == closed


def test_a_finding_that_does_not_exist_is_not_found(engine: Engine) -> None:
    """The error names number, table and what lists them."""
    with pytest.raises(NotFound, match=r"machine_condition_findings: there is no finding 7 \(run: ctcd findings"):
        close_finding(engine, CONTRACT, 7, reason="mended", by="ann", day=DAY)


def test_evidence_is_numbers(engine: Engine) -> None:
    """NumPy's, too; one that is not finite is none, and a text, which could be of a person, is refused."""
    kept = drift(engine, evidence={"a": np.float64(0.5), "b": math.nan, "c": [math.inf]})
    assert find(engine, CONTRACT, kept.id).evidence == {"a": 0.5, "b": None, "c": [None]}
    for value in ("Kim", b"x", DAY):
        with pytest.raises(TypeError, match="evidence is numbers"):
            drift(engine, subject="power", evidence={"seen": [value]})
    assert len(list_findings(engine, CONTRACT)) == 1


def due(engine: Engine, after: int = 0, *, started: bool = False) -> TrainingDue:
    """Ask on a day, counted from `DAY`, with a cool-down of a week."""
    week = timedelta(days=7)
    return training_due(engine, CONTRACT, DAY + timedelta(days=after), cool_down=week, started=started)


def test_open_findings_that_a_training_may_answer_ask_for_one(engine: Engine) -> None:
    """Not those of labels or of a snapshot, and not one that is closed; asking changes nothing."""
    drift(engine, kind="labels")
    drift(engine, kind="snapshot")
    assert (due(engine).due, due(engine).why) == (False, "no finding asks for a training")
    asking = [drift(engine), drift(engine, kind="performance", subject="accuracy")]
    assert (due(engine).due, due(engine).why) == (True, "drift: temperature, performance: accuracy")
    assert [each.id for each in due(engine).findings] == [each.id for each in asking]
    for each in asking:
        close_finding(engine, CONTRACT, each.id, reason="known", by="ann", day=DAY)
    assert not due(engine).due


def test_a_finding_starts_a_training_once_in_the_cool_down(engine: Engine) -> None:
    """Neither it nor another one, closed or not, before the time is over; then only if it is seen again."""
    first = drift(engine)
    assert due(engine, started=True).due
    assert find(engine, CONTRACT, first.id).trained_on == DAY.isoformat()
    drift(engine, 1)
    drift(engine, 1, subject="power")
    for after in (0, 1, 6):
        assert not due(engine, after, started=True).due
    assert due(engine, 6).why == "a finding started a training on 2025-09-02, and none starts another before 2025-09-09"
    assert [each.subject for each in due(engine, 7).findings] == ["temperature", "power"]
    close_finding(engine, CONTRACT, first.id, reason="known", by="ann", day=DAY + timedelta(days=2))
    assert not due(engine, 6).due
    assert due(engine, 7, started=True).why == "drift: power"
    assert due(engine, 20).why == "no finding asks for a training"  # nobody has seen it since
    drift(engine, 8, subject="power")
    assert due(engine, 14).due
