"""Performance of logged predictions: measured with labels that arrive later, and estimated until then."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import compress
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
"""Maximum time from a prediction to the date of its label; the first label within it counts."""
ALWAYS_READ = 10_000
"""Days with at most this many predictions are read in every run; larger ones have stored counts, see `_is_current`."""
MORE_LABELS = 1.5
"""Growth of the number of labels since the last reading, as a factor, from which a larger day is read again."""
UNKNOWABLE = "no label can be known: requests have neither group nor key (see --group and --key of ctcd init)"
"""What is said of a contract whose requests do not name the row that they are about."""
PERIODS = {Period.DAILY: 31, Period.WEEKLY: 5}
"""Number of past periods in a report; they are recomputed as labels become known."""
LEVEL = 0.95
"""Two-sided confidence of all intervals."""


@dataclass(frozen=True, kw_only=True)
class SliceScores:
    """Scores of the labelled predictions of one slice.

    Args:
        accuracy: 0 to 1.
        low: lower end of its 95 % interval; `high` is the upper one.
        macro_f1: mean F1 of the classes (0 for a class that is neither true nor predicted).
        macro_f1_low: lower end of its 95 % interval; `macro_f1_high` is the upper one.
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

    Intervals have a confidence of 95 % and are based on effective rows; see `effective_rows`.

    Args:
        first_day: its first day, ISO 8601.
        last_day: its last day, ISO 8601.
        run_id: its training run; empty if the predictions do not name it.
        labelled: number of predictions whose label is known, except those whose true or predicted class is no longer in
            the contract.
        completeness: `labelled` as a share of `predictions`, 0 to 1.
        accuracy: share of the labelled ones, 0 to 1, that were correct; None if there are none.
        accuracy_low: lower end of its interval; `accuracy_high` is the upper one; None likewise.
        macro_f1: mean F1 of the classes (0 for a class that is neither true nor predicted); None likewise.
        macro_f1_low: lower end of its interval; `macro_f1_high` is the upper one; None likewise.
        recall: by class, the share of its labelled rows, 0 to 1, predicted correctly; None for a class without labels.
        recall_interval: by class, the ends of its interval; None likewise.
        confusion: counts by true class (rows) and predicted class (columns), in the contract's order.
        slices: by column and slice of the promotion policy, for slices with enough labelled rows.
        estimated_accuracy: accuracy of all predictions, estimated from their probabilities; None if none has any.
        estimated_macro_f1: macro F1 likewise.
        accuracy_error: the estimate for the labelled predictions minus their accuracy; None if there are none.
        macro_f1_error: the estimate for the labelled predictions minus their macro F1; None likewise.
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
    """Rows that were written to the table of the store, oldest first, and the findings that they led to.

    Args:
        joined_by: column of requests by which their labels are found; None if they have none, so that no label can be known.
    """

    table: str
    joined_by: str | None
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
    call replaces its rows. `slices` are those of the promotion policy; None if there are none. Rows are read in chunks.
    The counts of each day are stored with its row, and a large day is read again only if it has changed.

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
    return PerformanceReport(
        table=table.name,
        joined_by=contract.group.name if contract.identity else None,
        rows=tuple(row for row, _ in rows[period]),
    )


def with_share(labelled: int, predictions: int) -> str:
    """Return how many predictions have a known label, and their share, as text."""
    return f"{labelled:,} ({labelled / predictions:.1%})"


