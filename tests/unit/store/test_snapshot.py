import tracemalloc
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text
from support.examples import at_most
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.raw import feature_row, label_row, write_tables
from support.small_contracts import BARE, write_instance
from support.snapshots import read_snapshot
from support.stores import TABLES, count, everything, load, rows_of

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import names
from ctcd.contract.validation import examine_chunks
from ctcd.derived import lock
from ctcd.errors import NotFound
from ctcd.store import snapshot
from ctcd.store.engine import connect, transaction
from ctcd.store.migrations import upgrade
from ctcd.store.snapshot import (
    compact,
    joined,
    label_dates,
    latest_snapshot,
    months_before,
    snapshot_chunks,
    snapshot_parameters,
    snapshot_statements,
    take_snapshot,
)
from ctcd.store.tables import build_tables

BASE = date(2025, 8, 31)
Keyed = tuple[int, int, date]
EXAMPLE = {column.name: column.example for column in CONTRACT.feature_columns if column not in CONTRACT.personal}


def fill(store: Engine, features: dict[Keyed, int], labels: dict[Keyed, str]) -> None:
    """Put rows into an empty store: hours for each (reading, machine, day), and a class."""
    keys = names(CONTRACT.keys)
    with transaction(store) as connection:
        for table in TABLES.metadata.sorted_tables:
            connection.execute(table.delete())
        if features:
            rows = [{**EXAMPLE, **dict(zip(keys, at, strict=True)), "hours": hours} for at, hours in features.items()]
            connection.execute(insert(TABLES.features), rows)
        if labels:
            given_labels = [{**dict(zip(keys, at, strict=True)), "condition": value} for at, value in labels.items()]
            connection.execute(insert(TABLES.labels), given_labels)


def taken(
    store: Engine, base_dt: date = BASE, *, months: int = 1, keep_days: int = 7
) -> dict[tuple[int, int], tuple[int, str]]:
    """Take a snapshot; return hours and class of each row key."""
    take_snapshot(store, CONTRACT, base_dt, months=months, keep_days=keep_days)
    frame = read_snapshot(store, CONTRACT, base_dt)
    values = zip(frame["reading"], frame["machine"], frame["hours"], frame["condition"], strict=True)
    return {(number, machine): (hours, label) for number, machine, hours, label in values}


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2025, 3, 31), 1, date(2025, 2, 28)),
        (date(2024, 3, 31), 1, date(2024, 2, 29)),
        (date(2025, 5, 31), 1, date(2025, 4, 30)),
        (date(2025, 8, 31), 1, date(2025, 7, 31)),
        (date(2025, 1, 15), 1, date(2024, 12, 15)),
        (date(2024, 2, 29), 12, date(2023, 2, 28)),
        (date(2025, 1, 1), 120, date(2015, 1, 1)),
    ],
)
def test_months_end_where_a_shorter_month_ends(day: date, months: int, expected: date) -> None:
    """A day that the earlier month lacks becomes that month's last."""
    assert months_before(day, months) == expected


def test_labels_of_the_window_are_joined_to_their_features(store: Engine) -> None:
    """Both ends of the window belong to it, the days around it do not, and a label without features makes no row."""
    days = [date(2025, 7, 30), date(2025, 7, 31), date(2025, 8, 31), date(2025, 9, 1)]
    features = {(number, 1, day): 20 + number for number, day in enumerate(days)}
    labels = dict.fromkeys([*features, (9, 9, BASE)], "sound")
    fill(store, features, labels)
    assert taken(store) == {(1, 1): (21, "sound"), (2, 1): (22, "sound")}


def test_nothing_younger_than_the_label_is_seen(store: Engine) -> None:
    """A row key has its newest label of the window, and the newest features that are not younger than that label."""
    at = [date(2025, 8, day) for day in (1, 5, 10, 15, 20)]
    features = {(1, 1, at[0]): 20, (1, 1, at[1]): 21, (1, 1, at[4]): 22, (2, 1, at[3]): 30}
    labels = {(1, 1, at[1]): "failing", (1, 1, at[2]): "sound", (2, 1, at[2]): "failing"}
    fill(store, features, labels)
    assert taken(store) == {(1, 1): (21, "sound")}


