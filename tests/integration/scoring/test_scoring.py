"""Batch scoring within the store, in both databases."""

from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from support.instance import CONTRACT
from support.raw import feature_row, label_row, write_tables
from support.serving import origin, small_scorer
from support.small_contracts import BARE, write_instance
from support.stores import TABLES, count, load, rows_of

from ctcd.contract.spec import names
from ctcd.derived import synthetic
from ctcd.errors import DataRefused, Unreachable
from ctcd.model.scorer import Scorer
from ctcd.scoring.store import score_new, score_range
from ctcd.settings import Settings
from ctcd.stages.scoring import predict_new
from ctcd.store import migrations
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture
def store(each_store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Three machines; the first one has two months."""
    engine = connect(each_store_url)
    features = [
        feature_row(1, machine=1, day="2025-07-31", hours=30),
        feature_row(2, machine=1, day="2025-08-31", hours=31),
        feature_row(3, machine=2, day="2025-07-15"),
        feature_row(4, machine=3, day="2025-08-02"),
    ]
    load(engine, write_tables(tmp_path_factory.mktemp("raw"), features, [label_row(9, machine=9)]))
    return engine


def test_the_newest_row_of_each_group_is_scored_once(store: Engine, scorer: Scorer) -> None:
    """Each machine's newest month is scored, in chunks, as the model scores it; the next run finds nothing to do."""
    seen: list[tuple[str, int, int | None]] = []
    made = origin("7")
    report = score_new(store, CONTRACT, scorer, made, chunk_rows=2, progress=lambda *now: seen.append(now))
    assert report.rows == 3
    assert seen == [("rows scored", 2, 3), ("rows scored", 3, 3)]
    assert sum(report.shares.values()) == pytest.approx(1)
    rows = rows_of(store, TABLES.scores)
    assert [row[CONTRACT.key.name] for row in rows] == [2, 3, 4]
    features = {row[CONTRACT.key.name]: row for row in rows_of(store, TABLES.features)}
    for row in rows:
        inputs = {name: features[row[CONTRACT.key.name]][name] for name in names(CONTRACT.model_inputs)}
        expected = scorer.probabilities_of([inputs])[0]
        assert row["confidence"] == pytest.approx(expected.max(), abs=1e-9)
        assert row["prediction"] == CONTRACT.classes[int(expected.argmax())]
        assert row["probabilities"] == dict(zip(CONTRACT.classes, expected.tolist(), strict=True))
        assert {name: row[name] for name in vars(made)} == vars(made)
    assert score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=2).rows == 0
    assert rows_of(store, TABLES.scores) == rows


