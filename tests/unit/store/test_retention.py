"""The months that the prediction log keeps, and the ids of its rows."""

from datetime import date
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.instance import INSTANCE

from ctcd.errors import UsageError
from ctcd.serving.broker import request_id
from ctcd.serving.http.middleware import Trace
from ctcd.settings import Settings
from ctcd.stages import scoring
from ctcd.store.prediction_log import _may_come_again, shadow_id
from ctcd.store.retention import AHEAD_MONTHS, _ends, _month, _partitions


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
