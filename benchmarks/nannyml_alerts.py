"""Which chunks nannyml alarms about: run by a Python that has nannyml, with a folder that `benchmarks.monitoring` wrote."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd


def main(folder: Path) -> list[float]:
    """Return the share of chunks with an alert in each case, by the Jensen-Shannon distance and nannyml's own threshold."""
    nannyml: Any = import_module("nannyml")  # which ours has not
    found = []
    for number, case in enumerate(json.loads((folder / "cases.json").read_text(encoding="utf-8"))):
        reference = pd.read_parquet(folder / "reference.parquet", columns=[case["feature"]])
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=["value"],
            treat_as_categorical=["value"] if case["categorical"] else [],
            continuous_methods=["jensen_shannon"],
            categorical_methods=["jensen_shannon"],
            chunker=nannyml.chunk.SizeBasedChunker(case["rows"], incomplete="drop"),
        )
        results = calculator.fit(reference.set_axis(["value"], axis=1)).calculate(
            pd.read_parquet(folder / f"{number}.parquet")
        )
        alerts = results.filter(period="analysis").to_df()[("value", "jensen_shannon", "alert")]
        found.append(float(alerts.mean()))
    return found


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(main(Path(sys.argv[1])))}\n")
