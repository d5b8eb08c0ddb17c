"""Performance of logged predictions: measured with the labels that became known later, and estimated before."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Engine, FromClause, Select, func, null, select

from ctcd.contract.spec import Contract
from ctcd.model.metrics import confusion_matrix, macro_f1
from ctcd.monitoring.findings import Finding
from ctcd.monitoring.formulas import macro_f1_interval, wilson
from ctcd.monitoring.periods import Period, bounds, spans
from ctcd.monitoring.samples import Model, by_model, made
from ctcd.promotion.policy import Slices
from ctcd.promotion.slices import cut
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import build_tables, log_name
from ctcd.store.upsert import upsert

HORIZON = timedelta(days=31)
"""Longest time from a prediction to the date of its label; the first label within it counts."""
PERIODS = {Period.DAILY: 31, Period.WEEKLY: 5}
"""Number of past periods in a report; they are recomputed as labels become known."""
LEVEL = 0.95
"""Two-sided confidence of all intervals."""


@dataclass(frozen=True, kw_only=True)
class SliceAccuracy:
    """Accuracy of the labelled predictions of one slice, 0 to 1, and the ends of its 95 % interval."""

    labelled: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Predictions of one model in one period.

    Intervals are of 95 %, and count rows of one group as fewer than independent ones; see `effective_rows`.

    Args:
        first_day: its first day, ISO 8601.
        last_day: its last day, ISO 8601.
        run_id: its training run; empty if the predictions do not name it.
        labelled: number of those whose label is known. One whose class, true or predicted, the contract does not have
            any more is left out.
        completeness: `labelled` as a share of `predictions`, 0 to 1.
        accuracy: share of the labelled ones, 0 to 1, that were correct; None if there are none.
        accuracy_low: lower end of its interval, and `accuracy_high` the upper one; None likewise.
        macro_f1: mean F1 of the classes (0 for a class that is neither true nor predicted); None likewise.
        macro_f1_low: lower end of its interval, and `macro_f1_high` the upper one; None likewise.
        recall: by class, the share of its labelled rows, 0 to 1, predicted correctly; None for a class without labels.
        recall_interval: by class, the ends of its interval; None likewise.
        confusion: counts by true class (rows) and predicted class (columns), in the contract's order.
        slices: by column and slice, of those of the promotion policy that have enough labelled rows.
        estimated_accuracy: accuracy of all predictions as their probabilities promise it; None if none has any.
        estimated_macro_f1: macro F1 likewise.
        accuracy_error: what the estimate for the labelled ones is above their accuracy; None if there are none.
        macro_f1_error: what the estimate for the labelled ones is above their macro F1; None likewise.
    """

    period: Period
    first_day: str
    last_day: str
    model_version: str
    run_id: str
    predictions: int
    labelled: int
    completeness: float
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    macro_f1: float | None
    macro_f1_low: float | None
    macro_f1_high: float | None
    recall: dict[str, float | None]
    recall_interval: dict[str, tuple[float, float] | None]
    confusion: list[list[int]]
    slices: dict[str, dict[str, SliceAccuracy]]
    estimated_accuracy: float | None
    estimated_macro_f1: float | None
    accuracy_error: float | None
    macro_f1_error: float | None


@dataclass(frozen=True, kw_only=True)
class PerformanceReport:
    """Rows that were written to the table of the store, oldest first, and what they led to."""

    table: str
    rows: tuple[Performance, ...]
    findings: tuple[Finding, ...] = ()


