"""Exported days in BigQuery, each prediction once.

BigQuery cannot be had here. Its own client runs against a server on the loopback that plays the answers which the reference
of its REST API documents (`support.bigquery`): what is tested is what is asked, in which order, and how often, not the SQL.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete
from support.bigquery import LOCATION, BigQuery, credentials, serving
from support.instance import CONTRACT
from support.stores import TABLES
from support.warehouse import Log

from ctcd.errors import Unreachable
from ctcd.store import bigquery as loading
from ctcd.store.bigquery import load_days, require_loadable
from ctcd.store.engine import connect, transaction
from ctcd.store.warehouse import ExportReport, export_log

pytestmark = [pytest.mark.warehouse, pytest.mark.timeout(600)]

TABLE, FOLDER, LOG = "project.data.log", "gs://bucket/predictions", TABLES.predictions.name
LATE = datetime(2025, 8, 30, 13, tzinfo=UTC)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BigQuery]:
    """BigQuery with a data set and no table, and what Google's own tools need to use it."""
    bigquery = BigQuery()
    with serving(bigquery):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{bigquery.port}")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials(tmp_path, bigquery.port)))
        monkeypatch.setattr(loading, "RETRY_SECONDS", 0.1)
        yield bigquery


class Exports:
    """Exports of a log of four predictions on two days, to a folder that stands for a bucket."""

    def __init__(self, log: Log, folder: Path) -> None:
        self.log, self.folder = log, folder

    def files(self) -> ExportReport:
        """Export, without loading."""
        days = [date(2025, 8, 30), date(2025, 8, 31)]
        store = connect(self.log.url)
        report = export_log(store, CONTRACT, days, str(self.folder), zone=ZoneInfo("UTC"), chunk_rows=10)
        store.dispose()
        return replace(report, folder="gcs://anonymous@bucket/predict%69ons/")  # as pyarrow reads a URL, too

    def load(self) -> list[bool | None]:
        """Export and load; return for each day whether it was loaded."""
        require_loadable(CONTRACT, FOLDER)
        return [day.loaded for day in load_days(CONTRACT, self.files(), TABLE).days]


@pytest.fixture
def exports(log: Log, tmp_path: Path) -> Exports:
    """A log, and a folder for its exports."""
    return Exports(log, tmp_path / "bucket")


def test_each_file_is_loaded_and_merged_once(cloud: BigQuery, exports: Exports) -> None:
    """A load and a merge for each day; a repeated export asks for nothing new, one with a late prediction for its day only."""
    assert exports.load() == [True, True]
    files = [f"{FOLDER}/{day.file}" for day in exports.files().days]
    loads, merges = cloud.started("load"), cloud.started("query")
    assert [each["sourceUris"] for each in loads] == [[file] for file in files]
    assert {each["sourceFormat"] for each in loads} == {"PARQUET"}
    assert {each["writeDisposition"] for each in loads} == {"WRITE_TRUNCATE"}
    assert cloud.tables["log"]["timePartitioning"] == {"type": "DAY", "field": "created_at"}
    names = [column.name for column in TABLES.predictions.columns if column.name != "id"]
    for schema in (cloud.tables["log"]["schema"], *(each["schema"] for each in loads)):
        assert [field["name"] for field in schema["fields"]] == names
    tables = [each["destinationTable"]["tableId"] for each in loads]
    assert len(set(tables)) == 2
    for table, merge in zip(tables, merges, strict=True):
        assert table.startswith("log_loading_2025_08_3")
        assert "MERGE INTO `project.data.log` AS logged" in merge["query"]
        assert f"FROM `project.data.{table}`" in merge["query"]
        assert merge["query"].endswith(f"DROP TABLE IF EXISTS `project.data.{table}`;\n")
        assert merge["useLegacySql"] is False
    done = list(cloud.jobs)
    assert exports.load() == [False, False]
    assert list(cloud.jobs) == done
    exports.log.add(4, LATE)
    assert exports.load() == [True, False]
    assert [each["sourceUris"] for each in cloud.started("load")[2:]] == [
        [f"{FOLDER}/{LOG}/day=2025-08-30/4-5.parquet"]
    ]
    assert exports.load() == [False, False]


