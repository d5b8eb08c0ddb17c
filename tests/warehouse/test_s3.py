"""The prediction log in an S3 server, and from there, once, in a warehouse."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import fs
from support.stores import TABLES, count, rows_of
from support.warehouse import SECRET, Log, S3Server

from ctcd.store.engine import connect

pytestmark = [pytest.mark.warehouse, pytest.mark.timeout(600), pytest.mark.usefixtures("s3")]

LOG = TABLES.predictions.name
FOLDER = "s3://bucket/predictions"
EXPORT = ("export", FOLDER, "--base-dt", "2025-09-01", "--days", "2")


def objects() -> dict[str, Any]:
    """What is in the bucket, but for folders: time of the last change of each path."""
    files, _ = fs.FileSystem.from_uri(FOLDER)
    found = files.get_file_info(fs.FileSelector("bucket", recursive=True))
    return {each.path: each.mtime_ns for each in found if each.is_file}


def load(log: Log, folder: Path, database: duckdb.DuckDBPyConnection) -> list[str]:
    """Run the SQL that the command prints, and return the ids that the warehouse then holds.

    DuckDB reads a copy of the bucket: what reads S3 is an extension that its package does not contain.
    """
    files, root = fs.FileSystem.from_uri(FOLDER)
    fs.copy_files(root, str(folder), source_filesystem=files, destination_filesystem=fs.LocalFileSystem())
    done = log.command.run("export", FOLDER, "--sql", "duckdb")
    assert done.returncode == 0, done.stderr
    assert f"'{FOLDER}/{LOG}/day=*/*.parquet'" in done.stdout
    database.execute(done.stdout.replace(FOLDER, str(folder)))
    return [each for (each,) in database.table(LOG).project("request_id").order("request_id").fetchall()]


def test_each_prediction_arrives_once_however_often_it_is_exported(log: Log, tmp_path: Path) -> None:
    """By day; a day that is whole is not written again, one with a late prediction is, and neither is loaded twice."""
    database = duckdb.connect()
    first = log.command.report(*EXPORT)
    assert [(day["day"], day["rows"], day["written"]) for day in first["days"]] == [
        ("2025-08-30", 3, True),
        ("2025-08-31", 1, True),
    ]
    stored = objects()
    assert sorted(stored) == [f"bucket/predictions/{day['file']}" for day in first["days"]]
    assert [day["written"] for day in log.command.report(*EXPORT)["days"]] == [False, False]
    assert objects() == stored
    assert load(log, tmp_path / "first", database) == [f"request-{number}" for number in range(4)]
    log.add(4, datetime(2025, 8, 30, 13, tzinfo=UTC))
    late = log.command.report(*EXPORT)
    assert [(day["rows"], day["written"]) for day in late["days"]] == [(4, True), (1, False)]
    assert sorted(objects()) == [f"bucket/predictions/{day['file']}" for day in late["days"]]
    for again in ("second", "third"):
        assert load(log, tmp_path / again, database) == [f"request-{number}" for number in range(5)]
    logged = rows_of(connect(log.url), TABLES.predictions)
    kept = database.table(LOG).order("request_id").to_arrow_table().to_pylist()
    for name in ("request_id", "prediction", "confidence", "model_version", "run_id", "created_at"):
        assert [row[name] for row in kept] == [row[name] for row in logged], name


def test_a_server_that_is_away_loses_nothing(s3: S3Server, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so in a line and ends in exit code 6, no prediction is deleted, and the next export writes all."""
    s3.end()
    monkeypatch.setenv("CTCD_WAREHOUSE", FOLDER)
    monkeypatch.setenv("CTCD_LOG_KEEP_MONTHS", "2")
    for command in (EXPORT, ("retain",)):
        done = log.command.run(*command)
        assert (done.returncode, done.stdout) == (6, "")
        assert f"{FOLDER}: the warehouse's folder does not answer" in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stderr
    assert count(connect(log.url), TABLES.predictions) == 4
    s3.start()
    assert objects() == {}
    assert [day["written"] for day in log.command.report(*EXPORT)["days"]] == [True, True]
    assert len(objects()) == 2


def test_a_bucket_that_is_missing_is_not_made(log: Log) -> None:
    """A misspelt name is an error, and no bucket of that name is there afterwards."""
    done = log.command.run("export", "s3://buckett/predictions", *EXPORT[2:])
    assert done.returncode == 6
    assert "s3://buckett/predictions: the warehouse's folder does not answer" in " ".join(done.stderr.split())
    files, _ = fs.FileSystem.from_uri(FOLDER)
    assert [each.path for each in files.get_file_info(fs.FileSelector(""))] == ["bucket"]