def write_performance(
    engine: Engine,
    contract: Contract,
    base_dt: date,
    *,
    period: Period,
    zone: ZoneInfo,
    slices: Slices | None,
    chunk_rows: int,
) -> PerformanceReport:
    """Compare the predictions of the days or whole weeks before a day with their labels, and write the result.

    Days begin and end in the given time zone, weeks on Monday. Periods without predictions have no row. Repeating the
    call replaces its rows. `slices` are those of the promotion policy; None: there are none. Rows are read in chunks.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).performance
    rows = []
    with reading(engine) as connection:
        for first, last in spans(base_dt, period, PERIODS[period]):
            sizes = by_model(connection, contract, bounds(first, last, zone))
            found: dict[Model, _Counted] = defaultdict(lambda: _Counted(contract.classes, slices))
            for offset in range((last - first).days + 1 if sizes else 0):
                query = labelled(contract, first + timedelta(days=offset), zone)
                for chunk in connection.execute(query, execution_options={"yield_per": chunk_rows}).partitions():
                    for model in {(row.model_version, row.run_id) for row in chunk}:
                        found[model].add([row for row in chunk if (row.model_version, row.run_id) == model])
            # A version whose first rows were logged since the sizes were read is left to the next run.
            for version, run_id in sorted(found.keys() & sizes.keys()):
                counted, (logged, effective) = found[version, run_id], sizes[version, run_id]
                rows.append(
                    Performance(
                        period=period,
                        first_day=first.isoformat(),
                        last_day=last.isoformat(),
                        model_version=version,
                        run_id=run_id,
                        predictions=counted.predictions,
                        **counted.measured(effective / logged),
                    )
                )
    if rows:
        now = datetime.now(UTC)
        with transaction(engine) as connection:
            upsert(connection, table, [_record(row, now) for row in rows])
    return PerformanceReport(table=table.name, rows=tuple(rows))


def scores(confusion: NDArray[np.integer[Any]], classes: Sequence[str], independent: float) -> dict[str, Any]:
    """Return the scores of a confusion matrix, and the ends of their intervals, as fields of `Performance`.

    Args:
        confusion: counts by true class (rows) and predicted class (columns); shape (classes, classes).
        classes: names of the classes.
        independent: number of independent rows that say as much, as a share of the rows, 0 to 1.
    """
    labelled, right, true = int(confusion.sum()), np.diag(confusion), confusion.sum(axis=1)
    fields: dict[str, Any] = {"labelled": labelled, "confusion": confusion.tolist()}
    for name in ("accuracy", "macro_f1"):
        fields |= {name: None, f"{name}_low": None, f"{name}_high": None}
    fields["recall"] = {name: float(right[at] / true[at]) if true[at] else None for at, name in enumerate(classes)}
    fields["recall_interval"] = {
        name: wilson(right[at] / true[at], true[at] * independent, LEVEL) if true[at] else None
        for at, name in enumerate(classes)
    }
    if labelled:
        rows = labelled * independent
        fields["accuracy"], fields["macro_f1"] = float(right.sum() / labelled), float(macro_f1(confusion))
        fields["accuracy_low"], fields["accuracy_high"] = wilson(fields["accuracy"], rows, LEVEL)
        fields["macro_f1_low"], fields["macro_f1_high"] = macro_f1_interval(confusion, rows, LEVEL)
    return fields


class _Counted:
    """What the predictions of one model in one period add up to.

    Before labels are known, the confusion matrix is estimated from the probabilities: of each prediction, the probability
    of each class is added to the cell of that true and the predicted class (confidence-based performance estimation,
    CBPE: Białek et al. (2024), Estimating Model Performance Under Covariate Shift Without Labels, arXiv:2401.08348; and
    the documentation of NannyML). That is right on average if the probabilities are calibrated.
    """

    def __init__(self, classes: Sequence[str], slices: Slices | None) -> None:
        self.predictions = 0
        self._classes, self._slices = classes, slices
        self._place = {name: at for at, name in enumerate(classes)}
        shape = (len(classes), len(classes))
        self._confusion = np.zeros(shape, np.int64)
        self._expected, self._expected_labelled, self._checked = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._rows, self._right = Counter[tuple[str, str]](), Counter[tuple[str, str]]()

    def add(self, rows: Sequence[Any]) -> None:
        """Count some rows of `labelled`."""
        predicted, true = (
            np.array([self._place.get(name, -1) for name in names], dtype=np.intp)
            for names in ([row.prediction for row in rows], [row.label for row in rows])
        )
        known = (predicted >= 0) & (true >= 0)
        self.predictions += len(rows)
        self._confusion += self._matrix(true[known], predicted[known])
        # Of a release that logged them, and of the classes of today.
        promised = np.array([(row.probabilities or {}).keys() == self._place.keys() for row in rows]) & (predicted >= 0)
        if promised.any():
            table = np.array(
                [
                    [row.probabilities[name] for name in self._classes]
                    for row, is_so in zip(rows, promised, strict=True)
                    if is_so
                ]
            )
            answers = np.eye(len(self._classes))[predicted[promised]]
            both = known[promised]
            self._expected += table.T @ answers
            self._expected_labelled += table[both].T @ answers[both]
            self._checked += self._matrix(true[known & promised], predicted[known & promised])
        if self._slices is not None and known.any():
            features = [row.features for row, is_so in zip(rows, known, strict=True) if is_so]
            by = {name: [each.get(name) for each in features] for name in self._slices.by}
            hits = (true == predicted)[known]
            for slicing in cut(pd.DataFrame(by, dtype=object), self._slices.by):
                for counter, weights in ((self._rows, None), (self._right, hits)):
                    counts = np.bincount(slicing.place, weights=weights, minlength=len(slicing.names))
                    counter.update(
                        {(slicing.column, name): int(n) for name, n in zip(slicing.names, counts, strict=True)}
                    )

    def measured(self, independent: float) -> dict[str, Any]:
        """Return fields of `Performance`; for `independent` see `scores`."""
        fields = scores(self._confusion, self._classes, independent)
        fields["completeness"] = fields["labelled"] / self.predictions
        slices: dict[str, dict[str, SliceAccuracy]] = {}
        for (column, name), rows in sorted(self._rows.items()):
            if self._slices is not None and rows >= self._slices.min_rows:
                share = self._right[column, name] / rows
                low, high = wilson(share, rows * independent, LEVEL)
                accuracy = SliceAccuracy(labelled=rows, accuracy=share, low=low, high=high)
                slices.setdefault(column, {})[name] = accuracy
        estimated, of_labelled, checked = map(
            _accuracy_and_f1, (self._expected, self._expected_labelled, self._checked)
        )
        errors = [
            None if one is None or two is None else one - two for one, two in zip(of_labelled, checked, strict=True)
        ]
        names = ("estimated_accuracy", "estimated_macro_f1", "accuracy_error", "macro_f1_error")
        return fields | {"slices": slices} | dict(zip(names, (*estimated, *errors), strict=True))

    def _matrix(self, true: NDArray[np.intp], predicted: NDArray[np.intp]) -> NDArray[np.intp]:
        return confusion_matrix(true, predicted, len(self._classes))


def _accuracy_and_f1(confusion: NDArray[np.float64]) -> tuple[float | None, float | None]:
    total = confusion.sum()
    return (float(np.trace(confusion) / total), float(macro_f1(confusion))) if total else (None, None)


def labelled(contract: Contract, day: date, zone: ZoneInfo) -> Select[Any]:
    """Return the query for the predictions of a day, each with its label (None: not known yet)."""
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
    return (
        select(
            log.c.model_version,
            log.c.run_id,
            log.c.variant,
            log.c.prediction,
            log.c.probabilities,
            log.c.features,
            known.label("label"),
        )
        .select_from(logged)
        .where(made(contract, bounds(day, day, zone)))
    )


def _record(row: Performance, now: datetime) -> dict[str, object]:
    slices = {name: {each: vars(found) for each, found in of.items()} for name, of in row.slices.items()}
    return {
        **vars(row),
        "slices": slices,
        "period": row.period.value,
        "first_day": date.fromisoformat(row.first_day),
        "last_day": date.fromisoformat(row.last_day),
        "computed_at": now,
    }
