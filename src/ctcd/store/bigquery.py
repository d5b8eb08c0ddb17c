"""Loading exported days into a table of BigQuery: for each file a job that loads it, and one that merges it.

A file never changes, and its name says what it holds: the day, the number of its predictions and their highest id. The
ids of its jobs are made of that, and BigQuery takes an id once: a repeated export, or a second one at the same time,
starts nothing twice. After a job that failed, the next export takes other ids.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from ctcd.contract.spec import Contract
from ctcd.errors import Unreachable, UsageError
from ctcd.progress import Progress, silent
from ctcd.store.warehouse import ExportReport, address, bigquery_columns, merge_statement

RETRY_SECONDS = 120.0
"""Seconds for which a request is repeated that gets no answer, or an error of the server."""
REQUEST_SECONDS = 60.0
"""Timeout of a request in seconds."""
POLL_SECONDS = 2.0
"""Seconds between two questions whether a job has ended."""


def require_loadable(contract: Contract, folder: str) -> None:
    """Require that BigQuery can load what is exported to a folder.

    Raises:
        UsageError: the folder is not in Google Cloud Storage, it takes no column of such a name, or its package is not
            installed.
    """
    if urlsplit(folder).scheme not in ("gs", "gcs"):
        raise UsageError(
            "BigQuery loads from Google Cloud Storage only", where=folder, hint="such as gs://bucket/predictions"
        )
    bigquery_columns(contract)
    try:
        from google.cloud import bigquery  # noqa: F401 - whether it can be imported
    except ImportError as error:
        raise UsageError(
            "BigQuery needs the package google-cloud-bigquery", where="CTCD_BIGQUERY", hint="install ctcd[bigquery]"
        ) from error


def load_days(contract: Contract, report: ExportReport, table: str, *, progress: Progress = silent) -> ExportReport:
    """Load the exported days that a table of BigQuery lacks; return the report with `loaded` of each day.

    The table is made if it is missing, in a data set that is there, with a partition for each day of UTC. Each file is
    loaded into a table beside it; the predictions whose request id is new are added from there, and that table is dropped.

    Args:
        contract: the contract in force.
        report: the days, in a folder in Google Cloud Storage.
        table: `project.data_set.table`.
        progress: called with the number of days that are done.

    Raises:
        Unreachable: BigQuery does not answer, or a job failed. The files stay, and the next call loads what is missing.
    """
    from google.cloud import bigquery

    columns = bigquery_columns(contract)
    schema = [bigquery.SchemaField(name, kind) for name, kind in columns.items()]
    root = address(report.folder).replace("gcs://", "gs://", 1)
    days = []
    with _translated(table):
        client = bigquery.Client(project=table.partition(".")[0])
        wanted = bigquery.Table(table, schema)
        wanted.time_partitioning = bigquery.TimePartitioning(field="created_at")
        target = client.create_table(wanted, exists_ok=True, **_patience())
        for done, day in enumerate(report.days):
            progress("days loaded", done, len(report.days))
            files = (*day.earlier, day.file)
            new = [_Jobs(client, target, schema, f"{root}/{file}").load(list(columns)) for file in files]
            days.append(replace(day, loaded=any(new)))
    progress("days loaded", len(days), len(days))
    return replace(report, days=tuple(days))


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a file.

    Args:
        target: the table, as BigQuery has it.
        schema: its columns.
        uri: the file.
    """

    client: Any
    target: Any
    schema: list[Any]
    uri: str

    def load(self, columns: Sequence[str]) -> bool:
        """Load the file and merge it into the table; return whether there was something to do."""
        from google.cloud.bigquery import LoadJobConfig, SourceFormat, WriteDisposition

        table = self.target
        day, file = self.uri.removesuffix(".parquet").rsplit("/", 2)[1:]
        # A table that was dropped and made again is another one: its files are loaded again.
        which = sha256(f"{self.uri} {table.full_table_id} {table.created}".encode()).hexdigest()[:12]
        name = f"{day.removeprefix('day=')}-{file}-{which}"
        target = f"{table.project}.{table.dataset_id}.{table.table_id}"
        staging = f"{target}_loading_{name.replace('-', '_')}"
        merge = merge_statement([f"`{each}`" for each in columns], f"`{target}`", f"`{staging}`")
        config = LoadJobConfig(
            source_format=SourceFormat.PARQUET,
            schema=self.schema,
            write_disposition=WriteDisposition.WRITE_TRUNCATE,
        )
        for attempt in count():
            ids = [f"ctcd-{kind}-{name}-{attempt}" for kind in ("load", "merge")]
            loading, merging = map(self._find, ids)
            if any(job and job.error_result for job in (loading, merging)):
                continue  # their ids are used up
            if merging and merging.state == "DONE":
                return False
            if not merging:
                self._finish(
                    loading
                    or self._start(ids[0], self.client.load_table_from_uri, self.uri, staging, job_config=config)
                )
                merging = self._start(
                    ids[1], self.client.query, f"{merge}DROP TABLE IF EXISTS `{staging}`;\n", job_retry=None
                )
            self._finish(merging)
            break
        return True

    def _get(self, job_id: str) -> Any:
        return self.client.get_job(job_id, location=self.target.location, **_patience())

    def _find(self, job_id: str) -> Any:
        """Return a job, or None if there is none of this id."""
        from google.api_core.exceptions import NotFound

        try:
            return self._get(job_id)
        except NotFound:
            return None

    def _start(self, job_id: str, start: Callable[..., Any], *what: str, **how: Any) -> Any:
        """Start a job, unless there is one of this id, and return it."""
        from google.api_core.exceptions import Conflict

        try:
            return start(*what, job_id=job_id, location=self.target.location, **how, **_patience())
        except Conflict:  # another export was first, or the answer was lost and the request repeated
            return self._get(job_id)

    def _finish(self, job: Any) -> None:
        """Wait for the end of a job.

        Raises:
            Unreachable: it failed.
        """
        while not job.done(**_patience()):
            time.sleep(POLL_SECONDS)
        if job.error_result:
            raise Unreachable(
                f"job {job.job_id} failed: {job.error_result.get('reason')}",
                where=self.target.full_table_id,
                hint=f"bq show -j {job.project}:{job.location}.{job.job_id} shows why; export again: nothing is lost",
            )


def _patience() -> dict[str, Any]:
    """Return for how long a request is waited for and repeated."""
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return {"retry": DEFAULT_RETRY.with_timeout(RETRY_SECONDS), "timeout": REQUEST_SECONDS}


@contextmanager
def _translated(table: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        # What the cloud says may contain names and keys, so that only its kind is repeated.
        raise Unreachable(
            f"BigQuery does not answer, or refuses: {type(getattr(error, 'cause', None) or error).__name__}",
            where=table,
            hint="check data set, credentials and permissions, then export again: nothing is lost",
        ) from error
