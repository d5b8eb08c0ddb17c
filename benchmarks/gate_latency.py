"""The latencies that the promotion gate judges by, on an idle machine and beside busy loops: does load change a verdict?"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from support.evaluations import evaluated
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.serving import small_scorer

from ctcd.cli.output import table
from ctcd.model.scorer import Scorer
from ctcd.promotion.policy import load_policy

ROUNDS = 7
"""Measurements idle and busy; they alternate, so that both meet the same machine."""
ROWS = 600
"""Rows of the holdout."""
LOOPS_PER_CORE = 2


@dataclass(frozen=True, kw_only=True)
class LatencyResult:
    """One number that the gate could judge by.

    Args:
        number: what is measured.
        limit_ms: the policy's limit; None if it is disabled.
        idle_ms: median of the rounds on a machine that does nothing else.
        busy_ms: median of the rounds beside busy loops.
        times_idle: `busy_ms / idle_ms`.
        worst_times_idle: the same of the worst busy round.
    """

    number: str
    limit_ms: float | None
    idle_ms: float
    busy_ms: float
    times_idle: float
    worst_times_idle: float


class _Model:
    """What the gate calls: the frame of answers for a frame of rows."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        return self._scorer.predict(data).to_frame(data.index)


def run(_data: Path | None) -> list[LatencyResult]:
    """Measure alternately idle and beside two busy loops a core, as the gate does and by wall time."""
    model, holdout = _Model(small_scorer()), snapshot_frame(CONTRACT, rows=ROWS)
    speed = load_policy(INSTANCE).speed
    loops = LOOPS_PER_CORE * (os.cpu_count() or 1)
    idle, busy = [], []
    for _ in range(ROUNDS):
        idle.append(_measure(model, holdout))
        with _busy(loops):
            busy.append(_measure(model, holdout))
    limits = (speed.max_row_p95_ms, speed.max_batch_row_ms, speed.max_row_p95_ms)
    results = []
    for place, (number, limit) in enumerate(zip(_NUMBERS, limits, strict=True)):
        quiet, loaded = [each[place] for each in idle], [each[place] for each in busy]
        results.append(
            LatencyResult(
                number=number,
                limit_ms=limit if isinstance(limit, float) else None,
                idle_ms=median(quiet),
                busy_ms=median(loaded),
                times_idle=median(loaded) / median(quiet),
                worst_times_idle=max(loaded) / median(quiet),
            )
        )
    table(
        f"Latencies beside {loops} busy loops (baseline: the same without them); the last one is not the gate's",
        ("number", "limit ms", "idle ms", "busy ms", "times idle", "worst round"),
        [
            (
                each.number,
                each.limit_ms,
                round(each.idle_ms, 3),
                round(each.busy_ms, 3),
                round(each.times_idle, 2),
                round(each.worst_times_idle, 2),
            )
            for each in results
        ],
    )
    return results


_NUMBERS = ("one row, p95, as the gate", "a row of a batch, as the gate", "one row, p95 of wall time")


def _measure(model: _Model, holdout: pd.DataFrame) -> tuple[float, float, float]:
    """Return the numbers of `_NUMBERS`, milliseconds."""
    found = evaluated(model, holdout)
    rows = [holdout.iloc[[place]] for place in range(100)]
    walls = []
    for row in rows:
        began = time.perf_counter()
        model.predict(row)
        walls.append((time.perf_counter() - began) * 1_000)
    return found.row_p95_ms, found.batch_row_ms, float(np.percentile(walls, 95))


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    """Keep the processors busy with so many processes while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        time.sleep(0.5)  # until they have started
        yield
    finally:
        for each in processes:
            each.kill()
            each.wait()
