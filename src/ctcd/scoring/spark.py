"""Batch scoring on Apache Spark, which only distributes it: each task checks and scores its rows as one process does.

A task reads its rows itself, some row groups of a Parquet file or a range of keys of a table of the store, and writes
them itself. So neither rows nor predictions pass through Java, and no JDBC driver is needed.
"""

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from io import StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sqlalchemy import Column, ColumnElement, Engine, Table, func, select

from ctcd.contract.instance import Instance, load_instance
from ctcd.errors import CtcdError, DataRefused, Unreachable, UsageError
from ctcd.files import write_text
from ctcd.model.probes import verify_probes
from ctcd.model.scorer import PREDICTION, Scorer
from ctcd.model.served import Origin
from ctcd.progress import Progress, silent
from ctcd.scoring.files import BatchReport, BatchScorer, Part, Rejected, refused_file, rejected_file, writer
from ctcd.scoring.output_folder import OutputFolder
from ctcd.scoring.store import Scored, ScoringReport, report_of, score_range
from ctcd.store.engine import connect, reading
from ctcd.store.rows import require_few
from ctcd.store.sources import PARQUET, Source, suffix_of
from ctcd.store.tables import build_tables

TASK_ROWS = 250_000
"""Rows of a task, as far as row groups and keys divide them so: a minute of work that a lost executor costs at most."""
_SHIPPED = "ctcd-shipped"
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """Some rows of the source.

    Args:
        number: number of the task, from 0, which gives its file its name.
        file: the row groups of a file; None: rows of a table.
        low: smallest value of the column that divides the table; None: no bound.
        high: what all values of it are smaller than; None: no bound.
        before: number of the source's rows before these.
    """

    number: int
    file: Source | None = None
    low: Any = None
    high: Any = None
    before: int = 0

    def within(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """Return the conditions of the task's rows."""
        low = [] if self.low is None else [column >= self.low]
        return low if self.high is None else [*low, column < self.high]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the tasks of a run have in common.

    Args:
        table: the table to read; empty: files.
        store: URL of the store, with its password; empty: files only.
        staged: folder, shared by all machines, for the files of the tasks; None: the store's table of scores.
    """

    origin: Origin
    chunk_rows: int
    table: str = ""
    store: str = field(default="", repr=False)
    staged: Path | None = None


def run_task(job: Job, shipped: Path, task: Task) -> Scored:
    """Score the rows of a task, on whatever machine; repeated, also at the same time, it leaves the same.

    Raises:
        CtcdError: as for batch scoring in one process.
    """
    found, scorer = _load(shipped)
    contract, batch = found.contract, BatchScorer(scorer, job.origin, found.contract, chunk_rows=job.chunk_rows)
    if job.staged is None:
        store = connect(job.store)
        parts = score_range(store, contract, scorer, job.origin, chunk_rows=job.chunk_rows, within=task.within)
        return sum(parts, Scored())
    target = job.staged / f"part-{task.number:05}.parquet"
    done = _task_file(target, "json")
    if done.is_file():
        kept = json.loads(done.read_text(encoding="utf-8"))
        return Scored(**kept | {name: Counter(kept[name]) for name in ("counts", "reasons")})
    result, stream = Scored(), StringIO(newline="")
    rejected = Rejected(stream)
    with ExitStack() as stack:
        parts_of: Iterator[Part]
        if task.file is not None:
            parts_of = (replace(part, lines=part.lines + task.before) for part in batch.parts_of_file(task.file))
        else:
            table = build_tables(contract).metadata.tables[job.table]
            connection = stack.enter_context(reading(connect(job.store)))
            within = task.within(_divided_by(table))
            parts_of = batch.parts_of_table(connection, table, 0, *within, before=task.before)
        write = None
        for part in parts_of:
            rejected.add(part)
            scored = batch.scored(part)
            if scored.num_rows:
                write = write or stack.enter_context(writer(target))
                write(scored)
            result += Scored(rows=len(part.lines), counts=Counter(scored[PREDICTION].to_pylist()))
    if rejected.rows:
        write_text(_task_file(target, "csv"), stream.getvalue())
    result += Scored(rejected=rejected.rows, reasons=rejected.reasons.counts)
    write_text(done, json.dumps(vars(result)))  # last: what has it is complete
    return result


def _task_file(target: Path, suffix: str) -> Path:
    """Return the path of a task's report, or of its rejected rows, which no reader of Parquet folders takes for a part."""
    return target.with_name(f"_{target.stem}.{suffix}")


def _collect(parts: Sequence[Path], path: Path) -> None:
    """Write the rejected rows of all tasks, of which there are some, to one file."""
    files = [file for part in parts if (file := _task_file(part, "csv")).is_file()]
    texts = [file.read_text(encoding="utf-8").partition("\n") for file in files]
    write_text(path, "".join([f"{texts[0][0]}\n", *(rows for _, _, rows in texts)]))


def _divided_by(table: Table) -> Column[Any]:
    """Return the column whose ranges divide a table: the first of its primary key, so that a range is read by the key."""
    return next(iter(table.primary_key.columns))


@lru_cache(maxsize=1)  # a worker process of Spark runs one task after the other
def _load(shipped: Path) -> tuple[Instance, Scorer]:
    """Return the instance and the scorer that were shipped, once this machine's libraries reproduce the probes."""
    found = load_instance(shipped / "instance")
    scorer = Scorer.load(shipped / "model")
    verify_probes(scorer, shipped / "model")
    return found, scorer


@dataclass(frozen=True, kw_only=True)
class SparkScorer:
    """Scores rows with one version of a model on Spark; its files have to be on paths that all its machines share.

    Args:
        model: folder of the scorer, with its probes.
        instance: its contract is in force, and its folder goes to the executors with the scorer.
    """

    model: Path
    instance: Instance
    origin: Origin
    chunk_rows: int
    progress: Progress = silent
    task_rows: int = TASK_ROWS

    def score_files(self, source: Path, out: Path) -> BatchReport:
        """Score a Parquet file, or all in a folder in the order of their names, into a folder of Parquet files.

        Rows that break the contract are written to `<out>.rejected.csv` with their line and reasons, or to
        `<out>.refused.csv` if they are too many; lines count through the files. The same content, model and contract
        again changes nothing; after a run that was killed, what its finished tasks wrote is used.

        Raises:
            UsageError: the source does not exist, the folder holds something else, or Spark cannot be started.
            DataRefused: a file cannot be read or lacks a column, there are no rows, or more of them break the contract
                than that allows.
            Unreachable: the job failed.
        """
        files = [Source("", each) for each in _parquet_files(source.resolve())]
        contents = [file.sha256 for file in files]
        version = self.instance.contract.version
        identity = sha256(json.dumps([contents, vars(self.origin), version, self.task_rows]).encode()).hexdigest()
        return self._into_folder(str(source), Job(**self._common), list(self._of_files(files)), out, identity)

    def score_table(self, store: Engine, table: str, out: Path) -> BatchReport:
        """Score all rows of the feature table or the snapshot table; otherwise as `score_files`, but always anew.

        Raises:
            UsageError, DataRefused: as for `score_files`.
            Unreachable: the store does not answer, or the job failed.
        """
        found = build_tables(self.instance.contract).metadata.tables[table]
        job = Job(**self._common, table=table, store=_absolute(store))
        return self._into_folder(table, job, self._of_column(store, _divided_by(found)), out, "")

    def score_new(self, store: Engine) -> ScoringReport:
        """Score the newest features of each group that this model has not scored yet, into a table of the store.

        See `ctcd.scoring.store.score_range`: what is there already stays, so that a run that was killed is continued.

        Raises:
            DataRefused: a larger share of all newest rows breaks the contract than that allows.
            Unreachable: the store does not answer, or the job failed.
            UsageError: Spark cannot be started.
        """
        contract = self.instance.contract
        job = Job(**self._common, store=_absolute(store))
        features = build_tables(contract).features
        scored = self._run(job, self._of_column(store, features.c[contract.group.name]), "rows scored")
        return report_of(store, scored, contract, contract.classes, self.origin)

    @property
    def _common(self) -> dict[str, Any]:
        return {"origin": self.origin, "chunk_rows": self.chunk_rows}

    def _of_files(self, files: Sequence[Source]) -> Iterator[Task]:
        number = before = 0
        for file in files:
            if not file.rows:  # which refuses what is no Parquet file
                continue
            metadata = pq.read_metadata(file.path)
            start = rows = 0
            for group in range(metadata.num_row_groups):
                rows += metadata.row_group(group).num_rows
                last = group + 1 == metadata.num_row_groups
                if last or rows + metadata.row_group(group + 1).num_rows > self.task_rows:
                    part = replace(file, groups=range(start, group + 1))
                    yield Task(number=number, file=part, before=before)
                    number, start, rows = number + 1, group + 1, 0
            before += metadata.num_rows

    def _of_column(self, store: Engine, column: Column[Any]) -> list[Task]:
        """Divide a table by the values of a column, of which none is in two tasks."""
        values = select(column.label("value"), func.count().label("rows")).group_by(column).subquery("by_value")
        before = func.sum(values.c.rows).over(order_by=values.c.value) - values.c.rows
        ranked = select(values.c.value, values.c.rows, (before // self.task_rows).label("task")).subquery("ranked")
        query = select(func.min(ranked.c.value).label("low"), func.sum(ranked.c.rows).label("rows"))
        with reading(store) as connection:
            found = connection.execute(query.group_by(ranked.c.task).order_by(ranked.c.task)).all()
        lows = [row.low for row in found]
        sums = [0, *accumulate(int(row.rows) for row in found)]
        # Without bounds at both ends, as rows may come while this runs.
        return [
            Task(number=number, low=low if number else None, high=high, before=before)
            for number, (low, high, before) in enumerate(zip(lows, [*lows[1:], None], sums, strict=False))
        ]

    def _into_folder(self, source: str, job: Job, tasks: list[Task], out: Path, identity: str) -> BatchReport:
        began, folder = time.monotonic(), OutputFolder(out, identity)
        staged = folder.staged
        with folder.claimed():
            if done := folder.finished():
                return done
            folder.begin()
            scored = self._run(replace(job, staged=staged), tasks, f"predict {source}")
            parts = [staged / f"part-{task.number:05}.parquet" for task in tasks]
            if absent := [part.name for part in parts if not _task_file(part, "json").is_file()]:
                raise UsageError(
                    f"the executors wrote {len(absent)} of {len(parts)} parts elsewhere",
                    where=str(out),
                    hint="give a folder that all machines share",
                )
            try:
                self._reject(parts, scored, source, out)
            except DataRefused:
                shutil.rmtree(staged)
                raise
            report = BatchReport(
                source=source,
                out=str(out),
                rows=scored.rows,
                rejected=scored.rejected,
                shares=scored.shares(self.instance.contract.classes),
                model_version=self.origin.model_version,
                seconds=time.monotonic() - began,
            )
            for part in parts:
                for suffix in ("json", "csv"):
                    _task_file(part, suffix).unlink(missing_ok=True)
            folder.finish(report, parts)
        return report

    def _reject(self, parts: Sequence[Path], scored: Scored, source: str, out: Path) -> None:
        """Collect the rejected rows of all tasks in one file, and refuse them if they are too many.

        Those of a run that is refused get a file of their own: the predictions that are there keep theirs.
        """
        if not scored.rows:
            raise DataRefused("there are no rows", where=source, hint="give rows to score")
        path, refused = rejected_file(out.resolve()), refused_file(out.resolve())
        hint = f"nothing was written; correct the rows, which are in {refused}"
        try:
            require_few(scored.rejected, scored.rows, scored.why, self.instance.contract, where=source, hint=hint)
        except DataRefused:
            _collect(parts, refused)
            raise
        refused.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if scored.rejected:
            _collect(parts, path)

    def _run(self, job: Job, tasks: Sequence[Task], doing: str) -> Scored:
        from py4j.protocol import Py4JError
        from pyspark import SparkFiles
        from pyspark.errors import PySparkException

        if not tasks:
            return Scored()

        with tempfile.TemporaryDirectory() as scratch, _context(f"{self.instance.contract.name}: {doing}") as context:
            context.addArchive(f"{self._archive(Path(scratch))}#{_SHIPPED}")
            rows = context.accumulator(0)

            def run(task: Task) -> Scored | CtcdError:
                try:
                    scored = run_task(job, Path(SparkFiles.get(_SHIPPED)), task)
                except Unreachable:
                    raise  # Spark tries it again
                except CtcdError as error:
                    return error
                rows.add(scored.rows)
                return scored

            with ThreadPoolExecutor(1) as pool:
                job_done = pool.submit(context.parallelize(tasks, len(tasks)).map(run).collect)
                while wait([job_done], _PROGRESS_SECONDS).not_done:
                    self.progress(doing, rows.value, None)
            try:
                results = job_done.result()
            except (PySparkException, Py4JError) as error:
                raise Unreachable("the Spark job failed", where=doing, hint="see the logs of its executors") from error
        for result in results:
            if isinstance(result, CtcdError):
                raise result
        total = sum(results, Scored())
        self.progress(doing, total.rows, total.rows)
        return total

    def _archive(self, scratch: Path) -> Path:
        """Return an archive of what the executors need beside their packages: the scorer and the instance."""
        shutil.copytree(self.model, scratch / _SHIPPED / "model")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.instance.folder, scratch / _SHIPPED / "instance", ignore=ignored)
        return Path(shutil.make_archive(str(scratch / _SHIPPED), "zip", scratch / _SHIPPED))


def require_spark() -> None:
    """Check that Spark is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import_module("pyspark")
        import_module("py4j")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed", where="--engine spark", hint="install ctcd[spark]"
        ) from error


@contextmanager
def _context(name: str) -> Iterator[Any]:
    """Yield the connection to the cluster that Spark's own configuration names, by default to this machine's cores."""
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException

    settings = SparkConf().setAppName(name).set("spark.log.level", "ERROR").set("spark.ui.showConsoleProgress", "false")
    try:
        context = SparkContext(conf=settings)
    except (PySparkException, Py4JError) as error:
        raise UsageError(
            f"Spark cannot be started ({type(error).__name__})",
            where="--engine spark",
            hint="it needs Java 17, and a cluster that answers; see docs/spark.md",
        ) from error
    # Executors run the same interpreter, from the same image or on the same machine, unless Spark is told another one.
    if context.pythonExec == "python3":  # Spark's default; PYSPARK_PYTHON takes precedence
        context.pythonExec = context.getConf().get("spark.pyspark.python", sys.executable)
    try:
        yield context
    finally:
        context.stop()


def _parquet_files(source: Path) -> list[Path]:
    found = [source]
    if source.is_dir():  # hidden files and those with an underscore are no data, as for all readers of such folders
        files = [each for each in sorted(source.iterdir()) if not each.name.startswith((".", "_"))]
        found = [each for each in files if each.is_file() and suffix_of(each) == PARQUET]
    if not found or not all(each.is_file() and suffix_of(each) == PARQUET for each in found):
        raise UsageError(
            "is neither a Parquet file nor a folder with some", where=str(source), hint="Spark reads Parquet files"
        )
    return found


def _absolute(store: Engine) -> str:
    """Return the URL of a store for a process in another working directory; contains the password."""
    url = store.url
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).resolve()))
    return url.render_as_string(hide_password=False)