def test_a_killed_load_is_continued_where_it_ended(cloud: BigQuery, exports: Exports) -> None:
    """After the load of a day, before its merge: only the merge is started, and it has the id that it would have had."""
    exports.load()
    done = set(cloud.jobs)
    [last] = [job for job in cloud.jobs if job.startswith("ctcd-merge-2025-08-31")]
    del cloud.jobs[last]
    assert exports.load() == [False, True]
    assert set(cloud.jobs) == done
    assert len(cloud.started("load")) == 2


@pytest.mark.parametrize("kind", ["load", "query"])
def test_a_failed_job_loses_nothing(cloud: BigQuery, exports: Exports, kind: str) -> None:
    """The error names the job and what shows why; the file stays, and the next export loads it with other ids, once."""
    cloud.failing[kind] = "invalid"
    with pytest.raises(Unreachable) as failed:
        exports.load()
    job = list(cloud.jobs)[-1]
    assert f"project:data.log: job {job} failed: invalid" in str(failed.value)
    assert f"bq show -j project:{LOCATION}.{job}" in str(failed.value)
    assert "schema" not in str(failed.value)
    assert [day.written for day in exports.files().days] == [False, False]
    assert exports.load() == [True, True]
    again = [each for each in cloud.jobs if each.endswith("-1")]
    assert [each.partition("-2025-08-30-3-3-")[0] for each in again] == ["ctcd-load", "ctcd-merge"]
    done = list(cloud.jobs)
    assert exports.load() == [False, False]
    assert list(cloud.jobs) == done


def test_two_exports_at_once_share_their_jobs(cloud: BigQuery, exports: Exports) -> None:
    """A job that another export started in the meantime, or whose answer was lost, is waited for, not started again."""
    exports.load()
    done = list(cloud.jobs)
    cloud.unseen = 2
    assert exports.load() == [True, False]
    assert list(cloud.jobs) == done
    assert cloud.unseen == 0


def test_a_table_that_was_made_again_is_filled_again(cloud: BigQuery, exports: Exports) -> None:
    """Its files were loaded into another one."""
    exports.load()
    del cloud.tables["log"]
    assert exports.load() == [True, True]
    assert len(cloud.jobs) == 8


def test_files_with_rows_that_the_log_has_lost_are_loaded(cloud: BigQuery, exports: Exports) -> None:
    """Also if they were exported before anything was loaded."""
    first = exports.files()
    store = connect(exports.log.url)
    with transaction(store) as connection:
        connection.execute(delete(TABLES.predictions).where(TABLES.predictions.c.request_id == "request-0"))
    store.dispose()
    for number in (7, 8):
        exports.log.add(number, LATE + timedelta(minutes=number))
    assert exports.load() == [True, True]
    sources = [uri for each in cloud.started("load") for uri in each["sourceUris"]]
    assert sources[:2] == [f"{FOLDER}/{LOG}/day=2025-08-30/{name}.parquet" for name in ("3-3", "4-6")]
    assert sources[2:] == [f"{FOLDER}/{first.days[1].file}"]


def test_a_warehouse_that_is_away_loses_nothing(cloud: BigQuery, exports: Exports) -> None:
    """The error says so, and that nothing is lost; the next export loads all."""
    cloud.away = True
    with pytest.raises(
        Unreachable, match=r"project\.data\.log: BigQuery does not answer, or refuses: ServiceUnavailable"
    ):
        exports.load()
    cloud.away = False
    assert exports.load() == [True, True]


def test_credentials_that_are_missing_are_an_error(
    cloud: BigQuery, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked, and the error says what to check."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(Unreachable, match=r"DefaultCredentialsError .*credentials"):
        exports.load()
    assert cloud.requests == []
