"""Run the benchmarks, show them as tables and keep the results."""

import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import (
    airflow_overhead,
    alone,
    audit,
    cache,
    capacity,
    disk,
    faults,
    gate_latency,
    hostile,
    ingest,
    memory,
    monitoring,
    patterns,
    pipeline,
    scale,
    serving,
    spark,
    traffic,
    validation,
    variants,
    volume,
)
from ctcd.cli.output import out, table

RESULTS = Path(__file__).parent / "results"

Data = Annotated[
    Path | None, typer.Option("--data", exists=True, file_okay=False, help="Folder of raw tables; default: synthetic.")
]


def run_pipeline(data: Path | None) -> list[Any]:
    """Both profiles from ingest to promoted model."""
    results = [pipeline.run(data, profile) for profile in ("fast", "full")]
    table(
        "From ingest to promoted model (baseline: CatBoost's own fits, one after the other)",
        ("data", "profile", "rows", "trials", "total s", "fit s", "total / fit", "peak MiB", "accuracy", "macro F1"),
        [
            (
                each.data,
                each.profile,
                each.rows,
                each.trials,
                round(each.total_seconds, 1),
                round(each.fit_seconds, 1),
                round(each.total_seconds / each.fit_seconds, 2),
                round(each.peak_mib),
                each.accuracy,
                each.macro_f1,
            )
            for each in results
        ],
    )
    stages = list(results[0].seconds)
    table(
        "Seconds of each stage",
        ("profile", *stages),
        [(each.profile, *(round(each.seconds[stage], 2) for stage in stages)) for each in results],
    )
    return results


def run_validation(data: Path | None) -> list[Any]:
    """Contract validation of a million synthetic rows against pandas reading the same file."""
    del data  # a million rows are always synthetic ones
    results = validation.run()
    table(
        "Contract validation (baseline: pandas reads the same file)",
        ("file", "rows", "pandas rows/s", "pandas MiB", "validated rows/s", "MiB", "times pandas"),
        [
            (
                each.file,
                each.rows,
                round(each.pandas_rows_per_second),
                round(each.pandas_peak_mib),
                round(each.rows_per_second),
                round(each.peak_mib),
                round(each.times_pandas, 2),
            )
            for each in results
        ],
    )
    return list(results)


PARTS: dict[str, Callable[[Path | None], list[Any]]] = {
    "pipeline": run_pipeline,
    "validation": run_validation,
    "serving": serving.run,
    "alone": alone.run,
    "hostile": hostile.run,
    "faults": faults.run,
    "disk": disk.run,
    "audit": audit.run,
    "variants": variants.run,
    "cache": cache.run,
    "patterns": patterns.run,
    "gate": gate_latency.run,
    "monitoring": monitoring.run,
    "volume": volume.run,
    "traffic": traffic.run,
    "capacity": capacity.run,
    "scale": scale.run,
    "memory": memory.run,
    "ingest": ingest.run,
    "spark": spark.run,
    "airflow": airflow_overhead.run,
}
SIZED: dict[str, Callable[[Path | None, Sequence[int]], list[Any]]] = {
    "scale": scale.run,
    "memory": memory.run,
    "ingest": ingest.run,
    "spark": spark.run,
}
"""Parts whose numbers of rows can be chosen."""
MARIADB = {
    *("airflow", "alone", "audit", "capacity", "disk", "faults", "ingest", "patterns", "serving", "variants", "volume")
}
NEEDED = {
    "wrk": ({"alone", "capacity", "patterns", "serving", "variants"}, "sudo apt-get install wrk"),
    "mariadbd": (MARIADB, "scripts/ensure-mariadb.sh"),
    "redis-server": ({"cache"}, "scripts/ensure-redis.sh"),
}
"""The programs that parts start: in which parts, and what installs it."""


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Which: {', '.join(PARTS)}; default: all but spark.")
    ] = None,
    data: Data = None,
    rows: Annotated[
        list[int] | None, typer.Option("--rows", min=1_000, help=f"Sizes for {', '.join(SIZED)}; default: their own.")
    ] = None,
) -> None:
    """Run benchmarks; each result is a ratio against a baseline of the same run."""
    chosen = parts or [name for name in PARTS if name != "spark"]  # which needs packages of its own
    for part in chosen:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r} is none of {', '.join(PARTS)}")
    for program, (users, install) in NEEDED.items():
        # Debian puts servers where only root's PATH leads.
        if users.intersection(chosen) and not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            raise typer.BadParameter(f"{program} is missing: {install}")
    for part in chosen:
        results = SIZED[part](data, sorted(rows)) if rows and part in SIZED else PARTS[part](data)
        RESULTS.mkdir(exist_ok=True)
        document = {
            "part": part,
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "results": [asdict(each) for each in results],
        }
        path = RESULTS / f"{part}.json"
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        out.print(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    typer.run(main)