def test_the_report_says_what_the_snapshot_holds(store: Engine) -> None:
    """Rows, groups, window and shares are those of the snapshot, a class without rows included."""
    labels = {(1, 1, BASE): "sound", (2, 1, BASE): "sound", (3, 2, BASE): "failing"}
    fill(store, dict.fromkeys(labels, 30), labels)
    report = take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    assert (report.base_dt, report.window_start) == ("2025-08-31", "2025-07-31")
    assert (report.rows, report.groups, report.deleted) == (3, 2, 0)
    assert report.shares == {"failing": 1 / 3, "worn": 0, "sound": 2 / 3}
    assert list(report.shares) == list(CONTRACT.classes)


def test_the_statements_count_the_rows_of_the_day_alone(store: Engine) -> None:
    """The last statement counts the rows of this day's snapshot only."""
    fill(store, {(number, 1, BASE): 30 for number in range(3)}, {(number, 1, BASE): "sound" for number in range(3)})
    statements = snapshot_statements(CONTRACT)
    for day, rows in ((BASE, 3), (BASE + timedelta(days=1), 3)):
        parameters = snapshot_parameters(day, months=1, keep_days=7)
        with transaction(store) as connection:
            connection.execute(statements.clear, parameters)
            connection.execute(statements.fill, parameters)
            assert connection.scalar(statements.count, parameters) == rows
    with transaction(store) as connection:
        empty = snapshot_parameters(BASE + timedelta(days=5), months=1, keep_days=7)
        assert connection.scalar(statements.count, empty) == 0


def test_the_statements_are_the_locked_ones() -> None:
    """Airflow takes the snapshot with the locked file, and the command with the same statements."""
    locked = (INSTANCE.lock / lock.SNAPSHOT).read_text(encoding="utf-8")
    assert lock.derive(INSTANCE, {}, {})[lock.SNAPSHOT] == locked


@pytest.mark.slow
def test_without_event_dates_a_snapshot_has_all_rows_ingested_by_its_day(tmp_path: Path) -> None:
    """A row of that day is in it, one of an earlier year too, and one of the next day is not."""
    instance, url = write_instance(BARE, tmp_path / "contracts"), f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, instance.migrations)
    store, contract = connect(url), instance.contract
    days = {1: date(2020, 1, 1), 2: BASE, 3: BASE + timedelta(days=1)}
    rows = [{"row_number": number, "ingested_on": day} for number, day in days.items()]
    tables = build_tables(contract)
    with transaction(store) as connection:
        connection.execute(insert(tables.features).values(width=1.0, height=1.0), rows)
        connection.execute(insert(tables.labels).values(good="true"), rows)
    take_snapshot(store, contract, BASE, months=1, keep_days=7)
    assert read_snapshot(store, contract, BASE)["row_number"].tolist() == [1, 2]
    store.dispose()


def test_a_snapshot_replaces_itself(store: Engine) -> None:
    """Taken again, a day has the rows of today's tables and no others."""
    fill(store, {(1, 1, BASE): 30, (2, 2, BASE): 40}, {(1, 1, BASE): "sound", (2, 2, BASE): "failing"})
    assert taken(store) == taken(store) == {(1, 1): (30, "sound"), (2, 2): (40, "failing")}
    with transaction(store) as connection:
        connection.execute(TABLES.labels.delete().where(TABLES.labels.c["reading"] == 1))
    assert take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7).deleted == 2
    assert taken(store) == {(2, 2): (40, "failing")}


def test_seven_days_are_kept(store: Engine) -> None:
    """The snapshot of seven days ago goes, that of six days ago stays, and so does a later one."""
    fill(store, {(1, 1, date(2025, 8, 1)): 30}, {(1, 1, date(2025, 8, 1)): "sound"})
    for age in (-1, 8, 7, 6):
        take_snapshot(store, CONTRACT, BASE - timedelta(days=age), months=3, keep_days=1000)
    assert take_snapshot(store, CONTRACT, BASE, months=3, keep_days=7).deleted == 2
    kept = [row["taken_on"] for row in rows_of(store, TABLES.snapshot)]
    assert kept == [BASE - timedelta(days=6), BASE, BASE + timedelta(days=1)]
    assert latest_snapshot(store, CONTRACT) == BASE + timedelta(days=1)
    assert latest_snapshot(store, CONTRACT, until=BASE) == BASE
    assert latest_snapshot(store, CONTRACT, until=BASE - timedelta(days=1)) == BASE - timedelta(days=6)


