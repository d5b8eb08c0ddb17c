"""Findings about labelled predictions: a score below its floor, or missing labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Engine

from ctcd.contract.spec import Contract
from ctcd.monitoring.findings import Finding, Kind, raise_finding
from ctcd.monitoring.performance import Performance
from ctcd.promotion.policy import Floors

FEWEST = 100
"""Minimum number of labelled predictions to judge a period, and of predictions to report missing labels."""
FEWEST_OF_CLASS = 30
"""Minimum number of labelled rows of a class to judge its recall, and of every class to judge the macro F1."""
LABELS_DUE = timedelta(days=28)
"""Time after which some labels of a period are expected."""


@dataclass(frozen=True, kw_only=True)
class _Score:
    name: str
    value: float
    upper: float
    floor: float
    rows: int


def raise_findings(
    engine: Engine, contract: Contract, rows: Sequence[Performance], floors: Floors, base_dt: date
) -> tuple[Finding, ...]:
    """Raise findings about scores below a floor and about missing labels; `rows` are sorted by period.

    For each model, the newest period with enough labels is judged. A score is below its floor if the upper end of its
    95 % interval is: for a model exactly at its floor, this happens by chance once in forty periods, for a better one
    hardly ever.

    Raises:
        Unreachable: the store does not answer.
    """
    found = [*_below(rows, floors)]
    if contract.identity:  # otherwise requests cannot be matched with labels
        found += _unlabelled(rows, base_dt)
    return tuple(
        raise_finding(engine, contract, kind=kind, subject=subject, evidence=evidence, day=day)
        for kind, subject, evidence, day in found
    )


def _below(rows: Sequence[Performance], floors: Floors) -> Iterator[tuple[Kind, str, dict[str, Any], date]]:
    newest = {(row.model_version, row.run_id): row for row in rows if row.labelled >= FEWEST}
    for row in newest.values():
        model = f"version {row.model_version}" + (f", run {row.run_id[:8]}" if row.run_id else "")
        for score in _scores(row, floors):
            if score.upper < score.floor:
                evidence = {
                    "value": score.value,
                    "upper_end": score.upper,
                    "floor": score.floor,
                    "labelled": score.rows,
                    "predictions": row.predictions,
                }
                yield Kind.PERFORMANCE, f"{score.name} of {model}", evidence, date.fromisoformat(row.last_day)


def _scores(row: Performance, floors: Floors) -> Iterator[_Score]:
    """Yield the scores whose floor is not disabled."""
    of_class = [sum(counts) for counts in row.confusion]
    accuracy, f1, labelled = row.accuracy, row.macro_f1, row.labelled
    if accuracy is not None and row.accuracy_high is not None and isinstance(floors.accuracy, float):
        yield _Score(name="accuracy", value=accuracy, upper=row.accuracy_high, floor=floors.accuracy, rows=labelled)
    enough = min(of_class) >= FEWEST_OF_CLASS
    if f1 is not None and row.macro_f1_high is not None and isinstance(floors.macro_f1, float) and enough:
        yield _Score(name="macro F1", value=f1, upper=row.macro_f1_high, floor=floors.macro_f1, rows=labelled)
    for (name, value), count in zip(row.recall.items(), of_class, strict=True):
        floor, interval = floors.recall[name], row.recall_interval[name]
        if value is not None and interval is not None and isinstance(floor, float) and count >= FEWEST_OF_CLASS:
            yield _Score(name=f"recall of {name}", value=value, upper=interval[1], floor=floor, rows=count)


def _unlabelled(rows: Sequence[Performance], base_dt: date) -> Iterator[tuple[Kind, str, dict[str, Any], date]]:
    due = [row for row in rows if date.fromisoformat(row.last_day) <= base_dt - LABELS_DUE]
    predictions, labelled = (sum(getattr(row, name) for row in due) for name in ("predictions", "labelled"))
    if predictions >= FEWEST and not labelled:
        evidence = {"predictions": predictions, "labelled": labelled, "days": LABELS_DUE.days}
        yield Kind.LABELS, "labels of predictions", evidence, base_dt
