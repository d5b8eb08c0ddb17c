"""Scoring a file or a table in batch."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.frames import clean_tables, snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.serving import origin, small_scorer

from ctcd.contract.spec import Contract, Kind, names
from ctcd.derived import synthetic
from ctcd.errors import CtcdError, DataRefused, UsageError
from ctcd.model.scorer import Scorer
from ctcd.scoring.files import BatchScorer
from ctcd.store import engine, migrations
from ctcd.store.ingest import ingest
from ctcd.store.rows import merged_keys
from ctcd.store.snapshot import take_snapshot

ROWS = 250


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture(scope="module")
def batch(scorer: Scorer) -> BatchScorer:
    return BatchScorer(scorer, origin("3"), CONTRACT, chunk_rows=100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    features, _ = clean_tables(CONTRACT, rows=ROWS)
    path = tmp_path / "rows.csv.gz"
    features.to_csv(path, index=False)
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet"])
def test_a_file_is_scored_as_the_model_scores_a_frame(
    batch: BatchScorer, scorer: Scorer, source: Path, tmp_path: Path, name: str
) -> None:
    """Each row of the file gets the model's class and probabilities, its keys, and nothing personal."""
    report = batch.score_file(source, tmp_path / name)
    result = read(tmp_path / name)
    frame = snapshot_frame(CONTRACT, rows=ROWS)
    expected = scorer.probabilities(frame)
    np.testing.assert_allclose(
        result[[f"probability_{label}" for label in CONTRACT.classes]].to_numpy(), expected, atol=1e-12
    )
    assert result["prediction"].tolist() == [CONTRACT.classes[index] for index in expected.argmax(axis=1)]
    assert result[CONTRACT.key.name].astype(int).tolist() == frame[CONTRACT.key.name].tolist()
    made = vars(origin("3"))
    assert {name: set(result[name].astype(str)) for name in made} == {name: {value} for name, value in made.items()}
    assert not set(result) & set(names(CONTRACT.personal))
    assert report.rows == ROWS
    assert sum(report.shares.values()) == pytest.approx(1)


