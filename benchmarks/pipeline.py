"""From ingest to promoted model: wall time, peak memory, and how much of the time is CatBoost's own fit."""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from benchmarks.children import ended
from ctcd.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """One run of the pipeline in a process of its own.

    Args:
        data: folder of raw tables, or "synthetic".
        profile: training profile.
        rows: rows of the training snapshot.
        trials: models fitted.
        seconds: wall time of each stage.
        total_seconds: wall time of the process, interpreter and imports included.
        fit_seconds: time in CatBoost's own fits, summed over the trials, several of which run at once.
        fit_share: `fit_seconds` as a share of `total_seconds`; more than 1 where trials run at once.
        peak_mib: peak resident memory, MiB.
        accuracy: on the holdout.
        macro_f1: on the holdout.
        promoted: whether the gate let the model through.
    """

    data: str
    profile: str
    rows: int
    trials: int
    seconds: dict[str, float]
    total_seconds: float
    fit_seconds: float
    fit_share: float
    peak_mib: float
    accuracy: float
    macro_f1: float
    promoted: bool


def run(data: Path | None, profile: str) -> PipelineResult:
    """Measure one run on the tables in `data`, or on 20,000 synthetic rows."""
    with tempfile.TemporaryDirectory(prefix="ctcd-bench-") as home:
        settings = load_settings().model_copy(
            update={"home": Path(home), "feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
        )
        began = time.monotonic()
        words = [sys.executable, "-m", "benchmarks.pipeline", str(data or ""), profile]
        child = ended(words, settings.child_environment())
        total = time.monotonic() - began
    measured = json.loads(child.output.splitlines()[-1])
    return PipelineResult(
        data=data.name if data else "synthetic",
        profile=profile,
        total_seconds=total,
        fit_share=measured["fit_seconds"] / total,
        peak_mib=child.peak_mib,
        **measured,
    )


def _child(data: str, profile: str) -> None:
    """Run the pipeline in this process and print what it reported as the last line."""
    from benchmarks.instance import CONTRACT
    from ctcd.derived import synthetic
    from ctcd.stages import pipeline

    settings = load_settings()
    source = Path(data)
    seconds = {}
    if not data:
        source = settings.home / "raw"
        began = time.monotonic()
        synthetic.write(CONTRACT, source, rows=20_000, seed=settings.seed, end=settings.today())
        seconds["generate"] = time.monotonic() - began
    report = pipeline.run(settings, source, profile=profile)
    measured = {
        "rows": report.snapshot.rows,
        "trials": len(report.training.trials),
        "seconds": seconds | report.seconds,
        "fit_seconds": report.training.fit_seconds,
        "accuracy": report.training.holdout.accuracy,
        "macro_f1": report.training.holdout.macro_f1,
        "promoted": report.promotion is not None,
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])
