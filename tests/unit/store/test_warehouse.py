"""Copies of the prediction log for a warehouse."""

import os
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, delete
from support.instance import CONTRACT, INSTANCE
from support.small_contracts import BARE, Small, write_instance
from support.stores import TABLES, rows_of

from ctcd.errors import Unreachable, UsageError
from ctcd.settings import Settings
from ctcd.stages import scoring
from ctcd.store import warehouse
from ctcd.store.prediction_log import LoggedPrediction, append
from ctcd.store.warehouse import Dialect, ExportReport, export_log, load_statements, require_exported

ZONE = ZoneInfo("Asia/Seoul")
DAYS = [date(2025, 8, 30), date(2025, 8, 31)]
MIDNIGHT = datetime(2025, 8, 31, tzinfo=ZONE)


def log(store: Engine, number: int, created_at: datetime, variant: str = "champion") -> None:
    made = LoggedPrediction(
        request_id=f"request-{number}",
        group=number,
        features={"text": 'it\'s "quoted"', "number": 1.5, "missing": None},
        prediction=CONTRACT.classes[number % 2],
        confidence=0.25 + number / 1_000,
        model_version="7",
        run_id="run 7",
        elapsed_ms=1.25,
        created_at=created_at,
        variant=variant,
    )
    append(store, CONTRACT, [made])


def export(store: Engine, folder: Path | str, days: list[date] = DAYS) -> ExportReport:
    return export_log(store, CONTRACT, days, str(folder), zone=ZONE, chunk_rows=2)


def loaded(folder: Path, *, times: int = 1, database: Any = None) -> list[dict[str, Any]]:
    """What a warehouse holds after the generated SQL has run."""
    database = database or duckdb.connect()
    for _ in range(times):
        database.execute(load_statements(CONTRACT, str(folder), "log", Dialect.DUCKDB))
    rows: list[dict[str, Any]] = database.sql("SELECT * FROM log ORDER BY request_id").to_arrow_table().to_pylist()
    return rows


@pytest.fixture
def filled(store: Engine) -> Engine:
    """Three predictions on one day, one of the first instant of the next."""
    for number, before in enumerate((3, 2, 1, 0)):
        log(store, number, MIDNIGHT - timedelta(microseconds=before))
    return store


@pytest.mark.slow
def test_every_field_of_every_prediction_arrives_once(filled: Engine, tmp_path: Path) -> None:
    """What is loaded, and loaded again, equals the log; a prediction at midnight is in the file of its own day only."""
    report = export(filled, tmp_path)
    assert [(day.day, day.rows, day.written) for day in report.days] == [
        ("2025-08-30", 3, True),
        ("2025-08-31", 1, True),
    ]
    assert [pq.read_metadata(tmp_path / day.file).num_rows for day in report.days] == [3, 1]
    found = loaded(tmp_path, times=2)
    expected = rows_of(filled, TABLES.predictions)
    assert len(found) == 4
    for row, logged in zip(found, expected, strict=True):
        for name, value in logged.items():
            if name == "id":
                continue
            if isinstance(value, dict):
                assert duckdb.execute("SELECT (?::JSON)->>'$.text'", [row[name]]).fetchone() == (value["text"],)
            elif isinstance(value, datetime):
                assert row[name].astimezone(UTC) == value
            else:
                assert row[name] == value, name


def test_a_day_is_written_again_only_if_predictions_have_come_since(filled: Engine, tmp_path: Path) -> None:
    """The late one is loaded, the others are not loaded twice, and one file a day stays."""
    first = export(filled, tmp_path)
    database = duckdb.connect()
    loaded(tmp_path, database=database)
    files = [(tmp_path / day.file).stat().st_mtime_ns for day in first.days]
    again = export(filled, tmp_path)
    assert [day.written for day in again.days] == [False, False]
    assert [(tmp_path / day.file).stat().st_mtime_ns for day in again.days] == files
    log(filled, 9, MIDNIGHT - timedelta(hours=1))
    later = export(filled, tmp_path)
    assert [(day.rows, day.written) for day in later.days] == [(4, True), (1, False)]
    assert sorted(path.name for path in tmp_path.rglob("day=*/*")) == sorted(Path(day.file).name for day in later.days)
    found = loaded(tmp_path, database=database)
    assert [row["request_id"] for row in found] == [f"request-{number}" for number in (0, 1, 2, 3, 9)]


