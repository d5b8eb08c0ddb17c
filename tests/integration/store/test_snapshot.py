"""Snapshots of real databases."""

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from support.instance import CONTRACT
from support.raw import feature_row, label_row, write_tables
from support.snapshots import read_snapshot
from support.stores import TABLES, everything, load, rows_of

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.validation import examine_chunks
from ctcd.derived import synthetic
from ctcd.errors import NotFound
from ctcd.store.engine import connect
from ctcd.store.snapshot import (
    label_dates,
    latest_snapshot,
    take_snapshot,
)

pytestmark = pytest.mark.integration

BASE = date(2025, 8, 31)


def test_both_databases_choose_the_same_rows(sqlite_url: str, store_url: str, tmp_path: Path) -> None:
    """The same data gives the same snapshot in SQLite and in MariaDB, and it satisfies the contract."""
    synthetic.write(CONTRACT, tmp_path, rows=2_000, seed=7, end=BASE)
    frames = []
    for url in (sqlite_url, store_url):
        engine = connect(url)
        load(engine, tmp_path)
        report = take_snapshot(engine, CONTRACT, BASE, months=2, keep_days=7)
        frame = read_snapshot(engine, CONTRACT, BASE)
        checked = examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="x")
        assert (report.rows, checked.rows, checked.breaches) == (len(frame), len(frame), ())
        assert sum(report.shares.values()) == pytest.approx(1)
        frames.append(frame)
    pd.testing.assert_frame_equal(frames[0], frames[1], check_exact=True)


def test_window_retention_and_point_in_time(store_url: str, tmp_path: Path) -> None:
    """On MariaDB the window includes both its ends, the seventh day goes, and nothing younger than the label is seen."""
    engine = connect(store_url)
    features = [
        feature_row(1, day="2025-07-31", hours=31),
        feature_row(2, day="2025-07-30", hours=32),
        feature_row(3, day="2025-08-01", hours=33),
        feature_row(3, day="2025-08-10", hours=34),
        feature_row(3, day="2025-08-20", hours=35),
    ]
    labels = [
        label_row(1, day="2025-07-31", condition="sound"),
        label_row(2, day="2025-07-30"),
        label_row(3, day="2025-08-01", condition="sound"),
        label_row(3, day="2025-08-15", condition="failing"),
        label_row(4, day="2025-08-15"),
    ]
    load(engine, write_tables(tmp_path, features, labels))
    for age in (7, 6):
        take_snapshot(engine, CONTRACT, BASE - timedelta(days=age), months=2, keep_days=100)
    report = take_snapshot(engine, CONTRACT, BASE, months=1, keep_days=7)
    assert (report.rows, report.groups) == (2, 1)
    assert report.deleted == 3
    assert {row["taken_on"] for row in rows_of(engine, TABLES.snapshot)} == {BASE - timedelta(days=6), BASE}
    frame = read_snapshot(engine, CONTRACT, BASE)
    assert frame[["reading", "hours", "condition"]].to_numpy().tolist() == [[1, 31, "sound"], [3, 34, "failing"]]
    before = everything(engine)
    take_snapshot(engine, CONTRACT, BASE, months=1, keep_days=7)
    assert everything(engine) == before
    assert label_dates(engine, CONTRACT) == (
        date(2025, 7, 30),
        date(2025, 8, 15),
    )
    assert latest_snapshot(engine, CONTRACT) == BASE


def test_an_empty_snapshot_changes_nothing(store_url: str, tmp_path: Path) -> None:
    """A day without labels is refused, and the snapshots it would have deleted stay."""
    engine = connect(store_url)
    load(engine, write_tables(tmp_path, [feature_row(1)], [label_row(1)]))
    take_snapshot(engine, CONTRACT, date(2025, 1, 2), months=1, keep_days=7)
    before = everything(engine)
    with pytest.raises(NotFound, match="machine_conditions has 2025-01-01 to 2025-01-01"):
        take_snapshot(engine, CONTRACT, BASE, months=1, keep_days=7)
    assert everything(engine) == before
