"""Findings: problems that a monitor has found, stored in a table until somebody closes them with a reason.

A finding is never deleted, and nothing but `close_finding` closes it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, func, select, update

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, UsageError
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import REASON_LENGTH, SUBJECT_LENGTH, build_tables
from ctcd.store.upsert import insert_new


class Kind(StrEnum):
    """What was found."""

    DRIFT = "drift"
    """A distribution differs from the reference."""
    PERFORMANCE = "performance"
    """Predictions with known labels are worse than a floor of the promotion policy."""
    LABELS = "labels"
    """Labels are missing."""
    SNAPSHOT = "snapshot"
    """A training snapshot was refused."""
    CHALLENGER = "challenger"
    """A challenger was withdrawn, because it broke a limit."""


ANSWERED = (Kind.DRIFT, Kind.PERFORMANCE)
"""Kinds that a training can remedy; the others it cannot, such as missing labels or a refused snapshot."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding; two are equal if kind and subject are.

    Args:
        subject: what it is about, such as a column or a score of a version.
        evidence: numbers by name, possibly nested, from the day on which it was raised.
        day: the day on which it was found, ISO 8601.
        last_seen: the last day on which it was found, ISO 8601.
        trained_on: the day on which it last started a training, ISO 8601; None if it has not.
        closed_on: the day on which it was closed, ISO 8601; None while it is open, and so are `closed_by` and `reason`.
        new: whether this call has raised it.
    """

    id: int
    kind: Kind
    subject: str
    evidence: dict[str, Any]
    day: str
    last_seen: str
    raised_at: datetime
    trained_on: str | None
    closed_on: str | None
    closed_by: str | None
    reason: str | None
    new: bool = False

    def numbers(self) -> Iterator[tuple[str, Any]]:
        """Yield the numbers of the evidence, each with its path, such as `errors.value`."""
        return _flat(self.evidence)


@dataclass(frozen=True, kw_only=True)
class TrainingDue:
    """Whether findings call for a training today, with the reason.

    Args:
        findings: the findings that call for it.
    """

    due: bool
    why: str
    findings: tuple[Finding, ...] = ()


def raise_finding(
    engine: Engine, contract: Contract, *, kind: str, subject: str, evidence: Mapping[str, Any], day: date
) -> Finding:
    """Raise a finding about a day; `kind` is a value of `Kind`.

    If an equal finding is open, no other one is raised; its `last_seen` is set to the day if that is later. Nor is one
    raised for a day before an equal one was closed, because whoever closed it knew about that day. So the call can be
    repeated. Only the first 500 characters of the subject are stored. The evidence is numbers by name, possibly nested;
    numbers that are not finite are stored as None.

    Returns:
        The open finding; the closed one if that covers the day.

    Raises:
        Unreachable: the store does not answer.
        TypeError: the evidence contains a value that is not a number, which could be personal data.
    """
    table, now, subject = build_tables(contract).findings, datetime.now(UTC), subject[:SUBJECT_LENGTH]
    same = (table.c.kind == Kind(kind), table.c.subject == subject)
    row = {
        "kind": Kind(kind).value,
        "subject": subject,
        "is_open": True,
        "evidence": _numbers(evidence),
        "day": day,
        "last_seen": day,
        "raised_at": now,
    }
    with transaction(engine) as connection:
        closed = connection.scalar(select(func.max(table.c.closed_on)).where(*same))
        if closed is None or day >= closed:
            insert_new(connection, table, [row])
        seen = update(table).where(*same, table.c.is_open, table.c.last_seen < day)
        connection.execute(seen.values(last_seen=day))
        found = connection.execute(select(table).where(*same).order_by(table.c.id.desc()).limit(1)).one()
    return _finding(found, new=found.is_open is not None and found.raised_at == now)


def list_findings(engine: Engine, contract: Contract, *, closed: bool = False) -> tuple[Finding, ...]:
    """Return the open findings, with `closed` all of them, oldest first.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).findings
    query = select(table).order_by(table.c.id)
    with reading(engine) as connection:
        return tuple(map(_finding, connection.execute(query if closed else query.where(table.c.is_open))))


