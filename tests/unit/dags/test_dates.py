"""The day that a run works for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.sdk.exceptions import AirflowFailException

from ctcd.airflow.dates import base_dt, snapshot_days

LATE = datetime(2025, 8, 31, 20, tzinfo=UTC)
"""The 31st in UTC, the 1st in Seoul."""


@dataclass
class Run:
    conf: dict[str, Any] | None = None
    logical_date: datetime | None = None
    run_after: datetime = datetime(2030, 1, 1, tzinfo=UTC)


def test_conf_goes_first() -> None:
    """The day that conf names counts, whatever the logical date is."""
    assert base_dt(Run(conf={"base_dt": "2025-03-04"}, logical_date=LATE)) == date(2025, 3, 4)


def test_logical_date_is_taken_in_the_configured_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logical date's day is that of the configured zone, not of UTC."""
    monkeypatch.setenv("CTCD_TIMEZONE", "Asia/Seoul")
    assert base_dt(Run(conf={}, logical_date=LATE)) == date(2025, 9, 1)
    monkeypatch.setenv("CTCD_TIMEZONE", "America/New_York")
    assert base_dt(Run(logical_date=LATE)) == date(2025, 8, 31)


def test_a_run_without_logical_date_has_the_day_it_was_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the REST API and of assets have no logical date: the time that they were to run after counts."""
    monkeypatch.setenv("CTCD_TIMEZONE", "Asia/Seoul")
    assert base_dt(Run(run_after=LATE)) == date(2025, 9, 1)


@pytest.mark.parametrize("given", ["2025-02-29", "today", "", 20250301, "2025-03-04'; DROP TABLE x", ["2025-03-04"]])
def test_what_is_no_day_is_refused_for_good(given: object) -> None:
    """A conf that names no calendar date fails the task at once, before anything of it reaches SQL or a command."""
    with pytest.raises(AirflowFailException, match="is not a calendar date"):
        base_dt(Run(conf={"base_dt": given}, logical_date=LATE))


def test_days_of_the_snapshot_follow_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of the snapshot's SQL come from base date, months and days kept."""
    monkeypatch.setenv("CTCD_SNAPSHOT_MONTHS", "1")
    monkeypatch.setenv("CTCD_SNAPSHOT_KEEP_DAYS", "7")
    assert snapshot_days(Run(conf={"base_dt": "2025-03-31"})) == {
        "snapshot_day": "2025-03-31",
        "first_label_day": "2025-02-28",
        "last_expired_day": "2025-03-24",
    }