def test_an_empty_snapshot_is_refused_and_changes_nothing(store: Engine) -> None:
    """Without a row the error names day, window and what the store has, and expired snapshots stay."""
    fill(store, {(1, 1, date(2025, 8, 1)): 30}, {(1, 1, date(2025, 8, 1)): "sound"})
    take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    before = everything(store)
    with pytest.raises(NotFound) as caught:
        take_snapshot(store, CONTRACT, date(2025, 12, 1), months=1, keep_days=7)
    assert str(caught.value) == (
        "snapshot of 2025-12-01: no row has a label from 2025-11-01 to 2025-12-01 and features of that day or before "
        "(machine_conditions has 2025-08-01 to 2025-08-01; machine_readings has 2025-08-01 to 2025-08-01: "
        "choose another base date, or ingest data)"
    )
    assert everything(store) == before


def test_an_empty_store_says_so(store: Engine) -> None:
    """The error for a store without rows states that there are none, and the store has no dates."""
    with pytest.raises(NotFound, match="machine_conditions has no rows; machine_readings has no rows"):
        take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    assert label_dates(store, CONTRACT) == (None, None)
    assert latest_snapshot(store, CONTRACT) is None


def test_a_run_that_dies_leaves_the_old_snapshot(store: Engine) -> None:
    """If the insert fails after the delete, the day still has the snapshot it had."""
    fill(store, {(1, 1, BASE): 30}, {(1, 1, BASE): "sound"})
    take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    with transaction(store) as connection:
        connection.execute(
            text(
                "CREATE TRIGGER stop BEFORE INSERT ON machine_readings_labelled "
                "BEGIN SELECT RAISE(ABORT, 'the power went'); END"
            )
        )
    with pytest.raises(Exception, match="the power went"):
        take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    assert count(store, TABLES.snapshot) == 1


@pytest.mark.slow
def test_a_snapshot_is_read_as_its_schema_says(store: Engine, tmp_path: Path) -> None:
    """Columns, order and types are those of the schema, rows are ordered by key, and nothing personal is there."""
    features = [
        feature_row(3, operator="Jane"),
        feature_row(1, shift=""),
        feature_row(2, power=61 / 3),
    ]
    load(store, write_tables(tmp_path, features, [label_row(number) for number in (1, 2, 3)]))
    take_snapshot(store, CONTRACT, date(2025, 1, 31), months=1, keep_days=7)
    frame = read_snapshot(store, CONTRACT, date(2025, 1, 31))
    schema = snapshot_schema(CONTRACT)
    pd.testing.assert_frame_equal(schema.validate(frame), frame)
    assert list(frame.columns) == list(schema.columns)
    assert frame.dtypes.equals(snapshot_frame(CONTRACT, rows=20).dtypes)
    assert frame["reading"].tolist() == [1, 2, 3]
    assert frame["power"].iloc[1] == 61 / 3
    assert frame["shift"].isna().tolist() == [True, False, False]
    assert not set(names(CONTRACT.personal)) & set(frame.columns)


def test_each_row_has_the_date_of_its_label(store: Engine) -> None:
    """It is that of the newest label, not of the features; a row of a release that kept no dates has none, and is read all the same."""
    fill(
        store,
        {(1, 1, BASE - timedelta(days=9)): 30, (2, 1, BASE): 40},
        {(1, 1, BASE - timedelta(days=2)): "sound", (1, 1, BASE - timedelta(days=5)): "worn", (2, 1, BASE): "sound"},
    )
    take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    dates = read_snapshot(store, CONTRACT, BASE)["day"]
    assert [day.date() for day in dates] == [BASE - timedelta(days=2), BASE]
    with transaction(store) as connection:
        connection.execute(TABLES.snapshot.update().values(day=None))
    frame = read_snapshot(store, CONTRACT, BASE)
    assert frame["day"].isna().all()
    assert not examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="x").breaches


