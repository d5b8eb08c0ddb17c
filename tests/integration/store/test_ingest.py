"""Ingest into real databases."""

import csv
import gzip
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from support.instance import CONTRACT
from support.raw import feature_row, feature_rows, label_row, label_rows, write_features, write_tables
from support.small_contracts import Small, write_instance
from support.stores import PEOPLE, TABLES, count, everything, load, rows_of

from ctcd.derived import synthetic
from ctcd.errors import DataRefused, Unreachable
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.migrations import upgrade
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def raw_tables(real_data: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of raw tables: the real ones, or else 20,000 synthetic rows."""
    if real_data is not None:
        return real_data
    folder = tmp_path_factory.mktemp("raw")
    synthetic.write(CONTRACT, folder, rows=20_000, seed=1, end=date(2025, 8, 31))
    return folder


def impossible_dates(path: Path) -> list[int]:
    """Return the lines of a CSV.gz file whose date no calendar has, found row by row."""
    lines = []
    with gzip.open(path, "rt", newline="") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            try:
                date.fromisoformat(row[CONTRACT.event_date.name])
            except ValueError:
                lines.append(reader.line_num)
    return lines


@pytest.mark.parametrize("store", ["sqlite", "mariadb"])
def test_what_a_source_takes_back_is_deleted(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A row that comes again without its label or its personal data has none in the store; other rows keep theirs."""
    columns = {
        "id": ("int", "role=Role.KEY, minimum=1, maximum=9_999, example=1"),
        "day": ("pa.DateTime", 'role=Role.EVENT_DATE, example="2025-01-01"'),
        "width": ("float", "minimum=0, maximum=10, example=5.0"),
        "owner": ("str", 'role=Role.PERSONAL, nullable=True, max_length=50, example="Jane Doe"'),
        "label": ("str", 'role=Role.LABEL, categories=("no", "yes"), nullable=True, example="no"'),
    }
    instance = write_instance(Small(name="taken", columns=columns, classes=("no", "yes")), tmp_path / "contracts")
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if store == "mariadb":
        url = request.getfixturevalue("empty_store_url")
    upgrade(url, instance.migrations)
    engine, tables = connect(url), build_tables(instance.contract)
    file = tmp_path / "taken_rows.csv"
    first = [f"{row},2025-01-0{row % 2 + 1},1.5,Jane,{label}" for row, label in enumerate(["yes"] * 1_200, start=1)]
    later = [line.replace("Jane,yes", ",") if number % 2 else line for number, line in enumerate(first)]
    for lines in (first, later):
        file.write_text("\n".join(["id,day,width,owner,label", *lines]) + "\n")
        ingest(engine, instance.contract, file, chunk_rows=1_000)
    assert count(engine, tables.features) == 1_200
    for table in (tables.labels, tables.personal):
        assert table is not None
        assert [row["id"] for row in rows_of(engine, table)] == list(range(1, 1_200, 2))
    engine.dispose()


def test_impossible_dates_are_quarantined_by_line(each_store_url: str, raw_tables: Path) -> None:
    """Every impossible date is quarantined with its line, and every row read is either written or quarantined."""
    engine = connect(each_store_url)
    report = load(engine, raw_tables, chunk_rows=20_000)
    for each, table in zip(report.tables, (TABLES.features, TABLES.labels), strict=True):
        expected = impossible_dates(raw_tables / f"{each.table}.csv.gz")
        assert expected
        found = [
            row["line"]
            for row in rows_of(engine, TABLES.quarantine)
            if row["table_name"] == each.table
            and CONTRACT.event_date.name in [reason["column"] for reason in row["reasons"]]
        ]
        assert found == expected
        assert each.reasons["day is not a calendar date"] == len(expected)
        assert count(engine, table) == each.written == each.read - each.quarantined


def test_both_databases_hold_the_same(sqlite_url: str, store_url: str, tmp_path: Path) -> None:
    """The same source gives the same rows in SQLite and in MariaDB, numbers to the last bit, run once or twice."""
    synthetic.write(CONTRACT, tmp_path, rows=1_000, seed=5, end=date(2025, 8, 31), error_rate=0.015)
    stores = [connect(sqlite_url), connect(store_url)]
    reports = [load(store, tmp_path, chunk_rows=300) for store in stores]
    held = [everything(store) for store in stores]
    files = f"{CONTRACT.name}_sources"
    timeless = [each | {files: [row | {"ingested_at": None} for row in each[files]]} for each in held]
    assert timeless[0] == timeless[1]
    assert reports[0].tables == reports[1].tables
    assert held[0][CONTRACT.personal_table]
    assert len(held[0][f"{CONTRACT.name}_quarantine"]) == sum(each.quarantined for each in reports[0].tables)
    load(stores[1], tmp_path, chunk_rows=1_000)
    assert everything(stores[1]) == held[1]


def test_too_many_bad_rows_leave_nothing(store_url: str, tmp_path: Path) -> None:
    """Bad labels take the features back with them, though those were good and read first."""
    engine = connect(store_url)
    bad = [label_row(number, day="2025-02-29") for number in range(1, 51)]
    with pytest.raises(DataRefused, match=r"50 of 50 rows \(100.00%\).*first in line 2, 3, 4"):
        load(engine, write_tables(tmp_path, feature_rows(500), bad))
    assert not any(everything(engine).values())


def test_text_of_every_script_comes_back(store_url: str, tmp_path: Path) -> None:
    """Names and quarantined text outside ASCII, an emoji included, are kept as they were."""
    engine = connect(store_url)
    rows = [*feature_rows(199), feature_row(500, operator="Žofia 张 😀"), feature_row(501, maker="😀")]
    load(engine, write_features(tmp_path, rows))
    assert rows_of(engine, PEOPLE)[0]["operator"] == "Žofia 张 😀"
    assert rows_of(engine, TABLES.quarantine)[0]["record"]["maker"] == "😀"


KILLED = """
import os, sys
from pathlib import Path

from ctcd.contract.instance import load_instance
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest

def report(task, done, total):
    if done >= 300:
        print(task, done, flush=True)
        sys.stdin.read()  # wait to be killed, in the middle of the transaction

contract = load_instance(Path(os.environ["CTCD_CONTRACTS"])).contract
ingest(connect(os.environ["STORE_URL"]), contract, Path(sys.argv[1]), chunk_rows=100, progress=report)
"""


@pytest.mark.parametrize("in_labels", [False, True], ids=["in the features", "in the labels"])
def test_a_killed_ingest_can_be_run_again(each_store_url: str, tmp_path: Path, *, in_labels: bool) -> None:
    """A process killed half-way leaves the store as it was; the next run brings all of it."""
    engine = connect(each_store_url)
    load(engine, write_tables(tmp_path / "old", feature_rows(3), label_rows(3)))
    before = everything(engine)
    bad = feature_row(9_000, hours="x")
    features = [*feature_rows(200 if in_labels else 600, first=100), bad]
    folder = write_tables(tmp_path / "new", features, label_rows(600, first=100))

    with subprocess.Popen(  # noqa: S603 -- fixed arguments
        [sys.executable, "-c", KILLED, str(folder)],
        env={**os.environ, "STORE_URL": each_store_url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        expected = CONTRACT.labels_table if in_labels else CONTRACT.features_table
        assert process.stdout.readline() == f"ingest {expected}.csv 300\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    assert everything(engine) == before
    load(engine, folder)
    assert count(engine, TABLES.features) == 3 + len(features) - 1
    assert count(engine, TABLES.labels) == 603
    assert count(engine, TABLES.quarantine) == 1


def test_an_ingest_that_waits_too_long_says_so(store_url: str, tmp_path: Path) -> None:
    """Where another writer holds the rows, the run ends with a clear line and nothing half-written."""
    engine, other = connect(store_url), connect(store_url)
    load(engine, write_tables(tmp_path, feature_rows(5), label_rows(5)))

    def be_impatient(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")

    engine.dispose()
    event.listen(engine, "connect", be_impatient)
    with other.begin() as holding:
        holding.execute(TABLES.labels.update().values({CONTRACT.label.name: "failing"}))
        with pytest.raises(Unreachable, match=r"another connection holds the lock.*run it again"):
            load(engine, write_tables(tmp_path, feature_rows(5, hours=50), label_rows(5)))
    assert {row["hours"] for row in rows_of(engine, TABLES.features)} == {3_900}
