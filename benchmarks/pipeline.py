"""From ingest to promoted model: wall time, peak memory, and how much of the time is CatBoost's own fit."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STAGES = ("ingest", "snapshot", "validate", "train", "gate", "promote")


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
        fit_seconds: time in CatBoost's own fit: the baseline, what nobody can leave out.
        fit_share: `fit_seconds` as a share of `total_seconds`, 0 to 1.
        peak_mib: peak resident memory, MiB.
        accuracy: on the holdout.
        macro_f1: on the holdout.
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


def run(data: Path | None, profile: str) -> PipelineResult:
    """Measure one run on the tables in `data`, or on 20,000 synthetic rows."""
    with tempfile.TemporaryDirectory(prefix="credit-score-bench-") as home:
        began = time.monotonic()
        child = subprocess.Popen(  # noqa: S603 - this interpreter and this module
            [sys.executable, "-m", "benchmarks.pipeline", str(data or ""), profile],
            env={**os.environ, "CREDIT_SCORE_HOME": home, "FEATURE_STORE_URL": "", "MLFLOW_TRACKING_URI": ""},
            stdout=subprocess.PIPE,
        )
        output = child.stdout.read() if child.stdout else b""
        _, status, usage = os.wait4(child.pid, 0)
        total = time.monotonic() - began
    if status != 0:
        raise RuntimeError(f"the pipeline failed with status {os.waitstatus_to_exitcode(status)}")
    measured = json.loads(output.splitlines()[-1])
    return PipelineResult(
        data=str(data or "synthetic"),
        profile=profile,
        total_seconds=total,
        fit_share=measured["fit_seconds"] / total,
        peak_mib=usage.ru_maxrss / 1024,
        **measured,
    )


def _child(data: str, profile: str) -> None:
    from contracts.features import CONTRACT
    from credit_score import stages, synthetic
    from credit_score.settings import load_settings

    settings = load_settings()
    source = Path(data)
    if not data:
        source = settings.home / "synthetic"
        synthetic.write(CONTRACT, source, rows=20_000, seed=settings.seed, end=settings.today())
    report = stages.run_pipeline(settings, source, profile=profile)
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])
