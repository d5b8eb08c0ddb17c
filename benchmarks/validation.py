"""Contract validation of a large snapshot file against plain pandas reading the same file."""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.children import ended

CHUNK_ROWS = 50_000
SUFFIXES = (".parquet", ".csv")
_TILE_ROWS = 20_000
_DAY = date(2025, 8, 31)


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """One file format; each number is of a process of its own, interpreter and imports left out of the times.

    Args:
        file: ending of the file.
        rows: rows of the file.
        pandas_seconds: pandas reads the whole file: the baseline.
        pandas_rows_per_second: rows that it reads in a second.
        pandas_peak_mib: its peak resident memory, MiB.
        seconds: validation reads the file in chunks and holds every row against the contract.
        rows_per_second: rows that it validates in a second.
        peak_mib: its peak resident memory, MiB.
        times_pandas: `seconds` as a multiple of `pandas_seconds`.
    """

    file: str
    rows: int
    pandas_seconds: float
    pandas_rows_per_second: float
    pandas_peak_mib: float
    seconds: float
    rows_per_second: float
    peak_mib: float
    times_pandas: float


def run(rows: int = 1_000_000) -> list[ValidationResult]:
    """Write a snapshot of so many synthetic rows in each format, and measure both ways of reading it."""
    results = []
    with tempfile.TemporaryDirectory(prefix="ctcd-bench-") as folder:
        for suffix in SUFFIXES:
            path = Path(folder) / f"snapshot{suffix}"
            _measure("write", path, rows)
            plain, plain_mib = _measure("pandas", path, rows)
            ours, ours_mib = _measure("validate", path, rows)
            path.unlink()
            results.append(
                ValidationResult(
                    file=suffix,
                    rows=rows,
                    pandas_seconds=plain,
                    pandas_rows_per_second=rows / plain,
                    pandas_peak_mib=plain_mib,
                    seconds=ours,
                    rows_per_second=rows / ours,
                    peak_mib=ours_mib,
                    times_pandas=ours / plain,
                )
            )
    return results


def _measure(what: str, path: Path, rows: int) -> tuple[float, float]:
    """Return seconds and peak memory in MiB of a child process."""
    child = ended([sys.executable, "-m", "benchmarks.validation", what, str(path), str(rows)])
    return float(json.loads(child.output.splitlines()[-1])), child.peak_mib


def _write(path: Path, rows: int) -> None:
    """Write tiles of one synthetic snapshot, each with keys of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.instance import CONTRACT
    from ctcd.contract.schemas import snapshot_schema
    from ctcd.contract.spec import names
    from ctcd.derived import synthetic
    from ctcd.store.conversion import convert, trim

    tables = synthetic.generate(CONTRACT, rows=min(rows, _TILE_ROWS), seed=1, end=_DAY, error_rate=0.0)
    columns = {column.name: column for column in (*CONTRACT.feature_columns, *CONTRACT.label_columns)}
    joined = tables.features.merge(tables.labels, on=names(CONTRACT.keys)).assign(**{CONTRACT.snapshot_date: str(_DAY)})
    wanted = [column for name, column in columns.items() if name in snapshot_schema(CONTRACT).columns]
    tile, _ = convert(trim(pa.Table.from_pandas(joined[names(wanted)], preserve_index=False)), wanted)
    tile[CONTRACT.snapshot_date] = _DAY.isoformat()
    tile = snapshot_schema(CONTRACT).validate(tile)
    steps = {key.name: int(tile[key.name].max()) for key in CONTRACT.row_keys}
    schema = pa.Table.from_pandas(tile, preserve_index=False).schema
    parquet = pq.ParquetWriter(path, schema) if path.suffix == ".parquet" else None
    for start in range(0, rows, len(tile)):
        part = tile.iloc[: rows - start]
        if parquet:
            parquet.write_table(pa.Table.from_pandas(part, schema=schema, preserve_index=False))
        else:
            part.to_csv(path, mode="a", index=False, header=not start)
        tile = tile.assign(**{name: tile[name] + step for name, step in steps.items()})
    if parquet:
        parquet.close()


def _read_with_pandas(path: Path, rows: int) -> None:
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if len(frame) != rows:
        raise RuntimeError(f"{path} has {len(frame)} rows")


def _validate(path: Path, rows: int) -> None:
    from benchmarks.files import read_frames
    from benchmarks.instance import CONTRACT
    from ctcd.contract.schemas import snapshot_schema
    from ctcd.contract.validation import examine_chunks

    frames = read_frames(path, rows=CHUNK_ROWS)
    report = examine_chunks(frames, snapshot_schema(CONTRACT), CONTRACT, where=path.name)
    if report.breaches or report.rows != rows:
        raise RuntimeError(f"{path}: {report}")


def _child(what: str, path: Path, rows: int) -> None:
    """Do one thing in this process, with what it imports loaded before, and print its seconds as the last line."""
    if what == "pandas":
        import pandas as pd  # noqa: F401 - loaded before the clock starts
        import pyarrow.parquet  # noqa: F401 - as above
    elif what == "validate":
        import benchmarks.instance  # noqa: F401 - as above
        import ctcd.contract.validation  # noqa: F401 - as above
    began = time.perf_counter()
    {"write": _write, "pandas": _read_with_pandas, "validate": _validate}[what](path, rows)
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
