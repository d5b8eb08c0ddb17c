"""Prints the newest report of a load test as a Markdown table."""

import json
import sys
from pathlib import Path

REPORTS = Path("build/reports/load")


def markdown(report: Path) -> str:
    """Return a report as a table."""
    verdict = json.loads(report.read_text(encoding="utf-8"))
    lines = [
        f"### Load, shape {report.stem}: {'passed' if verdict['passed'] else 'FAILED'}",
        "",
        "| limit | measured | allowed | result |",
        "|---|---:|---:|---|",
    ]
    for each in verdict["findings"]:
        lower = each["better"] == "lower"
        met = each["value"] <= each["limit"] if lower else each["value"] >= each["limit"]
        allowed, result = f"at {'most' if lower else 'least'} {each['limit']:g}", "met" if met else "**NOT MET**"
        lines.append(f"| {each['rule']} | {each['value']:.4g} | {allowed} | {result} |")
    return "\n".join(lines) + "\n"


def newest() -> Path | None:
    """Return the newest report, or None if there is none."""
    found = [path for path in REPORTS.glob("*.json") if "." not in path.stem and not path.stem.startswith("baseline-")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


if __name__ == "__main__":
    report = newest()
    sys.stdout.write((markdown(report) if report else "no load test has run") + "\n")
