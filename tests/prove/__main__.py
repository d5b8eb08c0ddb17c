"""`make prove`: plant every defect and report whether its gate catches it."""

import argparse
import json
import os
import re
import sys
import time
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from prove.catalogue import load
from prove.runner import Result, Verdict, prove, proven

out = Console(width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 160)


def main() -> int:
    """Run the catalogue or the selected part of it; return 0 if every defect is caught, 1 if not, 2 if none is selected."""
    options = _options()
    catalogue = load()
    wanted = [
        position
        for position, defect in enumerate(catalogue)
        if (defect.gate.quick or not options.quick) and re.search(options.only, f"{defect.area} {defect.name}")
    ]
    if not wanted:
        err.print(f"no defect matches {options.only!r}")
        return 2
    started, done = time.monotonic(), 0

    def report(result: Result) -> None:
        nonlocal done
        done += 1
        style = "dim" if result.verdict is Verdict.CAUGHT else "red"
        err.print(f"{done}/{len(wanted)} {result.verdict}: {result.area}: {result.name}", style=style, highlight=False)

    results = prove(load, wanted, jobs=options.jobs, report=report)
    seconds = time.monotonic() - started
    if options.json:
        document = {
            "proven": proven(results),
            "seconds": round(seconds, 1),
            "defects": [asdict(result) for result in results],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(results, seconds)
    return 0 if proven(results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="regular expression; selects defects by '<area> <name>'")
    parser.add_argument("--quick", action="store_true", help="only defects whose gates start no Python process")
    parser.add_argument("--jobs", type=int, help="processes (default: two per core; one with --quick)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.jobs is None:
        # The slowest tests mostly wait, in vain, for what their defect prevents; quick gates compute.
        options.jobs = (os.cpu_count() or 1) * (1 if options.quick else 2)
    return options


def _show(results: list[Result], seconds: float) -> None:
    table = Table(title="Planted defects", title_justify="left", header_style="bold")
    for name in ("area", "defect", "gate", "verdict"):
        table.add_column(name, overflow="fold")
    table.add_column("seconds", justify="right")
    for result in results:
        style = "" if result.verdict is Verdict.CAUGHT else "red"
        cells = (result.area, result.name, result.gate, result.verdict.value, f"{result.seconds:.1f}")
        table.add_row(*cells, style=style)
    out.print(table, markup=False)
    caught = sum(result.verdict is Verdict.CAUGHT for result in results)
    for result in results:
        if result.verdict is not Verdict.CAUGHT:
            out.print(f"{result.verdict}: {result.name} ({result.gate}): {result.message}", markup=False, style="red")
    out.print(f"{caught} of {len(results)} planted defects caught in {seconds:.0f} s", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
