"""Batch scoring on two executors: as one process scores, whatever happens to an executor."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update
from support.command import COMMAND
from support.frames import clean_tables
from support.instance import CONTRACT, INSTANCE
from support.raw import feature_row, label_row, write_tables
from support.serving import origin
from support.stores import TABLES, load, rows_of
from support.training import embedded, smoke_training

from ctcd.errors import Unreachable
from ctcd.model.scorer import Scorer
from ctcd.registry.versions import CHAMPION, Registry
from ctcd.scoring.files import BatchScorer
from ctcd.scoring.spark import Job, SparkScorer, Task
from ctcd.scoring.store import score_new
from ctcd.store.engine import connect
from ctcd.store.sources import Source

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]
ROWS = 3_000


def spark_of(model: Path, version: str = "3", task_rows: int = 500) -> SparkScorer:
    return SparkScorer(model=model, instance=INSTANCE, origin=origin(version), chunk_rows=200, task_rows=task_rows)


def rows_file(path: Path, copies: int = 1, bad: tuple[int, ...] = ()) -> Path:
    """Write generated rows, repeated, in row groups of 500; some of them with a number that is not allowed."""
    features, _ = clean_tables(CONTRACT, rows=ROWS)
    frame = pd.concat([features] * copies, ignore_index=True)
    frame.loc[list(bad), "power"] = -1
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=500)
    return path


def one_process(model: Path, version: str = "3") -> BatchScorer:
    return BatchScorer(Scorer.load(model), origin(version), CONTRACT, chunk_rows=20_000)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def executors() -> list[psutil.Process]:
    """Return the executors of this process's clusters."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any("CoarseGrainedExecutorBackend" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_file_is_scored_as_in_one_process_and_by_the_service(model_folder: Path, tmp_path: Path) -> None:
    """All columns are those of one process, and the probabilities those of the service's way to score, to 1e-9."""
    source = rows_file(tmp_path / "rows.parquet")
    report = spark_of(model_folder).score_files(source, tmp_path / "out")
    one_process(model_folder).score_file(source, tmp_path / "one.parquet")
    result, expected = pd.read_parquet(tmp_path / "out"), pd.read_parquet(tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(result, expected, rtol=0, atol=1e-9)
    assert (report.rows, report.rejected) == (ROWS, 0)
    part = next(one_process(model_folder).parts_of_file(Source("", source)))
    rows = part.inputs.astype(object).where(part.inputs.notna(), None).to_dict("records")
    plain = [{str(name): value for name, value in row.items()} for row in rows]
    np.testing.assert_allclose(
        result[[f"probability_{name}" for name in CONTRACT.classes]].to_numpy(),
        Scorer.load(model_folder).probabilities_of(plain),
        rtol=0,
        atol=1e-9,
    )


def test_bad_rows_are_rejected_with_their_reasons(model_folder: Path, tmp_path: Path) -> None:
    """Bad rows of several tasks are in one file with line and reason; all others are scored."""
    source = rows_file(tmp_path / "rows.parquet", bad=(3, 1_200, 2_999))
    report = spark_of(model_folder).score_files(source, tmp_path / "out")
    assert (report.rows, report.rejected) == (ROWS, 3)
    rejected = pd.read_csv(tmp_path / "out.rejected.csv")
    assert rejected["line"].tolist() == [4, 1_201, 3_000]
    assert rejected["reasons"].tolist() == ["power is below 1"] * 3
    assert len(pd.read_parquet(tmp_path / "out")) == ROWS - 3


def test_an_executor_may_be_killed(model_folder: Path, tmp_path: Path) -> None:
    """The other one, and the one that takes its place, do its work; a second run then changes nothing."""
    copies = 10
    source, total = rows_file(tmp_path / "rows.parquet", copies), copies * ROWS // 500
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            done = len(list(tmp_path.glob(".out.*/_part-*.json")))
            if done and (found := executors()):
                found[0].send_signal(signal.SIGKILL)
                killed.append(done)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    report = spark_of(model_folder).score_files(source, tmp_path / "out")
    killer.join()
    assert killed[0] < total, "the job was over before an executor was killed"
    assert report.rows == copies * ROWS
    one_process(model_folder).score_file(source, tmp_path / "one.parquet")
    result = pd.read_parquet(tmp_path / "out")
    pd.testing.assert_frame_equal(result, pd.read_parquet(tmp_path / "one.parquet"), rtol=0, atol=1e-9)
    before = contents(tmp_path / "out")
    assert spark_of(model_folder).score_files(source, tmp_path / "out") == report
    assert contents(tmp_path / "out") == before


def test_the_store_is_read_and_written(model_folder: Path, store_url: str, tmp_path: Path) -> None:
    """In MariaDB, new rows are scored once into its table as one process scores them, and a table becomes Parquet."""
    machines = 400
    features = [feature_row(number, machine=number, hours=1 + number % 24) for number in range(1, machines + 1)]
    store = connect(store_url)
    load(store, write_tables(tmp_path, features, [label_row(999, machine=999)]))
    key = TABLES.features.c[CONTRACT.key.name]
    with store.begin() as connection:
        connection.execute(update(TABLES.features).where(key == 7).values(power=-1))
    spark = spark_of(model_folder, task_rows=60)
    report = spark.score_new(store)
    assert (report.rows, report.quarantined) == (machines - 1, 1)
    rows = rows_of(store, TABLES.scores)
    one = origin("3", run_id="one")
    score_new(store, CONTRACT, Scorer.load(model_folder), one, chunk_rows=1_000)
    others = [row for row in rows_of(store, TABLES.scores) if row["run_id"] == "one"]
    assert [row[CONTRACT.key.name] for row in rows] == [row[CONTRACT.key.name] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row["prediction"] == other["prediction"]
        assert row["probabilities"] == pytest.approx(other["probabilities"], rel=0, abs=1e-9)
    reasons = [row["reasons"] for row in rows_of(store, TABLES.quarantine) if row["source"].startswith("run ")]
    assert reasons == [[{"column": "power", "value": "-1.0", "rule": "is below 1"}]] * 2  # of two runs
    with store.begin() as connection:
        connection.execute(update(TABLES.features).where(key == 7).values(power=100))
    assert spark.score_new(store).rows == 1
    assert spark.score_new(store).rows == 0
    spark.score_table(store, CONTRACT.features_table, tmp_path / "out")
    one_process(model_folder).score_table(store, CONTRACT.features_table, tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out"), pd.read_parquet(tmp_path / "one.parquet"), rtol=0, atol=1e-9
    )


def test_a_task_that_always_fails_ends_the_job(model_folder: Path) -> None:
    """A store that the executors cannot reach is one error of ours, after Spark has tried again."""
    spark = spark_of(model_folder)
    job = Job(origin=spark.origin, chunk_rows=10, store="mysql+pymysql://user:x@127.0.0.1:1/nowhere")
    with pytest.raises(Unreachable, match="the Spark job failed"):
        spark._run(job, [Task(number=0)], "rows scored")


def environment(home: Path, **more: str) -> dict[str, str]:
    settings = embedded(home)
    return os.environ | {
        "CTCD_HOME": str(home),
        "CTCD_CONTRACTS": str(INSTANCE.folder),
        "FEATURE_STORE_URL": settings.store_url,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        **more,
    }


def run_command(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    # In this folder, as paths in PYTHONPATH may be relative.
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command


def test_the_command_scores_with_the_champion(tmp_path: Path) -> None:
    """`ctcd predict --engine spark` scores with the registered model; without Java, one line says what is missing."""
    settings = embedded(tmp_path)
    trained = smoke_training(settings)
    registry = Registry.open(settings, CONTRACT)
    registry.client.set_registered_model_alias(CONTRACT.name, CHAMPION, registry.register(trained.run_id))
    source = rows_file(tmp_path / "rows.parquet")
    command = [str(COMMAND), "predict", str(source), "--engine", "spark", "--out", str(tmp_path / "out"), "--json"]
    run = run_command(command, environment(tmp_path))
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert (report["rows"], report["model_version"]) == (ROWS, "1")
    assert len(pd.read_parquet(tmp_path / "out")) == ROWS
    command[command.index(str(tmp_path / "out"))] = str(tmp_path / "other")
    without = environment(tmp_path, JAVA_HOME=str(tmp_path / "nowhere"))
    run = run_command(command, without)
    assert (run.returncode, run.stdout) == (2, "")
    assert "Spark cannot be started (PySparkRuntimeError)" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "other").exists()
