"""Days and weeks of monitoring."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from ctcd.monitoring.periods import LOOKS, Period, bounds, spans

DAYS = st.dates(date(2020, 1, 1), date(2030, 12, 31))


@given(DAYS, st.integers(1, 40))
def test_the_last_days_end_with_the_day_before(base_dt: date, count: int) -> None:
    """Each is one day, the oldest first."""
    assert list(spans(base_dt, Period.DAILY, count)) == [
        (base_dt - timedelta(days=back),) * 2 for back in reversed(range(1, count + 1))
    ]


@given(DAYS, st.integers(1, 40))
def test_weeks_are_whole_and_over(base_dt: date, count: int) -> None:
    """They go from Monday to Sunday, one follows the other, and the newest ended less than a week before the day."""
    weeks = list(spans(base_dt, Period.WEEKLY, count))
    assert len(weeks) == count
    assert all((first.isoweekday(), last.isoweekday()) == (1, 7) for first, last in weeks)
    assert all((last - first).days == 6 for first, last in weeks)
    assert all(one[1] + timedelta(days=1) == two[0] for one, two in pairwise(weeks))
    assert 1 <= (base_dt - weeks[-1][1]).days <= 7


def test_a_period_lasts_as_long_as_its_days_in_the_zone() -> None:
    """From midnight to midnight: the days on which clocks change have 23 and 25 hours."""
    zone = ZoneInfo("Europe/Berlin")
    assert bounds(date(2025, 8, 31), date(2025, 8, 31), zone) == (
        datetime(2025, 8, 30, 22, tzinfo=UTC),
        datetime(2025, 8, 31, 22, tzinfo=UTC),
    )
    for day, hours in ((date(2025, 3, 30), 23), (date(2025, 10, 26), 25)):
        begin, end = (moment.astimezone(UTC) for moment in bounds(day, day, zone))
        assert end - begin == timedelta(hours=hours)
    begin, end = (moment.astimezone(UTC) for moment in bounds(date(2025, 10, 20), date(2025, 10, 26), zone))
    assert end - begin == timedelta(days=7, hours=1)


def test_the_periods_of_the_longest_year_are_looked_at() -> None:
    """A leap year that begins on a Saturday has 366 days and 53 Sundays; no year has more."""
    days = [date(2028, 1, 1) + timedelta(days=number) for number in range(366)]
    assert (days[0].isoweekday(), days[-1]) == (6, date(2028, 12, 31))
    assert LOOKS[Period.DAILY] == len(days)
    assert LOOKS[Period.WEEKLY] == sum(day.isoweekday() == 7 for day in days)
