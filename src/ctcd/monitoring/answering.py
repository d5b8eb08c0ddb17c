"""Which version answered when, by the prediction log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Engine, String, cast, func, select

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Variant
from ctcd.store.engine import reading
from ctcd.store.prediction_log import given
from ctcd.store.tables import build_tables

_SECOND, _FORMAT = len("2025-08-31 12:30:00"), "%Y-%m-%d %H:%M:%S"
_PARALLEL = (Variant.CHALLENGER.value, Variant.FALLBACK.value)
"""Variants that answer in parallel with the champion during an experiment."""


@dataclass(kw_only=True)
class AnsweringPeriod:
    """A period in which a version answered.

    It ends with the last answer before a second in which only other versions answered; a second without answers does
    not end it. While workers switch from one version to the next, both answer in the same second. Champion and
    challenger answer in parallel, so neither ends the period of the other; that of a challenger also ends when the next
    step begins.

    Args:
        first: its first second, ISO 8601, UTC.
        last: its last second, likewise.
        run_id: training run; empty if it was not logged.
        served_by: digest of the image or tag of the Bento; None if it was not logged.
        variant: variant of the version, such as champion; None likewise.
        answers: number of rows that it answered.
    """

    first: str
    last: str
    model_version: str
    run_id: str
    served_by: str | None
    variant: str | None
    answers: int


def answering(
    engine: Engine, contract: Contract, begin: datetime, end: datetime, *, steps: Iterable[datetime] = ()
) -> list[AnsweringPeriod]:
    """Return which version answered when, from `begin` until before `end`, the oldest first.

    Args:
        engine: the store.
        contract: the contract in force.
        begin: beginning of the period.
        end: its end, exclusive.
        steps: times with a zone at which the traffic of a challenger changed.

    Raises:
        Unreachable: the store does not answer.
    """
    log = build_tables(contract).predictions
    who = (log.c.model_version, log.c.run_id, log.c.served_by, log.c.variant)
    second = func.substr(cast(log.c.created_at, String), 1, _SECOND)
    query = (
        select(second, func.count(), *who)
        .where(log.c.created_at >= begin, log.c.created_at < end, given(log))
        .group_by(second, *who)
        .order_by(second, *who)
    )
    with reading(engine) as connection:
        return _merged(connection.execute(query), sorted(f"{step.astimezone(UTC):{_FORMAT}}" for step in steps))


def last_before(engine: Engine, contract: Contract, moment: datetime) -> AnsweringPeriod | None:
    """Return the last second with answers before a time, for one of the versions that answered in it.

    Raises:
        Unreachable: the store does not answer.
    """
    log = build_tables(contract).predictions
    query = select(func.max(log.c.created_at)).where(log.c.created_at < moment, given(log))
    with reading(engine) as connection:
        last = connection.scalar(query)
    if last is None:
        return None
    begin = last.replace(microsecond=0)
    return answering(engine, contract, begin, min(begin + timedelta(seconds=1), moment))[-1]


def _merged(seconds: Iterable[Sequence[Any]], steps: list[str]) -> list[AnsweringPeriod]:
    found: list[AnsweringPeriod] = []
    running: dict[tuple[Any, ...], AnsweringPeriod] = {}
    for second, rows in groupby(seconds, itemgetter(0)):
        at = f"{second.replace(' ', 'T')}+00:00"
        now: dict[tuple[Any, ...], AnsweringPeriod] = {}
        while steps and steps[0] <= second:
            del steps[0]
            running = {who: time for who, time in running.items() if _parallel_variant(time) == ""}
        for _, count, *who in rows:
            time = running.get(tuple(who))
            if time is None:
                version, run_id, served_by, variant = who
                time = AnsweringPeriod(
                    first=at,
                    last=at,
                    model_version=version,
                    run_id=run_id,
                    served_by=served_by,
                    variant=variant,
                    answers=0,
                )
                found.append(time)
            time.last, time.answers = at, time.answers + count
            now[tuple(who)] = time
        ended = set(map(_parallel_variant, now.values()))
        running = {who: time for who, time in running.items() if _parallel_variant(time) not in ended} | now
    return found


def _parallel_variant(time: AnsweringPeriod) -> str:
    """Return the variant of an experiment that a period belongs to; empty for the champion, also if it was not logged."""
    return time.variant if time.variant in _PARALLEL else ""