def scores(confusion: NDArray[np.integer[Any]], classes: Sequence[str], independent: float) -> dict[str, Any]:
    """Return the scores of a confusion matrix, and the ends of their intervals, as fields of `Performance`.

    Args:
        confusion: counts by true class (rows) and predicted class (columns); shape (classes, classes).
        classes: in the order of rows and columns.
        independent: effective rows as a share of the rows, 0 to 1.
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
    """Counts of the predictions of one model in one period, as stored.

    Args:
        classes: classes of the contract at the time of counting.
        by: slices of the policy at that time, as text.
        read_on: base date of the run that counted.
        logged: rows of the log in the period at that time, of all models.
        labels: labels in the store at that time that could belong to the period.
        predictions: number of predictions of the model.
        independent: effective predictions as a share of them, 0 to 1.
        confusion: labelled predictions by true class (rows) and predicted class (columns).
        expected: sums of the probabilities of each class (rows) by predicted class (columns), of all predictions.
        expected_labelled: the same for labelled predictions.
        checked: `confusion` of the predictions with probabilities.
        slices: `confusion` by column and slice.
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
        """Return the counts of days by model; for large days that have not changed, the stored ones."""
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
        """Return the counts of weeks by model.

        A group with predictions on several days is one group, so effective rows are counted over the whole week, and
        only if its rows have changed.
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
        """Return whether the stored counts of a day can be used: the day is large, and little has changed.

        It is read again if further predictions were logged, if the number of labels has grown by half or has shrunk, if
        classes or slices have changed, and a last time when no further labels can arrive.
        """
        if logged <= ALWAYS_READ or not kept:
            return False
        known = next(iter(kept.values()))
        same = self._stamp(logged, known.labels) | {"read_on": known.read_on}
        closed = known.read_on < day + HORIZON <= self.base_dt
        more = labels > known.labels and labels >= MORE_LABELS * known.labels
        unchanged = all(getattr(known, name) == value for name, value in same.items())
        return unchanged and not more and labels >= known.labels and not closed

    def _stamp(self, logged: int, labels: int) -> dict[str, Any]:
        by = "" if self.slices is None else str(sorted(self.slices.by.items()))
        return {"classes": self.contract.classes, "by": by, "read_on": self.base_dt, "logged": logged, "labels": labels}

    def _kept(self, period: Period, first: date, last: date) -> dict[date, dict[Model, Kept]]:
        """Return the stored counts by first day and model; for each day those of the last reading."""
        table = build_tables(self.contract).performance
        query = select(table.c.first_day, table.c.model_version, table.c.run_id, table.c.counts).where(
            table.c.period == period.value, table.c.first_day.between(first, last)
        )
        found: dict[date, dict[Model, Kept]] = defaultdict(dict)
        for day, version, run_id, counts in self.connection.execute(query):
            if counts is not None:  # null in rows of an earlier release
                found[day][version, run_id] = _KEPT.validate_python(counts)
        for models in found.values():
            newest = max(each.read_on for each in models.values())
            for model in [model for model, each in models.items() if each.read_on < newest]:
                del models[model]
        return found

    def _logged(self, day: date) -> int:
        """Return the number of rows of a day in the log; reads only the index."""
        created_at = build_tables(self.contract).predictions.c.created_at
        begin, end = bounds(day, day, self.zone)
        counted = select(func.count(created_at)).where(created_at >= begin, created_at < end)
        return int(self.connection.execute(counted).scalar_one())

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
        # A version that appeared after the sizes were read is counted in the next run.
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
    """Counts the predictions of one model in one period.

    Without labels, the confusion matrix is estimated from the probabilities: for each prediction, the probability of
    each class is added to the cell of that true class and the predicted class (confidence-based performance estimation,
    CBPE: Białek et al. (2024), Estimating Model Performance Under Covariate Shift Without Labels, arXiv:2401.08348; and
    the documentation of NannyML). The estimate is correct on average if the probabilities are calibrated.
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
        """Add stored counts."""
        self.predictions += kept.predictions
        self._confusion += np.array(kept.confusion)
        self._checked += np.array(kept.checked)
        self._expected += np.array(kept.expected)
        self._expected_labelled += np.array(kept.expected_labelled)
        for column, of in kept.slices.items():
            for name, confusion in of.items():
                self._by_slice[column, name] += np.array(confusion)

    def kept(self, stamp: Mapping[str, Any], independent: float) -> Kept:
        """Return the counts to be stored; `stamp` has the fields of `Kept` that decide whether they can be used again."""
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
            np.array([self._place.get(name, -1) for name in names])
            for names in ([row.prediction for row in rows], [row.label for row in rows])
        )
        known = (predicted >= 0) & (true >= 0)
        self.predictions += len(rows)
        self._confusion += self._matrix(true[known], predicted[known])
        # Earlier releases logged no probabilities, and an earlier contract may have other classes.
        promised = np.array([(row.probabilities or {}).keys() == self._place.keys() for row in rows]) & (predicted >= 0)
        if promised.any():
            table = np.array([[row.probabilities[name] for name in self._classes] for row in compress(rows, promised)])
            answers = np.eye(len(self._classes))[predicted[promised]]
            both = known[promised]
            self._expected += table.T @ answers
            self._expected_labelled += table[both].T @ answers[both]
            self._checked += self._matrix(true[known & promised], predicted[known & promised])
        if self._slices is not None and known.any():
            features = [row.features for row in compress(rows, known)]
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
    """Return the query for predictions of a day that meet a condition, each with its label (None if not known yet)."""
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
