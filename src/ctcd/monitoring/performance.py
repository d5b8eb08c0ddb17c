"""Performance of logged predictions: measured with the labels that became known later, and estimated before."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Engine, FromClause, Select, case, func, null, select

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
ALWAYS_READ = 10_000
"""Predictions of a day that are read at every run; of a larger day what was counted is kept, see `_is_current`."""
MORE_LABELS = 1.5
"""Labels that may be those of a larger day, as a multiple of those when it was read last, from which it is read again."""
PERIODS = {Period.DAILY: 31, Period.WEEKLY: 5}
"""Number of past periods in a report; they are recomputed as labels become known."""
LEVEL = 0.95
"""Two-sided confidence of all intervals."""


@dataclass(frozen=True, kw_only=True)
class SliceScores:
    """Scores of the labelled predictions of one slice.

    Args:
        accuracy: 0 to 1.
        low: lower end of its 95 % interval, and `high` the upper one.
        macro_f1: mean F1 of the classes (0 for a class that is neither true nor predicted).
        macro_f1_low: lower end of its 95 % interval, and `macro_f1_high` the upper one.
    """

    labelled: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float


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
    slices: dict[str, dict[str, SliceScores]]
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
    What a day's predictions add up to is kept with its row, and a large day is read again only if it has changed.

    Raises:
        Unreachable: the store does not answer.
    """
    table, now = build_tables(contract).performance, datetime.now(UTC)
    periods = list(spans(base_dt, period, PERIODS[period]))
    with reading(engine) as connection:
        log = _Log(
            connection=connection, contract=contract, base_dt=base_dt, zone=zone, slices=slices, chunk_rows=chunk_rows
        )
        days = log.days(periods[0][0], periods[-1][1])
        found = {Period.DAILY: days}
        if period is Period.WEEKLY:
            found[period] = log.weeks(periods, days)
    rows = {
        each: [
            (_measured(each, span, model, kept, slices), kept)
            for span, models in of_length.items()
            for model, kept in sorted(models.items())
        ]
        for each, of_length in found.items()
    }
    if records := [_record(row, kept, now) for of_length in rows.values() for row, kept in of_length]:
        with transaction(engine) as connection:
            upsert(connection, table, records)
    return PerformanceReport(table=table.name, rows=tuple(row for row, _ in rows[period]))


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


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the predictions of one model in one period add up to, as it is kept in the store.

    Args:
        classes: those of the contract when they were counted.
        by: the slices of the policy, as text, likewise.
        read_on: the day before which they were counted.
        logged: rows that the log had of the period then, of all models.
        labels: labels that the store had then which may be those of the period.
        predictions: predictions of the model.
        independent: number of independent ones that say as much, as a share of them, 0 to 1.
        confusion: labelled ones by true class (rows) and predicted class (columns).
        expected: all of them, by the probability of each class (rows) and predicted class (columns).
        expected_labelled: the same of the labelled ones.
        checked: the confusion of those whose probabilities are known.
        slices: the confusion by column and slice.
    """

    classes: tuple[str, ...]
    by: str
    read_on: date
    logged: int
    labels: int
    predictions: int
    independent: float
    confusion: list[list[int]]
    expected: list[list[float]]
    expected_labelled: list[list[float]]
    checked: list[list[int]]
    slices: dict[str, dict[str, list[list[int]]]]


_KEPT = TypeAdapter(Kept)
_Span = tuple[date, date]


@dataclass(frozen=True, kw_only=True)
class _Log:
    """The predictions before a day; for the fields see `write_performance`."""

    connection: Connection
    contract: Contract
    base_dt: date
    zone: ZoneInfo
    slices: Slices | None
    chunk_rows: int

    def days(self, first: date, last: date) -> dict[_Span, dict[Model, Kept]]:
        """Return what the predictions of days add up to, by model; of large days that have not changed what was kept."""
        kept, labels = self._kept(Period.DAILY, first, last), self._labels(first, last + HORIZON)
        found = {}
        for offset in range((last - first).days + 1):
            day = first + timedelta(days=offset)
            known, logged = kept[day], self._logged(day)
            due = sum(count for label_day, count in labels.items() if day <= label_day <= day + HORIZON)
            if not self._is_current(day, known, logged, due):
                known = self._read(day, logged, due) if logged else {}
            found[day, day] = known
        return found

    def weeks(
        self, periods: Sequence[_Span], days: Mapping[_Span, dict[Model, Kept]]
    ) -> dict[_Span, dict[Model, Kept]]:
        """Return what the predictions of weeks add up to, by model.

        A machine that asks on two days is one group: how much a week's rows say is counted, once for the same rows.
        """
        before = self._kept(Period.WEEKLY, periods[0][0], periods[-1][1])
        found: dict[_Span, dict[Model, Kept]] = {}
        for first, last in periods:
            of_week: dict[Model, _Counted] = defaultdict(self._nothing)
            for (day, _), models in days.items():
                for model, kept in models.items() if first <= day <= last else ():
                    of_week[model].add_kept(kept)
            independent = {
                model: kept.independent
                for model, kept in before[first].items()
                if model in of_week and kept.predictions == of_week[model].predictions
            }
            if independent.keys() != of_week.keys():
                sizes = by_model(self.connection, self.contract, bounds(first, last, self.zone))
                independent = {model: effective / logged for model, (logged, effective) in sizes.items()}
            found[first, last] = {
                model: counted.kept(self._stamp(0, 0), independent[model])
                for model, counted in of_week.items()
                if model in independent
            }
        return found

    def _is_current(self, day: date, kept: Mapping[Model, Kept], logged: int, labels: int) -> bool:
        """Return whether what was kept of a day is used: the day is large, and not much has changed.

        It is read again if predictions were logged since, if there are half as many labels again as then, or fewer, if
        classes or slices are others, and once more when no label can come any more.
        """
        if logged <= ALWAYS_READ or not kept:
            return False
        known = next(iter(kept.values()))
        same = self._stamp(logged, labels) | {"labels": known.labels, "read_on": known.read_on}
        closed = known.read_on < day + HORIZON <= self.base_dt
        more = labels > known.labels and labels >= MORE_LABELS * known.labels
        unchanged = all(getattr(known, name) == value for name, value in same.items())
        return unchanged and not more and labels >= known.labels and not closed

    def _stamp(self, logged: int, labels: int) -> dict[str, Any]:
        by = "" if self.slices is None else str(sorted(self.slices.by.items()))
        return {
            "classes": self.contract.classes,
            "by": by,
            "read_on": self.base_dt,
            "logged": logged,
            "labels": labels,
        }

    def _kept(self, period: Period, first: date, last: date) -> dict[date, dict[Model, Kept]]:
        """Return what was kept by first day and model, of each day what was counted last."""
        table = build_tables(self.contract).performance
        query = select(table.c.first_day, table.c.model_version, table.c.run_id, table.c.counts).where(
            table.c.period == period.value, table.c.first_day.between(first, last)
        )
        found: dict[date, dict[Model, Kept]] = defaultdict(dict)
        for day, version, run_id, counts in self.connection.execute(query):
            if counts is not None:  # null in rows of a release that kept nothing
                found[day][version, run_id] = _KEPT.validate_python(counts)
        for models in found.values():
            newest = max(each.read_on for each in models.values())
            for model in [model for model, each in models.items() if each.read_on < newest]:
                del models[model]
        return found

    def _logged(self, day: date) -> int:
        """Return the number of rows that the log has of a day, which the index alone answers."""
        created_at = build_tables(self.contract).predictions.c.created_at
        begin, end = bounds(day, day, self.zone)
        counted = select(func.count(created_at)).where(created_at >= begin, created_at < end)
        return int(self.connection.scalar(counted) or 0)

    def _labels(self, first: date, last: date) -> dict[date, int]:
        """Return the number of labels by their date."""
        day = build_tables(self.contract).labels.c[self.contract.event_date.name]
        if not self.contract.identity:
            return {}
        counted = select(day, func.count(day)).where(day.between(first, last)).group_by(day)
        return {each: int(count) for each, count in self.connection.execute(counted)}

    def _read(self, day: date, logged: int, labels: int) -> dict[Model, Kept]:
        """Read the predictions of a day, with their labels, in chunks."""
        sizes = by_model(self.connection, self.contract, bounds(day, day, self.zone))
        found: dict[Model, _Counted] = defaultdict(self._nothing)
        query = labelled(self.contract, day, made(self.contract, bounds(day, day, self.zone)))
        for chunk in self.connection.execute(query, execution_options={"yield_per": self.chunk_rows}).partitions():
            for model in {(row.model_version, row.run_id) for row in chunk}:
                found[model].add([row for row in chunk if (row.model_version, row.run_id) == model])
        # A version whose first rows were logged since the sizes were read is left to the next run.
        return {
            model: found[model].kept(self._stamp(logged, labels), effective / counted)
            for model, (counted, effective) in sizes.items()
            if model in found
        }

    def _nothing(self) -> "_Counted":
        return _Counted(self.contract.classes, self.slices)


def _measured(period: Period, span: _Span, model: Model, kept: Kept, slices: Slices | None) -> Performance:
    counted = _Counted(kept.classes, slices)
    counted.add_kept(kept)
    return Performance(
        period=period,
        first_day=span[0].isoformat(),
        last_day=span[1].isoformat(),
        model_version=model[0],
        run_id=model[1],
        predictions=kept.predictions,
        **counted.measured(kept.independent),
    )


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
        self._confusion, self._checked = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._expected, self._expected_labelled = np.zeros(shape), np.zeros(shape)
        self._by_slice: dict[tuple[str, str], NDArray[np.int64]] = defaultdict(lambda: np.zeros(shape, np.int64))

    def add_kept(self, kept: Kept) -> None:
        """Add what was counted before."""
        self.predictions += kept.predictions
        self._confusion += np.array(kept.confusion)
        self._checked += np.array(kept.checked)
        self._expected += np.array(kept.expected)
        self._expected_labelled += np.array(kept.expected_labelled)
        for column, of in kept.slices.items():
            for name, confusion in of.items():
                self._by_slice[column, name] += np.array(confusion)

    def kept(self, stamp: Mapping[str, Any], independent: float) -> Kept:
        """Return the counts to be kept; `stamp` has the fields of `Kept` that say when and of what they were made."""
        slices: dict[str, dict[str, list[list[int]]]] = {}
        for (column, name), confusion in sorted(self._by_slice.items()):
            slices.setdefault(column, {})[name] = confusion.tolist()
        return Kept(
            **stamp,
            predictions=self.predictions,
            independent=independent,
            confusion=self._confusion.tolist(),
            expected=self._expected.tolist(),
            expected_labelled=self._expected_labelled.tolist(),
            checked=self._checked.tolist(),
            slices=slices,
        )

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
            cells = len(self._classes) ** 2
            pair = true[known] * len(self._classes) + predicted[known]
            for slicing in cut(pd.DataFrame(by, dtype=object), self._slices.by):
                counts = np.bincount(slicing.place * cells + pair, minlength=len(slicing.names) * cells)
                for name, of_slice in zip(slicing.names, counts.reshape(-1, *self._confusion.shape), strict=True):
                    self._by_slice[slicing.column, name] += of_slice

    def measured(self, independent: float) -> dict[str, Any]:
        """Return fields of `Performance`; for `independent` see `scores`."""
        fields = scores(self._confusion, self._classes, independent)
        fields["completeness"] = fields["labelled"] / self.predictions
        slices: dict[str, dict[str, SliceScores]] = {}
        for (column, name), confusion in sorted(self._by_slice.items()):
            rows = int(confusion.sum())
            if self._slices is not None and rows >= self._slices.min_rows:
                share = float(np.trace(confusion) / rows)
                low, high = wilson(share, rows * independent, LEVEL)
                f1_low, f1_high = macro_f1_interval(confusion, rows * independent, LEVEL)
                slices.setdefault(column, {})[name] = SliceScores(
                    labelled=rows,
                    accuracy=share,
                    low=low,
                    high=high,
                    macro_f1=float(macro_f1(confusion)),
                    macro_f1_low=f1_low,
                    macro_f1_high=f1_high,
                )
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


def _accuracy_and_f1(confusion: NDArray[Any]) -> tuple[float | None, float | None]:
    total = confusion.sum()
    return (float(np.trace(confusion) / total), float(macro_f1(confusion))) if total else (None, None)


def labelled(contract: Contract, day: date, where: ColumnElement[bool]) -> Select[Any]:
    """Return the query for some predictions, all of a day, each with its label (None: not known yet)."""
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
            case((known.is_not(None), log.c.features)).label("features"),  # slices are of labelled rows
            known.label("label"),
        )
        .select_from(logged)
        .where(where)
    )


def _record(row: Performance, kept: Kept, now: datetime) -> dict[str, object]:
    slices = {name: {each: vars(found) for each, found in of.items()} for name, of in row.slices.items()}
    return {
        **vars(row),
        "slices": slices,
        "counts": _KEPT.dump_python(kept, mode="json"),
        "period": row.period.value,
        "first_day": date.fromisoformat(row.first_day),
        "last_day": date.fromisoformat(row.last_day),
        "computed_at": now,
    }