@pytest.mark.slow
def test_scoring_twice_gives_the_same_file(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """A second run writes the same bytes."""
    batch.score_file(source, tmp_path / "out.csv")
    once = (tmp_path / "out.csv").read_bytes()
    batch.score_file(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == once


@pytest.mark.slow
def test_the_tables_of_the_store_are_scored(batch: BatchScorer, tmp_path: Path) -> None:
    """The feature table and the snapshot table can be scored by name; other tables cannot."""
    synthetic.write(CONTRACT, tmp_path / "raw", rows=ROWS, seed=0, end=date(2025, 8, 31), error_rate=0.0)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrations.upgrade(url, INSTANCE.migrations)
    store = engine.connect(url)
    ingest(store, CONTRACT, tmp_path / "raw", chunk_rows=1000)
    snapshot = take_snapshot(store, CONTRACT, date(2025, 8, 31), months=2, keep_days=7)
    for table, rows in ((CONTRACT.features_table, ROWS), (CONTRACT.snapshot_table, snapshot.rows)):
        assert batch.score_table(store, table, tmp_path / f"{table}.csv").rows == rows
        assert not set(read(tmp_path / f"{table}.csv")) & set(names(CONTRACT.personal))
    with pytest.raises(UsageError, match=CONTRACT.personal_table):
        batch.score_table(store, CONTRACT.personal_table, tmp_path / "personal.csv")
    store.dispose()


def edited(source: Path, *changes: tuple[int, str, str]) -> None:
    """Write values, by row and column, into a CSV file."""
    # "None" is the empty list of the contract, not a missing value.
    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    for row, column, value in changes:
        frame.loc[row, column] = value
    frame.to_csv(source, index=False)


@pytest.mark.slow
def test_all_rows_that_break_the_contract_are_rejected_at_once(
    batch: BatchScorer, source: Path, tmp_path: Path
) -> None:
    """Every broken rule is named with its rows, across chunks; the rows are in a file of their own, and nothing is scored."""
    bad = [
        (3, "grade", "Excellent"),
        (3, "hours", "many"),
        (120, "hours", ""),
        (220, "power", "0.5"),
        (221, "power", "0"),
    ]
    edited(source, *bad)
    with pytest.raises(DataRefused) as refusal:
        batch.score_file(source, tmp_path / "out.csv")
    message = str(refusal.value)
    assert "4 of 250 rows break the contract: power is below 1 (2 rows, first in line 222, 223)" in message
    assert "hours is not a number (1 row, first in line 5)" in message
    assert "hours is missing (1 row, first in line 122)" in message
    assert str(tmp_path / "out.csv.rejected.csv") in message
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "out.csv.rejected.csv"}
    rejected = pd.read_csv(tmp_path / "out.csv.rejected.csv", dtype=str, keep_default_na=False)
    assert rejected["line"].tolist() == ["5", "122", "222", "223"]
    assert rejected["reasons"].tolist()[1:] == ["hours is missing", "power is below 1", "power is below 1"]
    assert rejected["hours"].tolist()[:2] == ["many", ""]
    assert not set(rejected) & set(names(CONTRACT.personal))


@pytest.mark.slow
def test_corrected_rows_are_scored_and_no_longer_rejected(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """A later success removes the file of rejected rows; scores written before a refusal stay."""
    good = source.read_bytes()
    batch.score_file(source, tmp_path / "out.csv")
    scores = (tmp_path / "out.csv").read_bytes()
    edited(source, (7, "hours", "x"))
    with pytest.raises(DataRefused):
        batch.score_file(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == scores
    source.write_bytes(good)
    batch.score_file(source, tmp_path / "out.csv")
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "out.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("value", ["01.02.2025", "2025-01-15", "0012", "", "person 7"])
def test_columns_that_the_model_does_not_read_are_copied_unjudged(
    batch: BatchScorer, source: Path, tmp_path: Path, value: str
) -> None:
    """Keys appear in the output as they were written, whatever the contract says of them."""
    columns = names(CONTRACT.keys)
    edited(source, *((9, column, value) for column in (*columns, *names(CONTRACT.personal))))
    batch.score_file(source, tmp_path / "out.csv")
    result = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert [result[column][9] for column in columns] == [value] * len(columns)
    given = pd.read_csv(source, dtype=str, keep_default_na=False)
    assert result[columns].equals(given[columns])


def test_keys_that_a_spreadsheet_has_rounded_are_rejected(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """An exponent or a fraction may stand for several keys, so that nobody could say whose the prediction is."""
    key = next(each.name for each in CONTRACT.keys if each.kind is Kind.INTEGER)
    edited(source, (9, key, "2.6E+03"), (11, key, "2600.5"), (12, key, "2600.0"))
    with pytest.raises(DataRefused) as refusal:
        batch.score_file(source, tmp_path / "out.csv")
    assert f"{key} is written with an exponent (1 row, first in line 11)" in str(refusal.value)
    assert f"{key} is not a whole number (1 row, first in line 13)" in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "out.csv.rejected.csv"}


def test_rounded_keys_are_found_whatever_their_kind_and_decimal_mark() -> None:
    """A text key only where its pattern forbids such a value; digits too many for a float, and words, were not rounded."""
    number = next(each for each in CONTRACT.keys if each.kind is Kind.INTEGER)
    tag: dict[str, Any] = {
        "name": "tag",
        "kind": Kind.TEXT,
        "written": Kind.TEXT,
        "pattern": "[0-9]+",
        "max_length": 64,
    }
    text = replace(number, minimum=None, maximum=None, **tag)
    free = replace(text, name="note", pattern=None)
    ahead = replace(text, name="ahead", pattern="(?!0)[0-9]+")
    values = [
        "2,6E+03",
        "1e400",
        "4.929E+18",
        "2600,5",
        "9007199254740993",
        "2601.0",
        "person 7",
        "01.02.2025",
        "12E5",
        None,
    ]
    found = merged_keys(
        pa.table(dict.fromkeys((number.name, "tag", "note", "ahead"), values)),
        cast("Contract", SimpleNamespace(keys=(number, text, free, ahead))),
    )
    assert [(each.column, each.rule, each.rows.tolist()) for each in found] == [
        (name, rule, rows)
        for name in (number.name, "tag", "ahead")
        for rule, rows in (("is written with an exponent", [0, 1, 2, 8]), ("is not a whole number", [3]))
    ]


@pytest.mark.slow
def test_a_file_needs_the_model_inputs_only(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """Without keys each row of the output is the row of the input in the same place; nested and nameless columns do not matter."""
    frame = pd.read_csv(source, keep_default_na=False)[names(CONTRACT.model_inputs)]
    frame.assign(nested=pd.Series([[1]] * len(frame))).to_parquet(tmp_path / "in.parquet")
    assert batch.score_file(tmp_path / "in.parquet", tmp_path / "a.csv").rows == ROWS
    text = frame.to_csv(index=False).splitlines()
    (tmp_path / "in.csv").write_text("\n".join(f"{line},," for line in text))
    batch.score_file(tmp_path / "in.csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert read(tmp_path / "a.csv").columns[0] == "prediction"


def test_a_model_input_that_occurs_twice_is_refused(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """Which of the two is meant, nobody knows."""
    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    lines = frame.assign(again=frame["hours"]).rename(columns={"again": "hours"}).to_csv(index=False)
    (tmp_path / "in.csv").write_text(lines)
    with pytest.raises(DataRefused, match="the header has column 'hours' 2 times"):
        batch.score_file(tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("out", ["rows.csv.gz", "link.csv", "other.csv"])
def test_the_source_is_never_overwritten(batch: BatchScorer, source: Path, tmp_path: Path, out: str) -> None:
    """Neither the scores nor the rejected rows may replace the file that is read, under whatever name."""
    (tmp_path / "link.csv").symlink_to(source)
    if out == "other.csv":
        source = source.rename(tmp_path / "other.csv.rejected.csv")
    before = source.read_bytes()
    with pytest.raises(UsageError, match="would overwrite the source"):
        batch.score_file(source, tmp_path / out)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "reported"),
    [("", "header"), ("a,b\n1,2\n", "missing columns"), ("HEADER\n", "no rows"), ("HEADER\n1,2\n", "fields")],
)
def test_a_file_that_holds_no_such_rows_is_refused(
    batch: BatchScorer, tmp_path: Path, text: str, reported: str
) -> None:
    """An empty file, other columns, no rows and a short row each give their own error."""
    header = ",".join(names(CONTRACT.model_inputs))
    (tmp_path / "in.csv").write_text(text.replace("HEADER", header))
    with pytest.raises(CtcdError, match=reported):
        batch.score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_ending_or_a_missing_file_is_refused(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """Only CSV, CSV.gz and Parquet are read and written."""
    with pytest.raises(UsageError, match="no such file"):
        batch.score_file(tmp_path / "none.csv", tmp_path / "out.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="not a regular file"):
        batch.score_file(tmp_path / "pipe.csv", tmp_path / "out.csv")
    with pytest.raises(UsageError, match=r"\.parquet"):
        batch.score_file(source, tmp_path / "out.xlsx")
