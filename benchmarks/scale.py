"""From raw tables to a promoted model with more and more rows: how processor time and memory grow."""

import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.children import ended
from ctcd.cli.output import out, table
from ctcd.settings import Settings, load_settings

SIZES = (20_000, 200_000, 2_000_000, 5_000_000)
STAGES: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "{folder}", "--rows", "{rows}"),
    "migrate": ("migrate",),
    "ingest": ("ingest", "{folder}"),
    "snapshot": ("snapshot", "--months", "9"),  # all rows: the generator spreads them over eight months
    "validate": ("validate",),
    "train": ("train", "--profile", "baseline"),
    "gate": ("gate",),
    "promote": ("promote",),
}


@dataclass(frozen=True, kw_only=True)
class ScaleResult:
    """One stage with one number of rows, in a process of its own, on SQLite.

    Args:
        rows: rows of each raw table.
        cpu_seconds: processor time.
        peak_mib: peak resident memory, MiB; not below that of the benchmark itself, which starts the stage.
        time_exponent: growth of the processor time since the size before: 1 is in proportion to the rows. None for the
            first size.
        memory_exponent: the same of the memory.
    """

    stage: str
    rows: int
    cpu_seconds: float
    peak_mib: float
    time_exponent: float | None = None
    memory_exponent: float | None = None


def run(data: Path | None, sizes: Sequence[int] = SIZES) -> list[Any]:
    """Run every stage with each number of rows."""
    del data  # rows in any number are always synthetic ones
    results: list[ScaleResult] = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="ctcd-scale-") as home:
            settings = load_settings().model_copy(
                update={"home": Path(home), "feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
            )
            for stage, command in STAGES.items():
                results.append(_measured(stage, command, rows, settings))
                out.print(f"{rows:,} rows, {stage}: {results[-1].cpu_seconds:.1f} s, {results[-1].peak_mib:.0f} MiB")
    results = with_exponents(results)
    table(
        "Rows of each raw table (baseline: the size before; an exponent of 1 is growth in proportion)",
        ("stage", "rows", "processor s", "exponent", "peak MiB", "exponent"),
        [
            (
                each.stage,
                each.rows,
                round(each.cpu_seconds, 1),
                _shown(each.time_exponent),
                round(each.peak_mib),
                _shown(each.memory_exponent),
            )
            for each in results
        ],
    )
    return list(results)


def with_exponents(results: Iterable[ScaleResult]) -> list[ScaleResult]:
    """Return results by stage and rows, with their growth since the size before."""
    found: list[ScaleResult] = []
    for each in sorted(results, key=lambda result: (list(STAGES).index(result.stage), result.rows)):
        complete = each
        if found and (before := found[-1]).stage == each.stage:
            rows = math.log(each.rows / before.rows)
            complete = replace(
                each,
                time_exponent=math.log(each.cpu_seconds / before.cpu_seconds) / rows,
                memory_exponent=math.log(each.peak_mib / before.peak_mib) / rows,
            )
        found.append(complete)
    return found


def _measured(stage: str, command: tuple[str, ...], rows: int, settings: Settings) -> ScaleResult:
    words = [word.format(folder=settings.home / "raw", rows=rows) for word in command]
    child = ended([str(Path(sys.executable).with_name("ctcd")), *words], settings.child_environment())
    return ScaleResult(stage=stage, rows=rows, cpu_seconds=child.cpu_seconds, peak_mib=child.peak_mib)


def _shown(exponent: float | None) -> str:
    return "" if exponent is None else f"{exponent:.2f}"
