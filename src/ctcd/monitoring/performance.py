"""Performance of logged predictions, measured with the labels that became known later."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, FromClause, func, null, select

from ctcd.contract.spec import Contract
from ctcd.model.metrics import macro_f1
from ctcd.monitoring.findings import Finding
from ctcd.monitoring.periods import Period, bounds, spans
from ctcd.monitoring.samples import made
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import build_tables, log_name
from ctcd.store.upsert import upsert

HORIZON = timedelta(days=31)
"""Longest time from a prediction to the date of its label; the first label within it counts."""
PERIODS = {Period.DAILY: 31, Period.WEEKLY: 5}
"""Number of past periods in a report; they are recomputed as labels become known."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Predictions of one model in one period.

    Args:
        first_day: its first day, ISO 8601.
        last_day: its last day, ISO 8601.
        run_id: its training run; empty if the predictions do not name it.
        labelled: number of those whose label is known. One whose class, true or predicted, the contract does not have
            any more is left out.
        accuracy: share of the labelled ones, 0 to 1, that were correct; None if there are none.
        macro_f1: mean F1 of the classes (0 for a class that is neither true nor predicted); None likewise.
        recall: by class, the share of its labelled rows, 0 to 1, predicted correctly; None for a class without labels.
        confusion: counts by true class (rows) and predicted class (columns), in the contract's order.
    """

    period: Period
    first_day: str
    last_day: str
    model_version: str
    run_id: str
    predictions: int
    labelled: int
    accuracy: float | None
    macro_f1: float | None
    recall: dict[str, float | None]
    confusion: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class PerformanceReport:
    """Rows that were written to the table of the store, oldest first, and what they led to."""

    table: str
    rows: tuple[Performance, ...]
    findings: tuple[Finding, ...] = ()


def write_performance(
    engine: Engine, contract: Contract, base_dt: date, *, period: Period, zone: ZoneInfo
) -> PerformanceReport:
    """Compare the predictions of the days or whole weeks before a day with their labels, and write the result.

    Days begin and end in the given time zone, weeks on Monday. Periods without predictions have no row. Repeating the
    call replaces its rows.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).performance
    rows = []
    with reading(engine) as connection:
        for first, last in spans(base_dt, period, PERIODS[period]):
            rows += _period(connection, contract, period=period, first=first, last=last, zone=zone)
    if rows:
        now = datetime.now(UTC)
        with transaction(engine) as connection:
            upsert(connection, table, [_record(row, now) for row in rows])
    return PerformanceReport(table=table.name, rows=tuple(rows))


def _period(
    connection: Connection, contract: Contract, *, period: Period, first: date, last: date, zone: ZoneInfo
) -> list[Performance]:
    classes = contract.classes
    total: dict[tuple[str, str], int] = defaultdict(int)
    confusion: dict[tuple[str, str], NDArray[np.int64]] = defaultdict(
        lambda: np.zeros((len(classes), len(classes)), np.int64)
    )
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        for version, run_id, prediction, label, count in _counts(connection, contract, day, zone):
            total[version, run_id] += count
            if label in classes and prediction in classes:
                confusion[version, run_id][classes.index(label), classes.index(prediction)] += count
    rows = []
    for version, run_id in sorted(total):
        table = confusion[version, run_id]
        labelled, right, true = int(table.sum()), np.diag(table), table.sum(axis=1)
        rows.append(
            Performance(
                period=period,
                first_day=first.isoformat(),
                last_day=last.isoformat(),
                model_version=version,
                run_id=run_id,
                predictions=total[version, run_id],
                labelled=labelled,
                accuracy=float(right.sum() / labelled) if labelled else None,
                macro_f1=float(macro_f1(table)) if labelled else None,
                recall={
                    name: float(right[index] / true[index]) if true[index] else None
                    for index, name in enumerate(classes)
                },
                confusion=table.tolist(),
            )
        )
    return rows


def _counts(
    connection: Connection, contract: Contract, day: date, zone: ZoneInfo
) -> list[tuple[str, str, str, str | None, int]]:
    """Return the number of predictions of a day by version, run, prediction and label (None: not known yet)."""
    tables = build_tables(contract)
    log, labels = tables.predictions, tables.labels
    group, key = contract.group.name, contract.key.name
    when, label = labels.c[contract.event_date.name], labels.c[contract.label.name]
    rank = func.row_number().over(partition_by=labels.c[group], order_by=(when, labels.c[key]))
    ranked = (
        select(labels.c[group], label, rank.label("_rank")).where(when.between(day, day + HORIZON)).subquery("ranked")
    )
    first = select(ranked).where(ranked.c["_rank"] == 1).subquery("first_labels")
    logged: FromClause = log
    known: ColumnElement[Any] = null()  # without a group or key, requests do not say which row they are about
    if contract.identity:
        logged = log.outerjoin(first, log.c[log_name(contract.group)] == first.c[group])
        known = first.c[contract.label.name]
    columns = (log.c.model_version, log.c.run_id, log.c.prediction, known)
    query = (
        select(*columns, func.count())
        .select_from(logged)
        .where(made(contract, bounds(day, day, zone)))
        .group_by(*columns)
    )
    return [tuple(row) for row in connection.execute(query)]


def _record(row: Performance, now: datetime) -> dict[str, object]:
    return {
        **vars(row),
        "period": row.period.value,
        "first_day": date.fromisoformat(row.first_day),
        "last_day": date.fromisoformat(row.last_day),
        "computed_at": now,
    }
