"""What the tasks of batch scoring on Spark do, and how their work is put together; Spark itself is in `tests/spark`."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, update
from support.frames import clean_tables
from support.instance import CONTRACT, INSTANCE
from support.serving import origin, save_model, small_scorer
from support.stores import TABLES, rows_of

from ctcd.derived import synthetic
from ctcd.errors import DataRefused, UsageError
from ctcd.model.probes import PROBES_FILE
from ctcd.model.scorer import Scorer
from ctcd.scoring.files import BatchScorer
from ctcd.scoring.spark import Job, SparkScorer, Task, _parquet_files, require_spark, run_task
from ctcd.scoring.store import Scored, score_new
from ctcd.store import engine, migrations
from ctcd.store.ingest import ingest
from ctcd.store.snapshot import take_snapshot

ROWS = 250
ROOT = Path(__file__).parents[3]


class InThisProcess(SparkScorer):
    """Runs the tasks one after the other: everything but the distribution."""

    done: ClassVar[list[int]] = []
    """Numbers of the tasks that were run; the fixture empties it."""

    def _run(self, job: Job, tasks: Sequence[Task], doing: str) -> Scored:
        del doing
        results = []
        for task in reversed(tasks):  # Spark promises no order
            results.append(run_task(job, self.model.parent, task))
            self.done.append(task.number)
        return sum(results, Scored())


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What executors get: the folders of a model and of the instance."""
    folder = tmp_path_factory.mktemp("shipped")
    save_model(small_scorer(), folder / "model")
    shutil.copytree(INSTANCE.folder, folder / "instance", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def spark(shipped: Path) -> InThisProcess:
    InThisProcess.done.clear()
    return InThisProcess(model=shipped / "model", instance=INSTANCE, origin=origin("3"), chunk_rows=40, task_rows=60)


@pytest.fixture(scope="module")
def batch(shipped: Path) -> BatchScorer:
    return BatchScorer(Scorer.load(shipped / "model"), origin("3"), CONTRACT, chunk_rows=100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 250 rows in row groups of 50."""
    features, _ = clean_tables(CONTRACT, rows=ROWS)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(features, preserve_index=False), path, row_group_size=50)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Engine:
    synthetic.write(CONTRACT, tmp_path / "raw", rows=ROWS, seed=0, end=date(2025, 8, 31), error_rate=0.0)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrations.upgrade(url, INSTANCE.migrations)
    found = engine.connect(url)
    ingest(found, CONTRACT, tmp_path / "raw", chunk_rows=1000)
    take_snapshot(found, CONTRACT, date(2025, 8, 31), months=2, keep_days=7)
    return found


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def with_bad_rows(source: Path, rows: Sequence[int], value: float = -1.0) -> None:
    """Write numbers that the contract does not allow into a file."""
    frame = pd.read_parquet(source)
    frame.loc[list(rows), "power"] = value
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), source, row_group_size=50)


@pytest.mark.slow
def test_a_file_is_scored_as_in_one_process(
    spark: InThisProcess, batch: BatchScorer, source: Path, tmp_path: Path
) -> None:
    """The parts hold the same rows in the same order, with equal values in all columns."""
    report = spark.score_files(source, tmp_path / "out")
    one = batch.score_file(source, tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), pd.read_parquet(tmp_path / "one.parquet"))
    assert (report.rows, report.rejected, report.shares) == (ROWS, 0, one.shares)
    assert len(spark.done) == 5
    assert not (tmp_path / "out.rejected.csv").exists()


def test_a_machine_that_computes_something_else_scores_nothing(
    spark: InThisProcess, shipped: Path, source: Path, tmp_path: Path
) -> None:
    """The libraries of every executor have to answer the model's probes as those did with which it was made."""
    there = shutil.copytree(shipped, tmp_path / "there")
    file = there / "model" / PROBES_FILE
    probes = json.loads(file.read_text())
    probes["probabilities"][-1] = probes["probabilities"][-1][::-1]
    file.write_text(json.dumps(probes))
    with pytest.raises(UsageError, match="does not answer its probes as it did"):
        replace(spark, model=there / "model").score_files(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_files_of_a_folder_are_one_source(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """Their rows follow each other in the order of their names, and so do the lines of rejected ones."""
    (tmp_path / "many").mkdir()
    shutil.copy(source, tmp_path / "many/a.parquet")
    with_bad_rows(source, [7])
    shutil.copy(source, tmp_path / "many/b.parquet")
    report = spark.score_files(tmp_path / "many", tmp_path / "out")
    assert (report.rows, report.rejected) == (2 * ROWS, 1)
    assert pd.read_csv(tmp_path / "out.rejected.csv")["line"].tolist() == [ROWS + 8]


@pytest.mark.slow
def test_a_second_run_changes_nothing_and_scores_nothing(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """The same content and model are known; another model, or other content, is scored anew."""
    first = spark.score_files(source, tmp_path / "out")
    before, tasks = files_of(tmp_path / "out"), len(spark.done)
    assert spark.score_files(source, tmp_path / "out") == first
    assert (files_of(tmp_path / "out"), len(spark.done)) == (before, tasks)
    again = replace(spark, origin=origin("4"))
    assert again.score_files(source, tmp_path / "out").model_version == "4"
    assert set(pd.read_parquet(tmp_path / "out")["model_version"]) == {"4"}
    with_bad_rows(source, [3])
    assert again.score_files(source, tmp_path / "out").rejected == 1
    assert len(pd.read_parquet(tmp_path / "out")) == ROWS - 1


@pytest.mark.slow
def test_a_killed_run_is_continued(
    spark: InThisProcess, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing appears under the name of a run that was killed; the next one scores only what is missing."""

    class Killed(BaseException):
        pass

    scored: list[int] = []

    def counted(self: BatchScorer, part: Any) -> pa.Table:
        scored.append(1)
        if len(scored) == 4:
            raise Killed
        return original(self, part)

    original = BatchScorer.scored
    monkeypatch.setattr(BatchScorer, "scored", counted)
    with pytest.raises(Killed):
        spark.score_files(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert spark.score_files(source, tmp_path / "out").rows == ROWS
    # Two chunks for each of the five tasks, the first of which had been finished, and the two of the killed one.
    assert len(scored) == 4 + 8
    assert len(pd.read_parquet(tmp_path / "out")) == ROWS
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"out"}


@pytest.mark.slow
def test_bad_rows_are_rejected_with_their_reasons(
    spark: InThisProcess, batch: BatchScorer, source: Path, tmp_path: Path
) -> None:
    """They are in the same file as those of one process would be; the others are scored as they would be without them."""
    batch.score_file(source, tmp_path / "one.parquet")
    good = pd.read_parquet(tmp_path / "one.parquet")
    with_bad_rows(source, [3, 120])
    report = spark.score_files(source, tmp_path / "out")
    assert (report.rows, report.rejected) == (ROWS, 2)
    result = pd.read_parquet(tmp_path / "out")
    pd.testing.assert_frame_equal(result, good.drop(index=[3, 120]).reset_index(drop=True))
    with pytest.raises(DataRefused):
        batch.score_file(source, tmp_path / "one.parquet")
    rejected = (tmp_path / "out.rejected.csv").read_text(encoding="utf-8")
    assert rejected == (tmp_path / "one.parquet.rejected.csv").read_text(encoding="utf-8")
    assert pd.read_csv(tmp_path / "out.rejected.csv")["reasons"].tolist() == ["power is below 1"] * 2


@pytest.mark.slow
def test_too_many_bad_rows_are_refused(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """More than the contract allows refuse all; they are in a file of their own, and what was there before stays."""
    with_bad_rows(source, [3])
    spark.score_files(source, tmp_path / "out")
    before, rejected = files_of(tmp_path / "out"), (tmp_path / "out.rejected.csv").read_bytes()
    with_bad_rows(source, range(50, 200))
    with pytest.raises(
        DataRefused, match=r"151 of 250 rows \(60.40%\) break the contract.*power is below 1 \(151.*refused.csv"
    ):
        spark.score_files(source, tmp_path / "out")
    assert files_of(tmp_path / "out") == before
    assert (tmp_path / "out.rejected.csv").read_bytes() == rejected
    assert len(pd.read_csv(tmp_path / "out.refused.csv")) == 151
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"out"}
    with_bad_rows(source, range(250), 100.0)
    assert spark.score_files(source, tmp_path / "out").rejected == 0
    assert not list(tmp_path.glob("out.*.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("table", [CONTRACT.features_table, CONTRACT.snapshot_table])
def test_a_table_is_scored_as_in_one_process(
    spark: InThisProcess, batch: BatchScorer, store: Engine, tmp_path: Path, table: str
) -> None:
    """Ranges of keys cover a table once; a second run gives the same."""
    for _ in range(2):
        report = spark.score_table(store, table, tmp_path / "out")
    one = batch.score_table(store, table, tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), pd.read_parquet(tmp_path / "one.parquet"))
    assert report.rows == one.rows


@pytest.mark.slow
def test_new_rows_are_scored_as_in_one_process(spark: InThisProcess, batch: BatchScorer, store: Engine) -> None:
    """Ranges of groups cover all of them once; a second run adds nothing, and a row of the run before is kept."""
    report = spark.score_new(store)
    assert len(set(spark.done)) > 1
    rows = rows_of(store, TABLES.scores)
    assert spark.score_new(store).rows == 0
    assert rows_of(store, TABLES.scores) == rows
    one = score_new(store, CONTRACT, batch.scorer, replace(origin("3"), run_id="one"), chunk_rows=100)
    others = [row for row in rows_of(store, TABLES.scores) if row["run_id"] == "one"]
    assert (report.rows, report.shares) == (one.rows, one.shares)
    ours = ("run_id", "scored_at")
    assert [{k: v for k, v in row.items() if k not in ours} for row in rows] == [
        {k: v for k, v in row.items() if k not in ours} for row in others
    ]


@pytest.mark.slow
def test_new_rows_that_break_the_contract_are_quarantined_once(
    spark: InThisProcess, batch: BatchScorer, store: Engine
) -> None:
    """They are in the quarantine table with their reasons, also after a second run; all others are scored."""
    score_new(store, CONTRACT, batch.scorer, replace(origin("3"), run_id="one"), chunk_rows=100)
    keys = [row[CONTRACT.key.name] for row in rows_of(store, TABLES.scores)]
    key = TABLES.features.c[CONTRACT.key.name]
    with store.begin() as connection:
        connection.execute(update(TABLES.features).where(key == keys[0]).values(power=-1))
    spark = replace(spark, chunk_rows=5)
    report = spark.score_new(store)
    assert (report.rows, report.quarantined) == (len(keys) - 1, 1)
    quarantined = rows_of(store, TABLES.quarantine)
    assert [(row["source"], row["reasons"], row["record"][CONTRACT.key.name]) for row in quarantined] == [
        (f"run {spark.origin.run_id}", [{"column": "power", "value": "-1.0", "rule": "is below 1"}], str(keys[0]))
    ]
    again = spark.score_new(store)
    assert (again.rows, again.quarantined) == (0, 1)
    assert rows_of(store, TABLES.quarantine) == quarantined
    scores = [row for row in rows_of(store, TABLES.scores) if row["run_id"] != "one"]
    assert [row[CONTRACT.key.name] for row in scores] == keys[1:]


@pytest.mark.slow
def test_folders_of_others_stay(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """Only what killed runs into this folder left is deleted: not a user's folder, nor that of a run into another one."""
    others = [tmp_path / name for name in (".out.backup", ".out.v2.0123456789abcdef", ".out.0123456789abcdef.mine")]
    own = [tmp_path / name for name in (".out.0123456789abcdef", ".out.table", ".out.0123456789abcdef.old")]
    spark.score_files(source, tmp_path / "out")
    with_bad_rows(source, [1])
    for folder in (*others, *own):
        folder.mkdir()
    spark.score_files(source, tmp_path / "out")
    assert [folder.name for folder in (*others, *own) if folder.exists()] == [folder.name for folder in others]


@pytest.mark.slow
def test_a_kill_between_two_renames_loses_no_predictions(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """What was there is put back by the next run, also if that one is refused."""
    spark.score_files(source, tmp_path / "out")
    before = files_of(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.0123456789abcdef.old")
    with_bad_rows(source, range(ROWS))
    with pytest.raises(DataRefused, match="250 of 250 rows"):
        spark.score_files(source, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["out/part-00001.parquet", "out.rejected.csv"])
def test_what_was_deleted_is_made_again(spark: InThisProcess, source: Path, tmp_path: Path, lost: str) -> None:
    """The same again changes nothing only if all of it is still there."""
    with_bad_rows(source, [1])
    first = spark.score_files(source, tmp_path / "out")
    (tmp_path / lost).unlink()
    assert replace(spark.score_files(source, tmp_path / "out"), seconds=first.seconds) == first
    assert (tmp_path / lost).is_file()
    assert len(pd.read_parquet(tmp_path / "out")) == ROWS - 1


@pytest.mark.slow
def test_a_task_without_a_part_is_not_done_again(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """A task whose rows are all rejected writes no part; the same again changes nothing all the same."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(source, folder / "a.parquet")
    bad = pd.read_parquet(source).head(1).assign(power=-1.0)
    bad.to_parquet(folder / "b.parquet", index=False)
    first = spark.score_files(folder, tmp_path / "out")
    before, tasks = files_of(tmp_path / "out"), len(spark.done)
    assert first.rejected == 1
    assert len(list((tmp_path / "out").glob("*.parquet"))) == tasks - 1
    assert spark.score_files(folder, tmp_path / "out") == first
    assert (files_of(tmp_path / "out"), len(spark.done)) == (before, tasks)


@pytest.mark.slow
def test_the_working_directory_can_be_the_folder(
    spark: InThisProcess, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out .` is the folder that one is in, with the rejected rows beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with_bad_rows(source, [1])
    assert spark.score_files(source, Path()).rejected == 1
    assert (tmp_path / "here" / "_SUCCESS").is_file()
    assert (tmp_path / "here.rejected.csv").is_file()


@pytest.mark.slow
def test_names_may_be_in_upper_case(spark: InThisProcess, batch: BatchScorer, source: Path, tmp_path: Path) -> None:
    """Files are told by the end of their names as in one process, whatever its case."""
    upper = source.rename(tmp_path / "ROWS.PARQUET")
    assert spark.score_files(upper, tmp_path / "out").rows == ROWS
    (tmp_path / "in").mkdir()
    upper = upper.rename(tmp_path / "in" / "ROWS.PARQUET")
    assert spark.score_files(upper.parent, tmp_path / "all").rows == ROWS
    for out in ("one.PARQUET", "one.CSV.GZ", "one.Csv"):
        assert batch.score_file(upper, tmp_path / out).rows == ROWS
    assert len(pd.read_parquet(tmp_path / "one.PARQUET")) == ROWS
    assert len(pd.read_csv(tmp_path / "one.CSV.GZ", compression="gzip")) == ROWS
    assert len(pd.read_csv(tmp_path / "one.Csv")) == ROWS


@pytest.mark.slow
def test_hidden_files_and_results_are_no_source(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """Of a folder only files count whose names begin with neither a dot nor an underscore."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.parquet", "._a.parquet", "_a.parquet"):
        shutil.copy(source, folder / name)
    for _ in range(2):  # the second time with the result of the first beside the source
        assert spark.score_files(folder, folder / "scores.parquet").rows == ROWS


def test_what_is_no_folder_of_predictions_stays(spark: InThisProcess, source: Path, tmp_path: Path) -> None:
    """A folder with something else in it is not replaced, and a source that Spark does not read is refused."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a folder of predictions"):
        spark.score_files(source, tmp_path / "out")
    with pytest.raises(UsageError, match="neither a Parquet file nor a folder"):
        spark.score_files(source.with_suffix(".csv"), tmp_path / "new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_folder_that_may_not_be_read_is_not_one_without_parquet_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told that, and not what Spark reads; root may read every folder."""
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, Mock(side_effect=PermissionError))
    with pytest.raises(PermissionError):
        _parquet_files(tmp_path)


@pytest.mark.parametrize("groups", [0, 1])
def test_a_source_without_rows_is_refused(spark: InThisProcess, source: Path, tmp_path: Path, groups: int) -> None:
    """A file without rows is refused, whether it has an empty row group or none, and nothing is left of it."""
    empty = pq.read_table(source).slice(0, 0)
    with pq.ParquetWriter(tmp_path / "empty.parquet", empty.schema) as file:
        for _ in range(groups):
            file.write_table(empty)
    with pytest.raises(DataRefused, match="there are no rows"):
        spark.score_files(tmp_path / "empty.parquet", tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_only_the_lock_of_spark_has_it() -> None:
    """Neither the images nor the environment for development install 450 MB that they do not use."""
    locks = [path.name for path in (ROOT / "requirements").glob("*.txt") if "\npyspark==" in path.read_text()]
    assert locks == ["spark.txt"]


def test_without_the_extra_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Spark the command names what to install."""
    monkeypatch.setitem(__import__("sys").modules, "pyspark", None)
    with pytest.raises(UsageError, match=r"pyspark is not installed \(install ctcd\[spark\]\)"):
        require_spark()
