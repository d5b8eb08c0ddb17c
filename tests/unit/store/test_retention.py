"""The months that the prediction log keeps, and the ids of its rows."""

from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import frozen
from support.instance import CONTRACT, INSTANCE

from ctcd.errors import NotFound, UsageError
from ctcd.serving.broker import request_id
from ctcd.serving.http.middleware import Trace
from ctcd.settings import Settings
from ctcd.stages import scoring
from ctcd.store import migrations
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction, _may_come_again, append, shadow_id
from ctcd.store.retention import AHEAD_MONTHS, _ends, _month, _partitions, retain


@given(st.dates(date(1970, 1, 1), date(9000, 1, 1)), st.integers(-1_200, 1_200))
def test_a_month_later_is_the_first_of_a_month(day: date, later: int) -> None:
    """It is as many months away as asked for."""
    found = _month(day, later)
    assert (found.day, (found.year - day.year) * 12 + found.month - day.month) == (1, later)


def test_each_month_has_a_partition_that_ends_with_it() -> None:
    """Across the end of a year, from the month of a day to those ahead, and one for whatever comes later."""
    ends = _ends(date(2026, 11, 1), date(2026, 11, 26))
    assert len(ends) == AHEAD_MONTHS + 1
    assert _partitions(ends) == {
        "p202611": "VALUES LESS THAN ('2026-12-01')",
        "p202612": "VALUES LESS THAN ('2027-01-01')",
        "p202701": "VALUES LESS THAN ('2027-02-01')",
        "p202702": "VALUES LESS THAN ('2027-03-01')",
        "later": "VALUES LESS THAN (MAXVALUE)",
    }
    assert _ends(date(2027, 3, 1), date(2026, 11, 26)) == []


def test_ids_of_requests_are_random_in_all_bits_that_may_be() -> None:
    """Of 128 bits six say which kind of id it is: 122 differ from id to id, whichever machine makes it."""
    ids = [UUID(Trace().request_id) for _ in range(200)]
    always, never = 2**128 - 1, 0
    for each in ids:
        always, never = always & each.int, never | each.int
    assert len(set(ids)) == len(ids)
    assert (always ^ never).bit_count() == 122
    assert {each.version for each in ids} == {4}


@given(st.text(max_size=20), st.binary(max_size=20))
def test_only_ids_of_messages_are_looked_up(given_id: str, body: bytes) -> None:
    """Those of a message's rows and of their shadows; the ids of other requests cost nothing."""
    row = UUID(request_id(given_id, body)).hex + "0000"
    assert _may_come_again(row)
    assert _may_come_again(shadow_id(row))
    other = str(uuid4())
    assert not any(map(_may_come_again, (other, shadow_id(other), UUID(other).hex + "0000", "request-1")))


def test_sqlite_has_no_partitions(tmp_path: Path) -> None:
    """To ask for them is refused, in words."""
    with pytest.raises(UsageError, match="SQLite has no partitions"):
        scoring.retain(Settings(home=tmp_path, contracts=INSTANCE.folder), partition=True)


def logged_in(home: Path, *times: datetime) -> Settings:
    """Return settings of a store in SQLite whose log has a prediction of each time."""
    settings = Settings(home=home, contracts=INSTANCE.folder, log_keep_months=2, timezone="Asia/Seoul")
    migrations.upgrade(settings.store_url, INSTANCE.migrations)
    rows = [
        LoggedPrediction(
            request_id=f"request-{number}",
            group=1,
            features={},
            prediction="sound",
            confidence=0.5,
            model_version="1",
            run_id="run 1",
            elapsed_ms=1.0,
            created_at=at,
        )
        for number, at in enumerate(times)
    ]
    append(connect(settings.store_url), CONTRACT, rows)
    return settings


def test_nothing_is_deleted_that_the_warehouse_lacks(tmp_path: Path) -> None:
    """With a warehouse in the settings, a month goes once each of its days has been exported."""
    times = [datetime(2025, 3, day, 12, tzinfo=UTC) for day in (1, 1, 2)]
    settings = logged_in(tmp_path, *times).model_copy(update={"warehouse": str(tmp_path / "warehouse")})
    scoring.export(settings, date(2025, 3, 2), days=1)
    with pytest.raises(UsageError, match=r"not in the warehouse: 1 prediction of 2025-03-02"):
        scoring.retain(settings)
    scoring.export(settings, date(2025, 3, 3), days=1)
    assert scoring.retain(settings).deleted == 3
    assert scoring.retain(settings).deleted == 0


@pytest.mark.slow
def test_a_month_goes_once_it_is_over_in_both_calendars(tmp_path: Path) -> None:
    """In Seoul the first of December begins nine hours before that of UTC: September is kept for those, too."""
    settings = logged_in(tmp_path, datetime(2026, 8, 31, 23, tzinfo=UTC), datetime(2026, 9, 1, 0, tzinfo=UTC))
    with frozen(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)):
        assert scoring.retain(settings).deleted == 1
    with frozen(datetime(2026, 12, 1, 0, 0, tzinfo=UTC)):
        assert scoring.retain(settings).deleted == 1


def test_a_log_that_is_missing_is_named(tmp_path: Path) -> None:
    """Whether months are kept or not."""
    store = connect(f"sqlite:///{tmp_path / 'store.db'}")
    for months in (None, 2):
        with pytest.raises(NotFound, match="the store has no such table"):
            retain(store, CONTRACT, date(2026, 11, 26), keep_months=months)
