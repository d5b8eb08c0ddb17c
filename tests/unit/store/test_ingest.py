import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest
from instance.features import ReadingFeatures
from pandera.typing import Series
from sqlalchemy import Engine
from support.instance import CONTRACT
from support.raw import (
    feature_row,
    feature_rows,
    label_row,
    label_rows,
    write_csv,
    write_features,
    write_labels,
    write_tables,
)
from support.small_contracts import NAMED, write_instance
from support.stores import PEOPLE, TABLES, count, everything, load, rows_of

from ctcd.contract.columns import column
from ctcd.contract.spec import Contract, names
from ctcd.derived import synthetic
from ctcd.errors import DataRefused, NotFound, UsageError
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.ingested import Quarantined, quarantined, source_files
from ctcd.store.migrations import upgrade
from ctcd.store.tables import build_tables

GOOD = 199
"""Number of valid rows that keeps the share of one invalid row below the limit of the contract."""


def reasons_of(store: Engine) -> dict[int, list[str]]:
    """Return line and reasons of every row in the quarantine."""
    return {
        row["line"]: [f"{reason['column']} {reason['rule']}".strip() for reason in row["reasons"]]
        for row in rows_of(store, TABLES.quarantine)
    }


@pytest.mark.slow
def test_good_tables_are_in_the_store(store: Engine, tmp_path: Path) -> None:
    """Every good row is written, typed, and the report counts it."""
    report = load(store, write_tables(tmp_path, feature_rows(3), label_rows(3)), chunk_rows=2)
    assert [(each.table, each.read, each.written, each.quarantined, each.reasons) for each in report.tables] == [
        (CONTRACT.features_table, 3, 3, 0, {}),
        (CONTRACT.labels_table, 3, 3, 0, {}),
    ]
    [first, _, _] = rows_of(store, TABLES.features)
    expected = {column.name: column.example for column in CONTRACT.feature_columns}
    assert first == {**expected, "reading": 1, "day": date(2025, 1, 1), "operator": None, "badge": None}
    assert rows_of(store, TABLES.labels)[2] == {
        "reading": 3,
        "machine": 4_711,
        "day": date(2025, 1, 1),
        "condition": "worn",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"day": "2025-02-29"}, "day is not a calendar date"),
        ({"hours": "abc"}, "hours is not a number"),
        ({"hours": "39.5"}, "hours is not a whole number"),
        ({"hours": "0"}, "hours is below 1"),
        ({"hours": "-500"}, "hours is below 1"),
        ({"hours": "20001"}, "hours is above 20000"),
        ({"hours": ""}, "hours is missing"),
        ({"power": "1e999"}, "power is not a finite number"),
        ({"grade": "_"}, "grade is not one of High, Fair, Low"),
        ({"grade": "good"}, "grade is not one of High, Fair, Low"),
        ({"maker": "_______"}, "maker does not match the contract's pattern"),
        ({"maker": "x" * 65}, "maker is longer than 64 characters"),
        ({"parts": "gear box,bearing"}, "parts has an unknown entry"),
        ({"num_parts": "3"}, "breaks one_entry_per_part: parts has as many entries as num_parts says"),
        (
            {"output": "500"},
            ("breaks output_agrees_with_power: output is between a tenth and twice power"),
        ),
        ({"badge": "9" * 21}, "badge is longer than 20 characters"),
        ({"reading": "1"}, "duplicate key"),
    ],
    ids=str,
)
def test_an_invalid_row_is_quarantined_with_its_reason(
    store: Engine, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    """A row with any kind of error is quarantined with reason and line; all other rows are written."""
    rows = [*feature_rows(GOOD), feature_row(GOOD + 1, **changes)]
    [report] = load(store, write_features(tmp_path, rows)).tables
    assert (report.read, report.written, report.quarantined) == (GOOD + 1, GOOD, 1)
    assert report.reasons == {reason: 1}
    assert reasons_of(store) == {GOOD + 2: [reason]}
    assert count(store, TABLES.features) == GOOD


def test_a_row_is_quarantined_with_all_its_reasons(store: Engine, tmp_path: Path) -> None:
    """Two wrong types are two reasons of one row; the row is kept as it was, with the values that are wrong."""
    load(store, write_features(tmp_path, [*feature_rows(GOOD), feature_row(7, hours="old", power="much")]))
    [row] = rows_of(store, TABLES.quarantine)
    assert row["table_name"] == CONTRACT.features_table
    assert row["source"] == str(tmp_path / "machine_readings.csv")
    assert row["reasons"] == [
        {"column": "hours", "value": "old", "rule": "is not a number"},
        {"column": "power", "value": "much", "rule": "is not a number"},
    ]
    assert row["record"]["hours"] == "old"
    assert row["record"]["maker"] == "Acme"


def test_the_quarantine_is_counted_by_reason_without_a_value(store: Engine, tmp_path: Path) -> None:
    """Each reason has the rows that the ingest reported, with the name of their file; no value is repeated."""
    bad = [feature_row(900 + n, hours="old", power="much" if n else "20") for n in range(2)]
    report = load(store, write_tables(tmp_path, [*feature_rows(2 * GOOD), *bad], [*label_rows(GOOD), label_row(1)]))
    assert quarantined(store, CONTRACT) == (
        Quarantined(table=CONTRACT.features_table, file="machine_readings.csv", reason="hours is not a number", rows=2),
        Quarantined(table=CONTRACT.labels_table, file="machine_conditions.csv", reason="duplicate key", rows=1),
        Quarantined(table=CONTRACT.features_table, file="machine_readings.csv", reason="power is not a number", rows=1),
    )
    assert [each.reasons for each in report.tables] == [
        {"hours is not a number": 2, "power is not a number": 1},
        {"duplicate key": 1},
    ]


def test_rows_with_too_few_or_many_fields_are_quarantined(store: Engine, tmp_path: Path) -> None:
    """Such a row is counted and its line is stored, but none of its cells, because any of them may be personal."""
    path = write_labels(tmp_path, label_rows(GOOD))
    with path.open("a") as stream:
        stream.write("1000,1,2025-01-01\n1001,1,2025-01-01,Good,Jane\n")
    [report] = load(store, path).tables
    assert report.reasons == {"the row has too few fields": 1, "the row has too many fields": 1}
    assert reasons_of(store) == {GOOD + 2: ["the row has too few fields"], GOOD + 3: ["the row has too many fields"]}
    assert [row["record"] for row in rows_of(store, TABLES.quarantine)] == [{}, {}]


def test_the_first_valid_row_with_a_key_is_written(store: Engine, tmp_path: Path) -> None:
    """An invalid row does not block a valid one with the same key; later duplicates are quarantined, across chunks too."""
    rows = [*feature_rows(GOOD), feature_row(900, hours=0), feature_row(900, hours=20), feature_row(900, hours=30)]
    [report] = load(store, write_features(tmp_path, rows), chunk_rows=GOOD + 2).tables
    assert report.reasons == {"hours is below 1": 1, "duplicate key": 1}
    assert [row["hours"] for row in rows_of(store, TABLES.features) if row["reading"] == 900] == [20]


def test_personal_values_go_to_their_table_only(store: Engine, tmp_path: Path) -> None:
    """Names and numbers are in the personal table and nowhere else, not even if their row is quarantined."""
    rows = [
        *feature_rows(GOOD),
        feature_row(500, operator="Jane Secret", badge="000-11-2222"),
        feature_row(501, operator="John Secret" * 20),
        feature_row(502, operator="Joan Secret", badge="000-33-4444", hours="x"),
    ]
    [report] = load(store, write_features(tmp_path, rows)).tables
    assert report.personal == 1
    [person] = rows_of(store, PEOPLE)
    assert (person["reading"], person["operator"], person["badge"]) == (500, "Jane Secret", "000-11-2222")
    elsewhere = repr({name: rows for name, rows in everything(store).items() if name != CONTRACT.personal_table})
    assert "Secret" not in elsewhere
    assert not re.search(r"000-\d\d-\d{4}", elsewhere)
    assert reasons_of(store) == {
        GOOD + 3: ["operator is longer than 100 characters"],
        GOOD + 4: ["hours is not a number"],
    }


def test_a_file_of_personal_data_may_come_by_itself(store: Engine, tmp_path: Path) -> None:
    """The personal table has a file of its own; the feature file may leave those columns out."""
    folder = write_tables(tmp_path, feature_rows(1), label_rows(1))
    columns = [c.name for c in CONTRACT.feature_columns if c not in CONTRACT.personal]
    write_csv(folder / f"{CONTRACT.features_table}.csv", [{c: feature_row(1)[c] for c in columns}])
    keys = {"reading": "1", "machine": "4711", "day": "2025-01-01"}
    write_csv(folder / f"{CONTRACT.personal_table}.csv", [{**keys, "operator": "Jane Secret", "badge": ""}])
    report = load(store, folder)
    assert [each.personal for each in report.tables] == [0, 0, 1]
    assert report.tables[2].written == 1
    assert rows_of(store, PEOPLE)[0]["operator"] == "Jane Secret"


@pytest.mark.slow
def test_twice_is_once(store: Engine, tmp_path: Path) -> None:
    """The same source again leaves every table as it was, quarantine included."""
    folder = write_tables(tmp_path, [*feature_rows(GOOD), feature_row(7, hours="x")], label_rows(GOOD))
    first = load(store, folder, chunk_rows=50)
    before = everything(store)
    second = load(store, folder, chunk_rows=50)
    assert everything(store) == before
    assert first.tables == second.tables


@pytest.mark.slow
def test_a_replaced_source_leaves_no_rows_behind(store: Engine, tmp_path: Path) -> None:
    """With `replace` the store holds what the source holds: features, labels, personal data and quarantine."""
    rows = [*feature_rows(GOOD, operator="Jane"), feature_row(900, hours="x")]
    load(store, write_tables(tmp_path, rows, label_rows(3)))
    assert all(count(store, table) for table in (PEOPLE, TABLES.quarantine))
    assert len(source_files(store, CONTRACT)) == 2
    other = write_tables(tmp_path / "other", feature_rows(2), label_rows(1))
    ingest(store, CONTRACT, other, chunk_rows=1_000, replace=True)
    left = [count(store, table) for table in (TABLES.features, TABLES.labels, PEOPLE, TABLES.quarantine)]
    assert left == [2, 1, 0, 0]
    assert {each.file: each.read for each in source_files(store, CONTRACT)} == {
        "machine_readings.csv": 2,
        "machine_conditions.csv": 1,
    }


@pytest.mark.slow
def test_files_are_recorded_by_their_content(store: Engine, tmp_path: Path) -> None:
    """Each file with the SHA-256 of its bytes and its rows; again, or from another folder, it is the same file."""
    first = write_tables(tmp_path / "first", [*feature_rows(GOOD), feature_row(7, hours="x")], label_rows(GOOD))
    second = write_tables(tmp_path / "second", feature_rows(3), label_rows(GOOD))
    for folder in (first, second):
        load(store, folder)
    found = source_files(store, CONTRACT)
    digests = {
        (folder / name).read_bytes(): name
        for folder in (first, second)
        for name in ("machine_readings.csv", "machine_conditions.csv")
    }
    assert {each.sha256: each.file for each in found} == {
        hashlib.sha256(content).hexdigest(): name for content, name in digests.items()
    }
    assert len(found) == 3
    readings = [(each.read, each.written) for each in found if each.table == "machine_readings"]
    assert readings == [(3, 3), (GOOD + 1, GOOD)]


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[tuple[Engine, Contract]]:
    """A store, and its contract with a group and personal data, but without a key."""
    instance = write_instance(NAMED, tmp_path / "named")
    url = f"sqlite:///{tmp_path / 'named.db'}"
    upgrade(url, instance.migrations)
    engine = connect(url)
    yield engine, instance.contract
    engine.dispose()


@pytest.mark.slow
def test_without_a_key_rows_of_two_files_are_not_mixed(keyless: tuple[Engine, Contract], tmp_path: Path) -> None:
    """A second file is refused unless it replaces the first one with all that belongs to its rows, scores too."""
    engine, contract = keyless
    tables = build_tables(contract)
    for name, rows in (("first", 9), ("second", 5)):
        synthetic.write(contract, tmp_path / name, rows=rows, seed=rows, end=date(2025, 6, 30), error_rate=0)
    ingest(engine, contract, tmp_path / "first", chunk_rows=100)
    before = rows_of(engine, tables.features)
    with engine.begin() as connection:
        key = {name: before[0][name] for name in names(contract.keys)}
        score = {"model_version": "1", "prediction": "yes", "confidence": 1.0, "scored_at": datetime.now(UTC)}
        connection.execute(tables.scores.insert(), [{**key, **score}])
    with pytest.raises(UsageError, match="without a key") as refusal:
        ingest(engine, contract, tmp_path / "second", chunk_rows=100)
    assert "--replace" in str(refusal.value.hint)
    assert rows_of(engine, tables.features) == before
    ingest(engine, contract, tmp_path / "second", chunk_rows=100, replace=True)
    assert [count(engine, table) for table in (tables.features, tables.labels, tables.scores)] == [5, 5, 0]


def test_without_a_key_personal_data_come_with_their_rows_only(
    keyless: tuple[Engine, Contract], tmp_path: Path
) -> None:
    """The lines of another file may be in another order: it is not read."""
    engine, contract = keyless
    file = tmp_path / f"{contract.personal_table}.csv"
    file.write_text("Kunden-Nr.,full name\n7,Jane Doe\n")
    with pytest.raises(DataRefused):
        ingest(engine, contract, file, chunk_rows=100)


@pytest.mark.slow
def test_a_refused_source_replaces_nothing(store: Engine, tmp_path: Path) -> None:
    """What cannot be loaded does not empty the store."""
    load(store, write_tables(tmp_path, feature_rows(3), label_rows(3)))
    before = everything(store)
    with pytest.raises(DataRefused):
        ingest(store, CONTRACT, write_features(tmp_path / "bad", [feature_row(hours="x")]), chunk_rows=10, replace=True)
    assert everything(store) == before


@pytest.mark.slow
def test_a_corrected_file_empties_its_quarantine(store: Engine, tmp_path: Path) -> None:
    """Rows are written over those with the same key, and what the file had left in the quarantine goes."""
    load(store, write_features(tmp_path, [*feature_rows(GOOD), feature_row(900, hours="x")]))
    load(
        store,
        write_features(tmp_path, [*feature_rows(GOOD), feature_row(900, hours=50), feature_row(1, day="2025-03-01")]),
    )
    assert count(store, TABLES.quarantine) == 0
    assert [row["hours"] for row in rows_of(store, TABLES.features) if row["reading"] == 900] == [50]
    load(store, write_features(tmp_path, feature_rows(GOOD, hours=44)))
    assert {row["hours"] for row in rows_of(store, TABLES.features) if row["reading"] < 900} == {3_900, 44}


@pytest.mark.slow
def test_other_sources_keep_their_quarantine(store: Engine, tmp_path: Path) -> None:
    """Each file has its own rows in the quarantine."""
    bad = [*feature_rows(GOOD), feature_row(900, hours="x")]
    load(store, write_features(tmp_path / "one", bad))
    load(store, write_features(tmp_path / "two", bad))
    load(store, write_features(tmp_path / "one", feature_rows(GOOD)))
    assert [row["source"] for row in rows_of(store, TABLES.quarantine)] == [
        str(tmp_path / "two" / "machine_readings.csv")
    ]


@pytest.mark.slow
def test_too_many_bad_rows_leave_nothing(store: Engine, tmp_path: Path) -> None:
    """Above the allowed share the whole source is refused, with counts, lines and limit; the store stays as it was."""
    load(store, write_tables(tmp_path / "old", feature_rows(5), label_rows(5)))
    before = everything(store)
    labels = [*label_rows(98), label_row(99, day="2025-02-29"), label_row(100, condition="fair"), label_row(1)]
    folder = write_tables(tmp_path / "new", feature_rows(100, first=1000), labels)
    with pytest.raises(DataRefused) as caught:
        load(store, folder, chunk_rows=10)
    assert str(caught.value) == (
        f"{folder / f'{CONTRACT.labels_table}.csv'}: 3 of 101 rows (2.97%) break the contract, which allows 2.00%: "
        "day is not a calendar date (1 row, first in line 100); "
        "condition is not one of failing, worn, sound (1 row, first in line 101); "
        "duplicate key (1 row, first in line 102) "
        "(nothing was written; correct the rows, or the contract: the rules that they break, or max_quarantine_share)"
    )
    assert everything(store) == before


def test_the_allowed_share_itself_is_allowed(store: Engine, tmp_path: Path) -> None:
    """Exactly the share that the contract allows is quarantined; one more row is refused."""
    bad = [label_row(1000 + number, day="2025-02-30") for number in range(3)]
    load(store, write_labels(tmp_path, [*label_rows(98), *bad[:2]]))
    with pytest.raises(DataRefused, match="3 of 100 rows"):
        load(store, write_labels(tmp_path, [*label_rows(97), *bad]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("reading,machine,day", "missing columns: condition"),
        ("reading,machine,day,condition,uid,x", "unknown columns: uid, x"),
        ("reading,machine,day,condition,reading", "repeated columns: reading"),
        ("reading,day,score", "missing columns: machine, condition; unknown columns: score"),
        ("1,Jane Secret,2025-01-01,sound", "the first line contains no column name of the table"),
    ],
)
def test_columns_that_are_not_the_contracts_are_named(store: Engine, tmp_path: Path, header: str, message: str) -> None:
    """Missing, unknown and repeated columns are all named at once; a first line of data is not repeated."""
    path = tmp_path / f"{CONTRACT.labels_table}.csv"
    path.write_text(f"{header}\n")
    with pytest.raises(DataRefused, match=message) as caught:
        load(store, path)
    assert "Secret" not in str(caught.value)


def test_columns_may_stand_in_any_order(store: Engine, tmp_path: Path) -> None:
    """Columns are known by name."""
    path = write_csv(
        tmp_path / f"{CONTRACT.labels_table}.csv", label_rows(2), ["condition", "day", "reading", "machine"]
    )
    assert load(store, path).tables[0].written == 2


def test_a_file_without_rows_is_refused(store: Engine, tmp_path: Path) -> None:
    """A header alone is no data."""
    with pytest.raises(DataRefused, match="the file has no rows"):
        load(store, write_labels(tmp_path, []))


def test_a_store_of_another_contract_says_so(store: Engine, tmp_path: Path) -> None:
    """A draft that was made again has a first migration of the same number: the store of the one before is named."""

    class Redrafted(ReadingFeatures):
        extra: Series[float] = column(meaning="a new number", unit="1", nullable=True)

    write_csv(tmp_path / f"{CONTRACT.features_table}.csv", [each | {"extra": "1.5"} for each in feature_rows(1)])
    write_labels(tmp_path, label_rows(1))
    with pytest.raises(NotFound, match=r"other columns than the contract \(extra\).*earlier draft .*use another store"):
        ingest(store, replace(CONTRACT, features=Redrafted), tmp_path, chunk_rows=10, replace=True)


def test_a_store_without_tables_says_so(tmp_path: Path) -> None:
    """A store that was not migrated is named with what to run."""
    engine = connect(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(NotFound, match="ctcd migrate"):
        load(engine, write_labels(tmp_path, label_rows(1)))
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_every_format_gives_the_same_rows(store: Engine, tmp_path: Path, suffix: str) -> None:
    """A compressed or Parquet file, typed or all text, is read as the same rows as the plain one."""
    rows = [*feature_rows(GOOD), feature_row(900, shift="", power=20.226280000000002)]
    load(store, write_features(tmp_path, rows))
    before = rows_of(store, TABLES.features)
    if suffix == ".parquet":
        frame = pd.read_csv(tmp_path / "machine_readings.csv", parse_dates=["day"])
        path = tmp_path / "typed" / "machine_readings.parquet"
        path.parent.mkdir()
        frame.to_parquet(path)
    else:
        path = write_features(tmp_path / "packed", rows, suffix)
    assert load(store, path).tables[0].written == GOOD + 1
    assert rows_of(store, TABLES.features) == before


@pytest.mark.slow
@pytest.mark.parametrize("chunk_rows", [101, 1_000])
def test_injected_errors_are_quarantined_at_their_lines(store: Engine, tmp_path: Path, chunk_rows: int) -> None:
    """Every injected error is quarantined under its table and line, and no other row is."""
    written = synthetic.write(CONTRACT, tmp_path, rows=600, seed=3, end=date(2025, 8, 31), error_rate=0.02)
    report = load(store, tmp_path, chunk_rows=chunk_rows)
    found = {(row["table_name"], row["line"]) for row in rows_of(store, TABLES.quarantine)}
    assert found == {(error.table, error.line) for error in written.errors}
    assert [each.written for each in report.tables] == [each.read - each.quarantined for each in report.tables]
    assert count(store, TABLES.features) == report.tables[0].written
    values = {(row["table_name"], row["line"]): row["reasons"] for row in rows_of(store, TABLES.quarantine)}
    for error in written.errors:
        columns = {reason["column"] for reason in values[error.table, error.line]}
        assert error.column in columns or "" in columns


@pytest.mark.slow
def test_progress_is_reported_in_rows(store: Engine, tmp_path: Path) -> None:
    """Progress is the number of rows read, of an estimated total that is reached with the last row."""
    steps: list[tuple[str, int, int | None]] = []
    path = write_labels(tmp_path, label_rows(5))
    ingest(store, CONTRACT, path, chunk_rows=2, progress=lambda task, done, total: steps.append((task, done, total)))
    assert [(done, total) for _, done, total in steps] == [(0, None), (2, 3), (4, 5), (5, 5)]
    assert {task for task, *_ in steps} == {"ingest machine_conditions.csv"}
