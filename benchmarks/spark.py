"""Batch scoring of one file in one process and on Spark with two executors of one core, on this machine.

It needs the extra `spark` and Java; `make bench PART=spark` sees to both.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from support.frames import clean_tables
from support.instance import CONTRACT, INSTANCE
from support.serving import origin, save_model, small_scorer

from ctcd.cli.output import out, table

SIZES = (1_000_000, 10_000_000)
TREES, CHUNK_ROWS, GROUP_ROWS, TILE_ROWS = 300, 20_000, 100_000, 20_000
KILL_AFTER = 14
"""Finished tasks after which an executor is killed, in one run more with the most rows."""
MASTER = "--master local-cluster[2,1,1024] pyspark-shell"
EXECUTOR, WORKER, PROCESS, SPARK = "CoarseGrainedExecutorBackend", "pyspark.daemon", "process", "spark"
CHECK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class SparkResult:
    """A Parquet file scored into Parquet, on the contract of the tests.

    Args:
        engine: process, or spark.
        rows: rows of the file.
        file_mb: its size in 1,000,000 bytes.
        killed_after: tasks that had finished when an executor was killed; None: none was.
        seconds: wall time, with the start.
        cpu_seconds: processor time of all processes; up to the last tenth of a second of each may be missing.
        again_seconds: wall time of the same command once more, which does nothing on Spark; None: not run.
        peak_mib: peak resident memory of the process itself, MiB; on Spark that of the driver's Python.
        driver_mib: that of the driver's JVM; 0 without Spark.
        executor_mib: that of the larger executor's JVM, likewise.
        worker_mib: that of the largest Python worker, likewise.
        rows_per_cpu_second: of the rows more than in the size before; None for the first, and if an executor was killed.
        start_cpu_seconds: processor time before the first row, by the same difference.
    """

    engine: str
    rows: int
    file_mb: float
    killed_after: int | None
    seconds: float
    cpu_seconds: float
    again_seconds: float | None
    peak_mib: float
    driver_mib: float
    executor_mib: float
    worker_mib: float
    rows_per_cpu_second: float | None = None
    start_cpu_seconds: float | None = None


def run(data: Path | None, sizes: Sequence[int] = SIZES) -> list[Any]:
    """Score files of these numbers of rows with both engines, and the largest once more with an executor killed."""
    del data  # rows in any number are always synthetic ones
    results: list[SparkResult] = []
    with tempfile.TemporaryDirectory(prefix="ctcd-spark-") as home:
        model = save_model(small_scorer(TREES), Path(home, "model"))
        for rows in sizes:
            source = _file(Path(home, f"{rows}.parquet"), rows)
            runs = [(PROCESS, None), (SPARK, None)] + ([(SPARK, KILL_AFTER)] if rows == sizes[-1] else [])
            for engine, kill_after in runs:
                before = [each for each in results if each.engine == engine and each.rows < rows]
                found = _measured(
                    engine, model, source, rows=rows, kill_after=kill_after, before=before[-1] if before else None
                )
                results.append(found)
                out.print(f"{rows:,} rows, {engine}: {found.seconds:.1f} s, {found.cpu_seconds:.1f} processor s")
            source.unlink()
    table(
        "Batch scoring of a Parquet file (baseline: one process)",
        ("engine", "rows", "killed after", "s", "processor s", "again, s", "MiB", "driver", "executor", "worker"),
        [
            (
                each.engine,
                each.rows,
                "" if each.killed_after is None else each.killed_after,
                round(each.seconds, 1),
                round(each.cpu_seconds, 1),
                "" if each.again_seconds is None else round(each.again_seconds, 1),
                *map(round, (each.peak_mib, each.driver_mib, each.executor_mib, each.worker_mib)),
            )
            for each in results
        ],
    )
    return list(results)


def _file(path: Path, rows: int) -> Path:
    """Write generated rows, repeated, in row groups."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    features, _ = clean_tables(CONTRACT, rows=TILE_ROWS)
    group = pa.Table.from_pandas(pd.concat([features] * (GROUP_ROWS // TILE_ROWS)), preserve_index=False)
    with pq.ParquetWriter(path, group.schema) as file:
        for start in range(0, rows, GROUP_ROWS):
            file.write_table(group.slice(0, rows - start))
    return path


def _measured(
    engine: str, model: Path, source: Path, *, rows: int, kill_after: int | None, before: SparkResult | None
) -> SparkResult:
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [sys.executable, "-m", "benchmarks.spark", engine, str(model), str(source), f"{folder}/out"]
        environment = os.environ | {"PYSPARK_SUBMIT_ARGS": MASTER, "SPARK_WORKER_DIR": f"{folder}/workers"}
        first = _Watched(command, environment, Path(folder), kill_after)
        again = None
        if engine == SPARK and kill_after is None:
            again = _Watched(command, environment, Path(folder), None).seconds
    started: dict[str, float] = {}
    if before and kill_after is None:
        a_row = (first.cpu_seconds - before.cpu_seconds) / (rows - before.rows)
        started = {"rows_per_cpu_second": 1 / a_row, "start_cpu_seconds": first.cpu_seconds - rows * a_row}
    return SparkResult(
        engine=engine,
        rows=rows,
        file_mb=source.stat().st_size / 1e6,
        killed_after=first.killed_after,
        seconds=first.seconds,
        cpu_seconds=first.cpu_seconds,
        again_seconds=again,
        **first.peaks,
        **started,
    )


class _Watched:
    """A command that is run to its end, with the processor time and the memory of all processes that it starts."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], folder: Path, kill_after: int | None
    ) -> None:
        self.killed_after: int | None = None
        self._cpu: dict[psutil.Process, float] = {}
        self.peaks = dict.fromkeys(("peak_mib", "driver_mib", "executor_mib", "worker_mib"), 0.0)
        began = time.monotonic()
        process = psutil.Popen(command, env=environment)
        while process.poll() is None:
            executors = self._look(process)
            done = len(list(folder.glob(".out.*/_part-*.json"))) if kill_after else 0
            if kill_after and done >= kill_after and executors and self.killed_after is None:
                executors[0].kill()
                self.killed_after = done
            time.sleep(CHECK_SECONDS)
        self.seconds, self.cpu_seconds = time.monotonic() - began, sum(self._cpu.values())
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} ended with exit code {process.returncode}")
        if kill_after and self.killed_after is None:
            raise RuntimeError("the run was over before an executor could be killed")

    def _look(self, process: psutil.Process) -> list[psutil.Process]:
        """Measure all processes that live now, and return the executors."""
        executors = []
        with suppress(psutil.Error):
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):
                    words = " ".join(each.cmdline())
                    times, mib = each.cpu_times(), each.memory_info().rss / 2**20
                    self._cpu[each] = times.user + times.system
                    if EXECUTOR in words:
                        executors.append(each)
                    kind = "executor" if EXECUTOR in words else "worker" if WORKER in words else "driver"
                    name = "peak_mib" if each.pid == process.pid else f"{kind}_mib"
                    self.peaks[name] = max(self.peaks[name], mib)
        return executors


def _child(engine: str, model: Path, source: Path, target: Path) -> None:
    """Score a file in this process, or from here on Spark, and print the report."""
    if engine == PROCESS:
        from ctcd.model.scorer import Scorer
        from ctcd.scoring.files import BatchScorer

        one = BatchScorer(Scorer.load(model), origin("1"), CONTRACT, chunk_rows=CHUNK_ROWS)
        report = one.score_file(source, target.with_suffix(".parquet"))
    else:
        from ctcd.scoring.spark import SparkScorer

        several = SparkScorer(model=model, instance=INSTANCE, origin=origin("1"), chunk_rows=CHUNK_ROWS)
        report = several.score_files(source, target)
    sys.stdout.write(f"{json.dumps({'rows': report.rows})}\n")


if __name__ == "__main__":
    _child(sys.argv[1], *map(Path, sys.argv[2:5]))
