"""The days and weeks of monitoring, in the configured time zone."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Period(StrEnum):
    """Length of the periods."""

    DAILY = "daily"
    WEEKLY = "weekly"


LOOKS = {Period.DAILY: 366, Period.WEEKLY: 53}
"""Periods of each length that may end in a year."""


def spans(base_dt: date, period: Period, count: int) -> Iterator[tuple[date, date]]:
    """Yield first and last day of the last `count` days, or whole weeks, before a day, the oldest first.

    Weeks begin on Monday.
    """
    length = 1 if period is Period.DAILY else 7
    end = base_dt if period is Period.DAILY else base_dt - timedelta(days=base_dt.weekday())
    for back in range(count, 0, -1):
        first = end - timedelta(days=back * length)
        yield first, first + timedelta(days=length - 1)


def bounds(first: date, last: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the beginning of the first day and the end of the last day, which is the beginning of the next."""
    return datetime.combine(first, time(), zone), datetime.combine(last + timedelta(days=1), time(), zone)
