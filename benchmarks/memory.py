"""How much memory each phase of a training needs, and how that grows with the rows."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.children import ended
from benchmarks.scale import STAGES
from ctcd.cli.output import out, table
from ctcd.settings import load_settings

SIZES = (200_000, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class MemoryResult:
    """One phase of a training with the profile `baseline`, in a process of its own, on SQLite.

    Args:
        phase: read (and validate), hash, split, features, fit (CatBoost's own), conclude.
        rows: valid rows of the snapshot.
        before_mib: resident memory when the phase begins, MiB.
        peak_mib: the most during the phase.
        before_kb_a_row: growth of `before_mib` for each row more than in the size before, in 1,000 bytes; None for the first.
        peak_kb_a_row: the same of `peak_mib`.
    """

    phase: str
    rows: int
    before_mib: float
    peak_mib: float
    before_kb_a_row: float | None = None
    peak_kb_a_row: float | None = None


def run(data: Path | None, sizes: Sequence[int] = SIZES) -> list[Any]:
    """Train on so many rows of each raw table."""
    del data  # rows in any number are always synthetic ones
    results: list[MemoryResult] = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="ctcd-memory-") as home:
            settings = load_settings().model_copy(
                update={"home": Path(home), "feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
            )
            for stage in ("generate", "migrate", "ingest", "snapshot"):
                words = [word.format(folder=Path(home, "raw"), rows=rows) for word in STAGES[stage]]
                ended([str(Path(sys.executable).with_name("ctcd")), *words], settings.child_environment())
            child = ended([sys.executable, "-m", "benchmarks.memory"], settings.child_environment())
            found = [MemoryResult(**each) for each in json.loads(child.output.splitlines()[-1])]
            before = {each.phase: each for each in results[-len(found) :]}
            results += [with_growth(each, before.get(each.phase)) for each in found]
            out.print(f"{rows:,} rows: {max(each.peak_mib for each in found):.0f} MiB")
    table(
        "Memory of a training by phase (baseline: the size before)",
        ("phase", "valid rows", "before, MiB", "KB a row", "peak, MiB", "KB a row"),
        [
            (
                each.phase,
                each.rows,
                round(each.before_mib),
                _shown(each.before_kb_a_row),
                round(each.peak_mib),
                _shown(each.peak_kb_a_row),
            )
            for each in results
        ],
    )
    return list(results)


def with_growth(found: MemoryResult, before: MemoryResult | None) -> MemoryResult:
    """Return a result with its growth since the size before."""
    if before is None:
        return found
    kb = 2**20 / 1_000 / (found.rows - before.rows)
    return replace(
        found,
        before_kb_a_row=(found.before_mib - before.before_mib) * kb,
        peak_kb_a_row=(found.peak_mib - before.peak_mib) * kb,
    )


def _shown(growth: float | None) -> str:
    return "" if growth is None else f"{growth:.2f}"


class Phases:
    """Measures the memory of this process while functions run; Linux only."""

    def __init__(self) -> None:
        self.rows = 0
        self.found: dict[str, tuple[float, float]] = {}

    def watch(self, phase: str, owner: Any, name: str) -> None:
        """Replace a function of a module or class by one that measures each call as part of a phase."""
        called: Callable[..., Any] = getattr(owner, name)

        @wraps(called)
        def measured(*arguments: Any, **named: Any) -> Any:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, _ = _memory()
            if phase == "hash":
                self.rows = len(arguments[0])
            result = called(*arguments, **named)
            earlier, peak = self.found.get(phase, (before, 0.0))
            self.found[phase] = earlier, max(peak, _memory()[1])
            return result

        setattr(owner, name, measured)


def _memory() -> tuple[float, float]:
    """Return the resident memory of this process now, and its peak, MiB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    values = {words[0]: float(words[1]) / 1_024 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}
    return values["VmRSS:"], values["VmHWM:"]


def _child() -> None:
    """Train in this process, and print what each phase needed as the last line."""
    from ctcd.stages import training as stage
    from ctcd.training import job, train

    phases = Phases()
    for phase, owner, name in (
        ("read", stage, "valid_snapshot"),
        ("hash", train, "define"),
        ("split", train, "split_by_group"),
        ("features", train, "labelled_part"),
        ("fit", job.Job, "fit"),
        ("conclude", train, "conclude"),
    ):
        phases.watch(phase, owner, name)
    stage.train(load_settings(), None, profile="baseline")
    found = phases.found.items()
    sys.stdout.write(
        json.dumps(
            [
                {"phase": phase, "rows": phases.rows, "before_mib": before, "peak_mib": peak}
                for phase, (before, peak) in found
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    _child()
