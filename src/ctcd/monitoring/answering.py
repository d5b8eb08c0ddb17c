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
_BESIDE = (Variant.CHALLENGER.value, Variant.FALLBACK.value)
"""Variants of an experiment, which answer beside the champion."""


@dataclass(kw_only=True)
class Answering:
    """A time in which a version answered.

    It ends with its last answer before a second in which only others answered; a second in which nothing was answered ends
    nothing. While workers change from one version to the next, both answer in the same second. A challenger answers
    beside the champion, so neither ends the time of the other; that of a challenger also ends where the next step begins.

    Args:
        first: its first second, ISO 8601, UTC.
        last: its last second, likewise.
        run_id: training run; empty if the log does not name it.
        served_by: image by digest or tag of the Bento; None if the log does not name it.
        variant: the part of the version in the deployment; None likewise.
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
) -> list[Answering]:
    """Return which version answered when, from `begin` until before `end`, the oldest first.

    Args:
        engine: the store.
        contract: the contract in force.
        begin: beginning of the period.
        end: its end, not part of it.
        steps: when a challenger was started or given another share, with a time zone.

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


def last_before(engine: Engine, contract: Contract, moment: datetime) -> Answering | None:
    """Return the last second before a time in which there was an answer, as one of the versions that answered in it.

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


def _merged(seconds: Iterable[Sequence[Any]], steps: list[str]) -> list[Answering]:
    found: list[Answering] = []
    running: dict[tuple[Any, ...], Answering] = {}
    for second, rows in groupby(seconds, itemgetter(0)):
        at = f"{second.replace(' ', 'T')}+00:00"
        now: dict[tuple[Any, ...], Answering] = {}
        while steps and steps[0] <= second:
            del steps[0]
            running = {who: time for who, time in running.items() if _beside(time) == ""}
        for _, count, *who in rows:
            time = running.get(tuple(who))
            if time is None:
                version, run_id, served_by, variant = who
                time = Answering(
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
        ended = set(map(_beside, now.values()))
        running = {who: time for who, time in running.items() if _beside(time) not in ended} | now
    return found


def _beside(time: Answering) -> str:
    """Return which variant of an experiment a time is of; empty: the champion, also one of before there were variants."""
    return time.variant if time.variant in _BESIDE else ""
