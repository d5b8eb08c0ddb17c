"""A day of a million predictions in MariaDB: how long `ctcd drift` reads and compares it, and in how much memory."""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
from sqlalchemy import insert, select
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.rows import plain_rows
from support.serving import small_scorer

from benchmarks.children import ended
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.model.reference import Reference, make_reference
from ctcd.monitoring.drift import ColumnDrift, write_drift
from ctcd.monitoring.periods import Period
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.store.engine import connect, reading, transaction
from ctcd.store.tables import build_tables

MILLION, CHUNK = 1_000_000, 20_000
DAY = date(2025, 9, 3)
GROUP = CONTRACT.group.name


@dataclass(frozen=True, kw_only=True)
class VolumeResult:
    """A day of a million predictions, read from a server on the same machine and compared.

    Args:
        seconds: wall time of the comparison.
        cpu_seconds: processor time of the process for it.
        server_cpu_seconds: that of the server.
        reading_seconds: wall time of reading the same rows and nothing else.
        peak_mib: peak resident memory of the process, MiB.
    """

    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    reading_seconds: float
    times_reading: float
    peak_mib: float


def run(_data: Path | None) -> list[Any]:
    """Fill the log, and compare it in a process of its own; on the contract of the tests."""
    with own_store(INSTANCE.migrations) as store:
        document = store.folder / "reference.json"
        frame = snapshot_frame(CONTRACT, rows=CHUNK)
        holdout = frame.iloc[: CHUNK // 5]
        scorer = small_scorer()
        reference = make_reference(scorer.encoder, [frame], holdout, scorer.predict(holdout), group=GROUP)
        document.write_bytes(reference.to_json())
        engine = connect(store.url)
        for rows in _logged():
            with transaction(engine) as connection:
                connection.execute(insert(build_tables(CONTRACT).predictions), rows)
        engine.dispose()
        child = ended(
            [sys.executable, "-m", "benchmarks.volume", str(document), str(store.server.process.pid)],
            {**os.environ, "FEATURE_STORE_URL": store.url},
        )
    result = VolumeResult(**json.loads(child.output), peak_mib=child.peak_mib)
    table(
        "A day of predictions in MariaDB (baseline: reading them)",
        ("rows", "s", "processor s", "of the server", "s reading", "times reading", "peak MiB"),
        [tuple(vars(result).values())],
    )
    return [result]


def _logged() -> Iterator[list[dict[str, Any]]]:
    frame = snapshot_frame(CONTRACT, rows=CHUNK, seed=6)
    answers = small_scorer().predict(frame)
    rows = plain_rows(frame, CONTRACT)
    noon = datetime.combine(DAY, datetime.min.time(), ZoneInfo("UTC")) + timedelta(hours=12)
    for start in range(0, MILLION, CHUNK):
        yield [
            {
                GROUP: start + number + 1,
                "features": row,
                "prediction": answers.classes[number],
                "confidence": answers.confidences[number],
                "probabilities": dict(zip(CONTRACT.classes, answers.probabilities[number], strict=True)),
                "elapsed_ms": 1.0,
                "created_at": noon,
                "request_id": f"{start + number}",
                "model_version": "1",
                "run_id": "run",
            }
            for number, row in enumerate(rows)
        ]


def _child(document: str, server: str) -> None:
    """Compare the day in this process, then read the same rows, and print what both took."""
    engine, reference = connect(os.environ["FEATURE_STORE_URL"]), Reference.from_json(Path(document).read_bytes())
    before, began = _cpu(server), time.monotonic()
    report = write_drift(
        engine,
        CONTRACT,
        DAY + timedelta(days=1),
        period=Period.DAILY,
        zone=ZoneInfo("UTC"),
        limits=load_tolerances(INSTANCE).drift,
        champion=None,
        find_reference=lambda _: reference,
        chunk_rows=CHUNK,
    )
    seconds, after = time.monotonic() - began, _cpu(server)
    began = time.monotonic()
    log = build_tables(CONTRACT).predictions
    with reading(engine) as connection:
        query = select(log.c.features, log.c.prediction, log.c.confidence)
        for _ in connection.execute(query, execution_options={"yield_per": CHUNK}).partitions():
            pass
    reading_seconds = time.monotonic() - began
    columns: tuple[ColumnDrift, ...] = report.columns
    sys.stdout.write(
        json.dumps(
            {
                "rows": columns[0].rows,
                "seconds": seconds,
                "cpu_seconds": after[0] - before[0],
                "server_cpu_seconds": after[1] - before[1],
                "reading_seconds": reading_seconds,
                "times_reading": seconds / reading_seconds,
            }
        )
    )


def _cpu(server: str) -> tuple[float, float]:
    """Return the processor time used so far by this process and by the server."""
    times = psutil.Process(int(server)).cpu_times()
    return time.process_time(), times.user + times.system


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])
