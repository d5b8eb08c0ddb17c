from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest
from sqlalchemy import Engine, text
from support.frames import snapshot_frame
from support.instance import CONTRACT
from support.snapshots import put_snapshot

from ctcd.contract.spec import names
from ctcd.monitoring.expectations import Profile, numeric_columns, snapshot_query
from ctcd.monitoring.profiles import accept, accepted_before
from ctcd.store.tables import build_tables

DAY = date(2025, 8, 31)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 7, 120])
def test_the_database_measures_what_pandas_does(store: Engine, rows: int) -> None:
    """Means, standard deviations, medians and shares equal those of the frame, independent of other days."""
    frame = snapshot_frame(CONTRACT, rows=rows, seed=rows)
    frame.loc[frame.index[: rows // 3], "shift"] = None
    put_snapshot(store, CONTRACT, frame, DAY)
    put_snapshot(store, CONTRACT, snapshot_frame(CONTRACT, rows=50, seed=99), DAY - timedelta(days=1))
    profile = accept(store, CONTRACT, DAY)
    numbers = frame[names(numeric_columns(CONTRACT))]
    measured = pd.DataFrame({name: vars(column) for name, column in profile.numbers.items()}).T
    expected = pd.DataFrame({"mean": numbers.mean(), "spread": numbers.std(ddof=0), "median": numbers.median()})
    pd.testing.assert_frame_equal(measured, expected)
    assert profile.rows == rows
    assert profile.shares == {name: (frame["condition"] == name).mean() for name in CONTRACT.classes}
    assert profile.present == {name: frame[name].notna().mean() for name in ("humidity", "shift")}


def test_a_column_without_values_has_no_mean(store: Engine) -> None:
    """A column without values has no statistics in the profile."""
    with store.begin() as connection:
        connection.execute(text("DROP TABLE machine_readings_labelled"))
        columns = ", ".join(f'"{column.name}"' for column in build_tables(CONTRACT).snapshot.columns)
        connection.execute(text(f"CREATE TABLE machine_readings_labelled ({columns})"))
    put_snapshot(store, CONTRACT, snapshot_frame(CONTRACT, rows=9).assign(hours=None), DAY)
    profile = accept(store, CONTRACT, DAY)
    assert "hours" not in profile.numbers
    assert "vibration" in profile.numbers


@pytest.mark.slow
def test_the_last_accepted_snapshot_is_the_one_before(store: Engine) -> None:
    """A snapshot is compared with the newest accepted one of an earlier date: never with itself or a later one."""
    assert accepted_before(store, CONTRACT, DAY) is None
    kept: dict[date, Profile] = {}
    for age in (0, 1, 5):
        day = DAY - timedelta(days=age)
        put_snapshot(store, CONTRACT, snapshot_frame(CONTRACT, rows=10 + age, seed=age), day)
        kept[day] = accept(store, CONTRACT, day)
    assert accepted_before(store, CONTRACT, DAY) == kept[DAY - timedelta(days=1)]
    assert accepted_before(store, CONTRACT, DAY - timedelta(days=1)) == kept[DAY - timedelta(days=5)]
    assert accepted_before(store, CONTRACT, DAY - timedelta(days=5)) is None


@pytest.mark.slow
def test_accepting_again_replaces_what_was_remembered(store: Engine) -> None:
    """Accepting a day twice stores one profile, the last one."""
    for rows in (30, 20):
        put_snapshot(store, CONTRACT, snapshot_frame(CONTRACT, rows=rows), DAY)
        accept(store, CONTRACT, DAY)
    with store.connect() as connection:
        [row] = connection.execute(build_tables(CONTRACT).profiles.select()).all()
    assert row.profile["rows"] == 20


def test_the_query_takes_any_class_name(store: Engine) -> None:
    """Class names may contain characters with a meaning in SQL, SQLAlchemy or a driver."""
    odd = ("50% off", "it's", "a:b :c", 'say "no"')
    frame = snapshot_frame(CONTRACT, rows=8).assign(condition=[*odd, *odd])
    put_snapshot(store, CONTRACT, frame, DAY)
    contract = replace(CONTRACT)
    contract.__dict__["classes"] = odd  # what its cached property would compute
    query = snapshot_query(contract, DAY, store.dialect)
    with store.connect() as connection:
        rows = connection.execute(text(query)).mappings().all()
    assert [sum(row[f"condition is {name}"] for row in rows) for name in odd] == [2, 2, 2, 2]
