"""Reads what the prediction log contains about champion and challenger since a step began."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, case, func, select

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment, Mode, Variant
from ctcd.monitoring.performance import labelled
from ctcd.monitoring.periods import bounds
from ctcd.monitoring.samples import Model, count
from ctcd.store.engine import reading
from ctcd.store.prediction_log import shadow_id
from ctcd.store.tables import build_tables, log_name
from ctcd.traffic.judging import Seen

_CHUNK = 50_000
"""Response times read at a time."""


def observe(
    engine: Engine,
    contract: Contract,
    experiment: Experiment,
    *,
    champion: Model,
    challenger: Model,
    now: datetime,
    zone: ZoneInfo,
) -> tuple[Seen, Seen]:
    """Return the requests of champion and challenger, in this order, since the step of an experiment took effect.

    Args:
        engine: the store.
        contract: the contract in force.
        experiment: gives the start of the step, and whether the challenger is a shadow.
        champion: version and run of the champion.
        challenger: version and run of the challenger.
        now: end of the period, with a time zone.
        zone: time zone of the days by which predictions are joined with their labels.

    Raises:
        Unreachable: the store does not answer.
    """
    log = build_tables(contract).predictions
    since = datetime.fromisoformat(experiment.effective)
    shadow = experiment.mode is Mode.SHADOW
    answering, failing_as = (
        (Variant.SHADOW, Variant.SHADOW_FAILED) if shadow else (Variant.CHALLENGER, Variant.FALLBACK)
    )

    def of(variant: Variant, model: Model) -> ColumnElement[bool]:
        return (log.c.variant == variant.value) & (log.c.model_version == model[0]) & (log.c.run_id == model[1])

    during = (log.c.created_at >= since) & (log.c.created_at < now)
    theirs = during & of(Variant.CHAMPION, champion)
    mine = during & of(answering, challenger)
    failed = during & of(failing_as, champion)
    first, last = (moment.astimezone(zone).date() for moment in (since, now))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    with reading(engine) as connection:
        labels = _labels(connection, contract, days, zone, theirs | mine)
        other = _seen(connection, contract, mine | failed, mine, labels[answering])
        groups = [log.c[log_name(column)] for column in contract.identity]
        _, failing = count(connection, log, groups, failed).get((), (0, 0.0))
        other = replace(other, failing=failing)
        if shadow:
            paired, agreed = _pairs(connection, contract, theirs, mine)
            other = replace(other, paired=paired, agreed=agreed)
        return _seen(connection, contract, theirs, theirs, labels[Variant.CHAMPION]), other


def _seen(
    connection: Connection,
    contract: Contract,
    asked: ColumnElement[bool],
    answered: ColumnElement[bool],
    labels: Counter[bool],
) -> Seen:
    """Return the requests that a variant received (`asked`), of which it has answered some (`answered`)."""
    log = build_tables(contract).predictions
    groups = [log.c[log_name(column)] for column in contract.identity]
    requests, effective = count(connection, log, groups, asked).get((), (0, 0.0))
    by_class = select(log.c.prediction, func.count()).where(answered).group_by(log.c.prediction)
    # All classes of the contract from the first look on, because their number determines the error of each interval.
    classes = dict.fromkeys(contract.classes, 0) | {str(name): int(rows) for name, rows in connection.execute(by_class)}
    times = select(log.c.elapsed_ms).where(asked)
    elapsed = [
        np.array(chunk, dtype=np.float64)
        for chunk in connection.scalars(times, execution_options={"yield_per": _CHUNK}).partitions()
    ]
    return Seen(
        requests=requests,
        effective=effective,
        failed=requests - sum(classes.values()),
        classes=classes,
        elapsed_ms=np.sort(np.concatenate([np.empty(0), *elapsed])),
        labelled=labels.total(),
        right=labels[True],
    )


def _labels(
    connection: Connection, contract: Contract, days: Iterable[date], zone: ZoneInfo, where: ColumnElement[bool]
) -> dict[str, Counter[bool]]:
    """Return, by variant, how many labelled answers of some days are right and wrong."""
    log = build_tables(contract).predictions
    found: dict[str, Counter[bool]] = defaultdict(Counter)
    for day in days:
        begin, end = bounds(day, day, zone)
        of_day = (log.c.created_at >= begin) & (log.c.created_at < end)
        rows = labelled(contract, day, of_day & where).subquery("labelled")
        right = rows.c.prediction == rows.c.label
        query = select(rows.c.variant, right, func.count()).where(rows.c.label.is_not(None))
        for variant, is_right, number in connection.execute(query.group_by(rows.c.variant, right)):
            found[variant][bool(is_right)] += int(number)
    return found


def _pairs(
    connection: Connection, contract: Contract, theirs: ColumnElement[bool], mine: ColumnElement[bool]
) -> tuple[int, int]:
    """Return how many requests both variants have answered, and how many of them with the same class."""
    log = build_tables(contract).predictions
    given = select(shadow_id(log.c.request_id).label("shadow_id"), log.c.prediction).where(theirs).subquery("given")
    shadow = select(log.c.request_id, log.c.prediction).where(mine).subquery("shadow")
    agreed = func.sum(case((given.c.prediction == shadow.c.prediction, 1), else_=0))
    both = given.join(shadow, given.c.shadow_id == shadow.c.request_id)
    [[paired, same]] = connection.execute(select(func.count(), agreed).select_from(both))
    return int(paired), int(same or 0)