def test_a_folder_that_fails_loses_nothing(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails in the middle of a file: no file has its name; the next export writes all."""

    class Failing(pq.ParquetWriter):  # type: ignore[misc] # pyarrow has no types
        def write_batch(self, batch: object) -> None:
            super().write_batch(batch)
            assert list(tmp_path.rglob("*.parquet")) == []  # if it were killed now
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ctcd.store.warehouse.pq.ParquetWriter", Failing)
        with pytest.raises(Unreachable, match="No space left on device"):
            export(filled, tmp_path)
    assert list(tmp_path.rglob("*.parquet")) == []
    export(filled, tmp_path)
    assert len(loaded(tmp_path)) == 4
    assert list(tmp_path.rglob("*.part")) == []


def test_a_day_without_predictions_has_no_file(store: Engine, tmp_path: Path) -> None:
    """An empty log leaves an empty folder."""
    assert export(store, tmp_path / "none").days == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("folder", ["nowhere://bucket", "http://127.0.0.1/x"])
def test_what_is_no_folder_is_refused(store: Engine, folder: str) -> None:
    """The error names it and shows an example."""
    with pytest.raises(UsageError, match="s3://bucket/predictions"):
        export(store, folder)


@pytest.mark.parametrize(
    ("table", "dialect"), [('a"; DROP TABLE b', Dialect.DUCKDB), ("log", Dialect.BIGQUERY), ("a.`b", Dialect.BIGQUERY)]
)
def test_a_name_that_is_none_is_refused(table: str, dialect: Dialect) -> None:
    """Nothing but a name comes into the SQL; BigQuery's has a data set."""
    with pytest.raises(UsageError, match="not a name of a table"):
        load_statements(CONTRACT, "x", table, dialect)


@pytest.mark.slow
def test_every_name_of_a_column_and_of_a_folder_is_quoted(filled: Engine, tmp_path: Path) -> None:
    """DuckDB takes all of them; BigQuery has no columns of such names, which is said, and another escape in texts."""
    folder = tmp_path / "it's [1] * ?"
    export(filled, folder)
    assert len(loaded(folder)) == 4
    group = ("int", "role=Role.GROUP, alias='quote\"d', minimum=1, maximum=99, example=7")
    small = Small(name="odd", columns={"g": group, **BARE.columns}, classes=BARE.classes)
    odd = write_instance(small, tmp_path / "contracts").contract
    duckdb.connect().execute(load_statements(odd, str(folder), "log", Dialect.DUCKDB).partition(";")[0])
    with pytest.raises(UsageError, match="BigQuery has no columns of such a name"):
        load_statements(odd, "gs://bucket", "data.log", Dialect.BIGQUERY)
    assert "'gs://it\\'s/" in load_statements(CONTRACT, "gs://it's", "data.log", Dialect.BIGQUERY)
    # pyarrow reads a URL, and the warehouse a name.
    escaped = "gs://anonymous@it%27s/me@home/a%20b/?retry_limit_seconds=9"
    assert "'gs://it\\'s/me@home/a b/" in load_statements(CONTRACT, escaped, "data.log", Dialect.BIGQUERY)


def test_only_what_an_earlier_export_wrote_is_removed(filled: Engine, tmp_path: Path) -> None:
    """Not the files of another model or of somebody else, one with more predictions, or one that is being written."""
    day = tmp_path / TABLES.predictions.name / "day=2025-08-30"
    day.mkdir(parents=True)
    (tmp_path / "other_log" / day.name).mkdir(parents=True)
    kept = [tmp_path / "other_log" / day.name / "1-1.parquet", day / "_SUCCESS", day / "9-2.parquet"]
    kept += [day / "2-2.parquet.0a1b2c3d.part"]
    gone = [day / "2-2.parquet", day / "1-1.parquet.00000000.part"]
    for path in (*kept, *gone):
        path.touch()
    long_ago = datetime.now(UTC).timestamp() - 90_000
    os.utime(gone[1], (long_ago, long_ago))
    export(filled, tmp_path)
    assert [path.exists() for path in kept] == [True] * 4
    assert [path.exists() for path in gone] == [False] * 2


def test_a_file_that_another_export_has_removed_is_no_error(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports at once both remove what is outdated."""
    export(filled, tmp_path)
    log(filled, 9, MIDNIGHT - timedelta(hours=1))
    write = warehouse._write

    def late(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type] # handed on
        for path in tmp_path.rglob("3-*.parquet"):
            path.unlink()

    monkeypatch.setattr(warehouse, "_write", late)
    assert [each.rows for each in export(filled, tmp_path).days] == [4, 1]


@pytest.mark.parametrize(
    ("folder", "rule"),
    [("{}", "loads from Google Cloud Storage only"), ("gs://bucket/predictions", r"install ctcd\[bigquery\]")],
)
def test_nothing_is_exported_that_bigquery_cannot_load(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, rule: str
) -> None:
    """Neither to another folder than one in its cloud, nor without its package: that is said before anything is written."""
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    monkeypatch.setattr(scoring, "open_store", lambda _: filled)
    settings = Settings(home=tmp_path, contracts=INSTANCE.folder, bigquery="project.data.log")
    with pytest.raises(UsageError, match=rule):
        scoring.export(settings, date(2025, 9, 1), folder.format(tmp_path / "exports"), days=2)
    assert not (tmp_path / "exports").exists()


def test_statements_for_bigquery_name_every_column() -> None:
    """They load all days into a table beside, and merge by request id."""
    text = load_statements(CONTRACT, "gs://bucket/predictions/", "data.log", Dialect.BIGQUERY)
    assert f"uris = ['gs://bucket/predictions/{TABLES.predictions.name}/day=*.parquet']" in text
    assert "MERGE INTO `data`.`log`" in text
    assert "FROM `data`.`log_loading`" in text
    assert "ON logged.request_id = exported.request_id" in text
    for column in TABLES.predictions.columns:
        assert (f"`{column.name}` " in text) is (column.name != "id")


def test_nothing_is_required_again_of_a_day_that_is_in_the_folder_as_a_whole(filled: Engine, tmp_path: Path) -> None:
    """Days before a time have to be there with all of their predictions; one that has come since is missed."""
    end = datetime.combine(date(2025, 9, 1), time(), ZONE)
    export(filled, tmp_path, DAYS[1:])
    with pytest.raises(UsageError, match="not in the warehouse: 3 predictions of 2025-08-30"):
        require_exported(filled, CONTRACT, end, str(tmp_path), zone=ZONE)
    export(filled, tmp_path)
    require_exported(filled, CONTRACT, end, str(tmp_path), zone=ZONE)
    log(filled, 9, MIDNIGHT)
    with pytest.raises(UsageError, match="not in the warehouse: 2 predictions of 2025-08-31"):
        require_exported(filled, CONTRACT, end, str(tmp_path), zone=ZONE)


def test_a_day_on_which_only_a_shadow_has_scored_is_not_required(store: Engine, tmp_path: Path) -> None:
    """It has no answers, so it is never exported, and would keep the log from getting smaller."""
    log(store, 1, MIDNIGHT, variant="shadow")
    require_exported(store, CONTRACT, MIDNIGHT + timedelta(days=1), str(tmp_path), zone=ZONE)
    log(store, 2, MIDNIGHT)
    with pytest.raises(UsageError, match="1 prediction of 2025-08-31"):
        require_exported(store, CONTRACT, MIDNIGHT + timedelta(days=1), str(tmp_path), zone=ZONE)


def test_a_day_of_which_the_log_has_lost_some_is_not_written_beside_the_whole(filled: Engine, tmp_path: Path) -> None:
    """A file with more predictions of the day stays the only one."""
    [whole, _] = export(filled, tmp_path).days
    with filled.begin() as connection:
        connection.execute(delete(TABLES.predictions).where(TABLES.predictions.c.request_id == "request-0"))
    assert export(filled, tmp_path).days[0] == replace(whole, written=False)
    assert [each.name for each in (tmp_path / whole.file).parent.iterdir()] == [Path(whole.file).name]


def test_a_file_with_rows_that_the_log_has_lost_stays_beside_later_ones(filled: Engine, tmp_path: Path) -> None:
    """Also once more predictions have come late than the log has lost: the warehouse gets all of them."""
    export(filled, tmp_path)
    with filled.begin() as connection:
        connection.execute(delete(TABLES.predictions).where(TABLES.predictions.c.request_id == "request-0"))
    for number in (7, 8):
        log(filled, number, MIDNIGHT - timedelta(microseconds=number))
    assert export(filled, tmp_path).days[0].written
    assert [row["request_id"] for row in loaded(tmp_path)] == [f"request-{number}" for number in (0, 1, 2, 3, 7, 8)]
    [again, _] = export(filled, tmp_path).days
    assert not again.written
    assert [Path(file).name for file in (*again.earlier, again.file)] == ["3-3.parquet", "4-6.parquet"]