def test_new_rows_and_new_versions_are_scored(
    store: Engine, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A new month of a machine, and a new version, are scored; what was scored stays as history."""
    score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=10)
    newer = write_tables(
        tmp_path_factory.mktemp("more"),
        [feature_row(5, machine=2, day="2025-08-20")],
        [label_row(9, machine=9)],
    )
    load(store, newer)
    assert score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=10).rows == 1
    assert score_new(store, CONTRACT, scorer, origin("8"), chunk_rows=10).rows == 3
    found = {(row[CONTRACT.key.name], row["model_version"]) for row in rows_of(store, TABLES.scores)}
    assert found == {(2, "7"), (3, "7"), (4, "7"), (5, "7"), (2, "8"), (4, "8"), (5, "8")}


def test_another_model_with_the_same_version_is_scored(store: Engine, scorer: Scorer) -> None:
    """A registered model that was made again begins at version 1 again: its model scores what the old one has scored."""
    for run_id in ("", "old", "new"):  # as a release that did not record it would have left them, then two models
        assert score_new(store, CONTRACT, scorer, replace(origin("1"), run_id=run_id), chunk_rows=10).rows == 3
        assert score_new(store, CONTRACT, scorer, replace(origin("1"), run_id=run_id), chunk_rows=10).rows == 0
    found = {(row[CONTRACT.key.name], row["run_id"]) for row in rows_of(store, TABLES.scores)}
    assert found == {(key, run_id) for key in (2, 3, 4) for run_id in ("", "old", "new")}


def test_a_killed_run_is_continued(store: Engine, scorer: Scorer) -> None:
    """A run killed after a chunk keeps that chunk; the next run scores the rest."""

    class Killed(BaseException):
        pass

    def kill(task: str, done: int, total: int | None) -> None:
        raise Killed(f"{task}: {done} of {total}")

    with pytest.raises(Killed):
        score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=2, progress=kill)
    assert len(rows_of(store, TABLES.scores)) == 2
    assert score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=2).rows == 1


def test_the_share_of_bad_rows_is_that_of_all_newest_rows(store: Engine, scorer: Scorer) -> None:
    """Too many are refused; rows that were scored before are no reason to refuse a run that has little left to do."""
    with store.begin() as connection:
        connection.execute(update(TABLES.features).where(TABLES.features.c[CONTRACT.key.name] == 2).values(power=-1))
    for _ in range(2):
        with pytest.raises(DataRefused, match=r"1 of 3 rows \(33\.33%\)"):
            score_new(store, CONTRACT, scorer, origin("7"), chunk_rows=2)
    assert [row[CONTRACT.key.name] for row in rows_of(store, TABLES.scores)] == [3, 4]
    tolerant = replace(CONTRACT, max_quarantine_share=0.34)
    report = score_new(store, tolerant, scorer, origin("7"), chunk_rows=2)
    assert (report.rows, report.quarantined) == (0, 1)


def test_what_is_ingested_meanwhile_hides_no_row(
    store: Engine, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A rejected row that is replaced while a run is under way does not make that run leave out another one."""
    with store.begin() as connection:
        connection.execute(update(TABLES.features).where(TABLES.features.c[CONTRACT.key.name] == 2).values(power=-1))
    newer = write_tables(
        tmp_path_factory.mktemp("more"), [feature_row(5, machine=1, day="2025-09-30")], [label_row(9, machine=9)]
    )
    parts = score_range(store, CONTRACT, scorer, origin("7"), chunk_rows=1)
    assert next(parts).rejected == 1
    load(store, newer)
    assert [part.rejected for part in parts] == [0, 0, 0]
    assert [row[CONTRACT.key.name] for row in rows_of(store, TABLES.scores)] == [3, 4, 5]


@pytest.mark.parametrize("server", [False, True])
def test_rows_without_a_key_that_are_replaced_meanwhile_get_no_scores(
    server: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Their numbers are those of other rows now: the run ends, and the next one scores all that is there."""
    instance = write_instance(BARE, tmp_path / "contracts")
    url = request.getfixturevalue("empty_store_url") if server else f"sqlite:///{tmp_path / 'store.db'}"
    migrations.upgrade(url, instance.migrations)
    store, contract = connect(url), instance.contract
    for seed in (1, 2):
        synthetic.write(contract, tmp_path / str(seed), rows=50, seed=seed, end=date(2025, 8, 31), error_rate=0)
    replace_by = partial(ingest, store, contract, chunk_rows=100, replace=True)
    rows = replace_by(tmp_path / "1").tables[0].written
    scorer = small_scorer(contract=contract)
    parts = score_range(store, contract, scorer, origin("7"), chunk_rows=10)
    assert next(parts).rows == 10
    replace_by(tmp_path / "2")
    with pytest.raises(Unreachable, match="replaced while they were scored"):
        next(parts)
    assert count(store, build_tables(contract).scores) == 0
    assert score_new(store, contract, scorer, origin("7"), chunk_rows=10).rows == rows


def test_without_a_champion_nothing_is_scored(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without a champion the stage reports no rows, which is not an error."""
    report = predict_new(Settings(home=tmp_path_factory.mktemp("home")))
    assert (report.model_version, report.rows) == (None, 0)