def find(engine: Engine, contract: Contract, number: int) -> Finding:
    """Return a finding.

    Raises:
        NotFound: there is none with this number.
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).findings
    with reading(engine) as connection:
        row = connection.execute(select(table).where(table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no finding {number}", where=table.name, hint="run: ctcd findings list --all")
    return _finding(row)


def close_finding(engine: Engine, contract: Contract, number: int, *, reason: str, by: str, day: date) -> Finding:
    """Close a finding, and return it.

    `by` says who closes it, and `reason` why it needs no attention any more. `day` is today: an equal finding about an
    earlier day is not raised again.

    Raises:
        NotFound: there is none with this number.
        UsageError: it is closed already, or reason or name are empty or too long.
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).findings
    for what, text in (("reason", reason), ("name", by)):
        if not text.strip() or len(text) > REASON_LENGTH:
            raise UsageError(f"a {what} has 1 to {REASON_LENGTH} characters", where=f"finding {number}")
    closing = update(table).where(table.c.id == number, table.c.is_open)
    with transaction(engine) as connection:
        done = connection.execute(
            closing.values(is_open=None, closed_on=day, closed_by=by.strip(), reason=reason.strip())
        )
    found = find(engine, contract, number)
    if not done.rowcount:
        raise UsageError(f"it was closed on {found.closed_on} by {found.closed_by}", where=f"finding {number}")
    return found


def training_due(
    engine: Engine, contract: Contract, today: date, *, cool_down: timedelta, started: bool = False
) -> TrainingDue:
    """Return whether findings call for a training: an open one that training can remedy, seen since it last began one.

    During `cool_down` after a finding has started a training, no finding starts another. With `started`, the findings
    are marked as having started a training today; this can be repeated.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).findings
    with transaction(engine) as connection:
        # Locked, so that two monitors do not both find a training due and mark it.
        rows = connection.execute(select(table).order_by(table.c.id).with_for_update()).all()
        last = max((row.trained_on for row in rows if row.trained_on), default=None)
        asking = [
            row
            for row in rows
            if row.is_open and row.kind in ANSWERED and (row.trained_on is None or row.last_seen > row.trained_on)
        ]
        if not asking:
            return TrainingDue(due=False, why="no finding asks for a training")
        if last is not None and today < last + cool_down:
            why = f"a finding started a training on {last}, and none starts another before {last + cool_down}"
            return TrainingDue(due=False, why=why)
        if started:
            marked = table.c.id.in_([row.id for row in asking])
            connection.execute(update(table).where(marked).values(trained_on=today))
    subjects = ", ".join(f"{row.kind}: {row.subject}" for row in asking)
    return TrainingDue(due=True, why=subjects, findings=tuple(map(_finding, asking)))


def _finding(row: Any, *, new: bool = False) -> Finding:
    return Finding(
        id=row.id,
        kind=Kind(row.kind),
        subject=row.subject,
        evidence=row.evidence,
        day=row.day.isoformat(),
        last_seen=row.last_seen.isoformat(),
        raised_at=row.raised_at,
        trained_on=row.trained_on and row.trained_on.isoformat(),
        closed_on=row.closed_on and row.closed_on.isoformat(),
        closed_by=row.closed_by,
        reason=row.reason,
        new=new,
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield name, value
        return
    for key, part in parts:
        yield from _flat(part, f"{name}.{key}" if name else str(key))


def _numbers(evidence: Any) -> Any:
    """Return evidence as plain numbers.

    Raises:
        TypeError: a value is not a number.
    """
    if isinstance(evidence, Mapping):
        return {str(name): _numbers(value) for name, value in evidence.items()}
    if isinstance(evidence, list | tuple):
        return [_numbers(value) for value in evidence]
    if evidence is None or isinstance(evidence, int):
        return evidence
    if isinstance(evidence, float):  # NumPy's double is one
        return float(evidence) if math.isfinite(evidence) else None
    raise TypeError(f"evidence is numbers, not {type(evidence).__name__}")