def test_a_large_snapshot_comes_in_parts(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part has more rows than are to be in memory at once; together they are the snapshot."""
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 2)
    fill(store, {(each, 1, BASE): 30 for each in range(5)}, {(each, 1, BASE): "sound" for each in range(5)})
    take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    parts = list(snapshot_chunks(store, CONTRACT, BASE))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert read_snapshot(store, CONTRACT, BASE)["reading"].tolist() == [0, 1, 2, 3, 4]


def test_a_missing_snapshot_is_named(store: Engine) -> None:
    """A day without a snapshot ends in an error that names the newest one, or how to take one."""
    with pytest.raises(NotFound) as caught:
        read_snapshot(store, CONTRACT, BASE)
    assert str(caught.value) == (
        "machine_readings_labelled: there is no snapshot of 2025-08-31 (run: ctcd snapshot --base-dt 2025-08-31)"
    )
    fill(store, {(1, 1, BASE): 30}, {(1, 1, BASE): "sound"})
    take_snapshot(store, CONTRACT, BASE, months=1, keep_days=7)
    with pytest.raises(NotFound, match="the newest is that of 2025-08-31"):
        read_snapshot(store, CONTRACT, date(2025, 9, 1))


def test_the_dates_of_the_labels(store: Engine) -> None:
    """The first and the last day of the labels are those of the table."""
    labels = {(1, 1, date(2025, 1, 3)): "sound", (2, 1, BASE): "failing", (3, 1, date(2025, 5, 1)): "failing"}
    fill(store, {}, labels)
    assert label_dates(store, CONTRACT) == (date(2025, 1, 3), BASE)


days = st.dates(date(2025, 6, 1), date(2025, 10, 31))
keyed = st.tuples(st.integers(1, 2), st.integers(1, 2), days)


@settings(deadline=None, max_examples=at_most(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    features=st.dictionaries(keyed, st.integers(18, 99), max_size=12),
    labels=st.dictionaries(keyed, st.sampled_from(CONTRACT.classes), max_size=12),
    base_dt=days,
    months=st.integers(1, 3),
)
def test_a_snapshot_is_what_plain_python_would_choose(
    store: Engine, features: dict[Keyed, int], labels: dict[Keyed, str], base_dt: date, months: int
) -> None:
    """For any tables, the query gives what looking at every label and feature row one after the other gives."""
    fill(store, features, labels)
    expected = {}
    for key in {at[:2] for at in labels}:
        in_window = [at[2] for at in labels if at[:2] == key and months_before(base_dt, months) <= at[2] <= base_dt]
        if in_window:
            known = [at[2] for at in features if at[:2] == key and at[2] <= max(in_window)]
            if known:
                expected[key] = (features[*key, max(known)], labels[*key, max(in_window)])
    if expected:
        assert taken(store, base_dt, months=months) == expected
    else:
        with pytest.raises(NotFound):
            taken(store, base_dt, months=months)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_frame_does_not_depend_on_the_chunks_it_was_read_in(rows: int) -> None:
    """Nor does the order of its categories, by which rows are sorted before they are split."""
    frame = pd.DataFrame({"key": ["b", "c", "a", "c", None], "number": [1.0, 2.0, None, 4.0, 5.0]}).astype(
        {"key": "str"}
    )
    chunks = [frame.iloc[start : start + rows].reset_index(drop=True) for start in range(0, len(frame), rows)]
    parts = [compact(chunk) for chunk in chunks]
    pd.testing.assert_frame_equal(joined(parts), compact(frame))


def test_frames_are_joined_without_a_second_copy() -> None:
    """Joining takes the memory of a few columns more, not that of all of them."""
    tracemalloc.start()
    try:
        frames = [pd.DataFrame({f"x{n}": np.ones(10_000) for n in range(20)}, copy=False) for _ in range(2)]
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        whole = joined(frames)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert whole.shape == (20_000, 20)
    assert peak < 1.2 * before
