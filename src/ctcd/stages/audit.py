"""Stages of an audit: compute answers again, and find out what was in service when and who changed it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ctcd.errors import UsageError
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, open_store

if TYPE_CHECKING:
    from ctcd.monitoring.answering import AnsweringPeriod
    from ctcd.registry.history import Change
    from ctcd.scoring.replay import ReplayReport

DAYS = 7
"""Days of a history for which no beginning is given."""


def replay(
    settings: Settings,
    *,
    requests: Sequence[str] = (),
    begin: date | None = None,
    end: date | None = None,
    sample: int | None = None,
    progress: Progress = silent,
) -> "ReplayReport":
    """Compute answers again, each with the version that gave it: those of requests, of a period, or a sample of it.

    Begin and end are days or times; without a zone, in the configured one. An end that is a day is included, one that
    is a time is not. From the same answers, the same sample is drawn each time.

    Raises:
        UsageError: the period ends before it begins.
        NotFound: the log has no such answer.
        Unreachable: the store or the registry does not answer.
    """
    from ctcd.scoring.replay import Chosen, replay

    zone = settings.zone
    since = None if begin is None else _moment(begin, zone)
    until = None if end is None else _moment(end, zone, end=True)
    if since is not None and until is not None:
        _require_time_between(since, until)
    chosen = Chosen(requests=tuple(requests), begin=since, end=until, sample=sample, seed=settings.seed)
    contract = instance(settings).contract
    return replay(
        open_store(settings), contract, open_registry(settings), chosen, cache=settings.scorers, progress=progress
    )


@dataclass(frozen=True, kw_only=True)
class HistoryReport:
    """What was in service in a period, and who changed it.

    Args:
        begin: when it begins, ISO 8601, in the configured zone.
        end: when it ends, likewise; not part of it.
        answering: which version answered when, by the prediction log, the oldest first.
        last_before: last second with an answer before it; None if there is none.
        changes: promotions, rollbacks and deployments in it, the oldest first.
        champion: the champion at its end, by the changes on record; None if there was none.
        deployed: version that ran at each target at its end, likewise.
    """

    begin: str
    end: str
    answering: "tuple[AnsweringPeriod, ...]"
    last_before: "AnsweringPeriod | None"
    changes: "tuple[Change, ...]"
    champion: str | None
    deployed: dict[str, str]


def history(
    settings: Settings, *, begin: date | None = None, end: date | None = None, at: date | None = None
) -> HistoryReport:
    """Return what was in service in a period, by default the last seven days, or in the second `at`.

    Begin and end are as for `replay`.

    Raises:
        UsageError: the period ends before it begins.
        Unreachable: the store or the registry does not answer.
    """
    from ctcd.monitoring.answering import answering, last_before
    from ctcd.registry.history import What, in_force

    zone = settings.zone
    until = datetime.now(zone) if end is None else _moment(end, zone, end=True)
    since = until - timedelta(days=DAYS) if begin is None else _moment(begin, zone)
    if at is not None:
        since = _moment(at, zone).replace(microsecond=0)
        until = (since.astimezone(UTC) + timedelta(seconds=1)).astimezone(
            since.tzinfo
        )  # the clock may be changed in it
    _require_time_between(since, until)
    engine, contract = open_store(settings), instance(settings).contract
    known = [(datetime.fromisoformat(each.at), each) for each in open_registry(settings).changes()]
    steps = [moment for moment, each in known if each.what == What.CHALLENGES]
    champion, deployed = in_force([each for _, each in known], until)
    return HistoryReport(
        begin=since.isoformat(),
        end=until.isoformat(),
        answering=tuple(answering(engine, contract, since, until, steps=steps)),
        last_before=last_before(engine, contract, since),
        changes=tuple(each for moment, each in known if since <= moment < until),
        champion=champion,
        deployed=deployed,
    )


def _require_time_between(since: datetime, until: datetime) -> None:
    # In seconds, because times of one zone are compared by what its clock shows, which may be changed in between.
    if since.timestamp() >= until.timestamp():
        raise UsageError(
            f"the period begins at {since.isoformat()} and ends at {until.isoformat()}", where="--from, --to"
        )


def _moment(given: date, zone: ZoneInfo, *, end: bool = False) -> datetime:
    if not isinstance(given, datetime):
        given = datetime.combine(given + timedelta(days=end), time())
    return given if given.tzinfo else given.replace(tzinfo=zone)
