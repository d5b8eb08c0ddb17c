"""Scoring a file or a table in batch."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.frames import clean_tables, snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.serving import small_scorer

from ctcd.contract.spec import names
from ctcd.derived import synthetic
from ctcd.errors import CtcdError, DataRefused, UsageError
from ctcd.model.scorer import Scorer
from ctcd.scoring.files import BatchScorer
from ctcd.store import engine, migrations
from ctcd.store.ingest import ingest
from ctcd.store.snapshot import take_snapshot

ROWS = 250


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture(scope="module")
def batch(scorer: Scorer) -> BatchScorer:
    return BatchScorer(scorer, "3", CONTRACT, chunk_rows=100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    features, _ = clean_tables(CONTRACT, rows=ROWS)
    path = tmp_path / "rows.csv.gz"
    features.to_csv(path, index=False)
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


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
    assert result[CONTRACT.key.name].tolist() == frame[CONTRACT.key.name].tolist()
    assert set(result["model_version"].astype(str)) == {"3"}
    assert not set(result) & set(names(CONTRACT.personal))
    assert report.rows == ROWS
    assert sum(report.shares.values()) == pytest.approx(1)


def test_scoring_twice_gives_the_same_file(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """A second run writes the same bytes."""
    batch.score_file(source, tmp_path / "out.csv")
    once = (tmp_path / "out.csv").read_bytes()
    batch.score_file(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == once


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


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("grade", "Excellent", "grade"),
        ("hours", "many", "hours"),
        ("hours", "", "hours"),
        ("power", "0.5", "power"),
    ],
)
def test_a_bad_row_refuses_the_whole_file(  # noqa: PLR0917 - fixtures and cases
    batch: BatchScorer, source: Path, tmp_path: Path, column: str, value: str, told: str
) -> None:
    """A row that breaks the contract is named, and no output file remains."""
    # "None" is the empty list of the contract, not a missing value.
    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    frame.loc[220, column] = value
    frame.to_csv(source, index=False)
    with pytest.raises(DataRefused, match=told):
        batch.score_file(source, tmp_path / "out.csv")
    assert {path.name for path in tmp_path.iterdir()} == {source.name}


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "header"), ("a,b\n1,2\n", "missing columns"), ("HEADER\n", "no rows"), ("HEADER\n1,2\n", "fields")],
)
def test_a_file_that_holds_no_such_rows_is_refused(batch: BatchScorer, tmp_path: Path, text: str, told: str) -> None:
    """An empty file, other columns, no rows and a short row each give their own error."""
    header = ",".join((CONTRACT.group.name, *names(CONTRACT.model_inputs)))
    (tmp_path / "in.csv").write_text(text.replace("HEADER", header))
    with pytest.raises(CtcdError, match=told):
        batch.score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_ending_or_a_missing_file_is_refused(batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """Only CSV, CSV.gz and Parquet are read and written."""
    with pytest.raises(UsageError, match="no such file"):
        batch.score_file(tmp_path / "none.csv", tmp_path / "out.csv")
    with pytest.raises(UsageError, match=r"\.parquet"):
        batch.score_file(source, tmp_path / "out.xlsx")
