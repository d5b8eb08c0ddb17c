"""`make mutation`: mutation tests of the code that decides; a test or the type checker must notice each small change.

mutmut makes the changes and runs the tests that reach them (`[tool.mutmut]` in pyproject.toml lists the files). It works
in a copy below `build/` and keeps its results there, so that a second run tests only what has changed. Mutants that change
nothing but the wording of a message are counted separately and do not lower the score.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mutmut.stats import status_by_exit_code
from rich.console import Console
from rich.table import Table

from prove.tree import COPIED, ROOT

FOLDER = ROOT / "build" / "mutation"
DECIDES = "all others"
GOALS = {"deployment": 0.95, "monitoring": 0.95, "serving": 0.95, "stages": 0.95, DECIDES: 0.97}
"""Least score of each package, and of all other files together, which decide what ships."""
CAUGHT = frozenset({"killed", "timeout", "caught by type check", "segfault"})
ORIGINAL = "orig"
AROUND = 30
"""Number of characters shown on each side of a change."""
out = Console(width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Mutant:
    """One mutant.

    Args:
        file: the changed file, relative to the root of the repository.
        function: the changed function.
        name: mutmut's name of the mutant, for `mutmut show`.
        status: mutmut's status, such as killed, survived or not checked; "wording" if only a message changed.
        change: code before and after; empty unless the mutant survived.
    """

    file: str
    function: str
    name: str
    status: str
    change: str = ""


def main() -> int:
    """Run mutmut and show the scores; return 1 if one is below its goal or time ran out, 2 if mutmut failed."""
    options = _options()
    _copy(FOLDER)
    minutes, started = options.minutes, time.monotonic()
    out.print(f"run for at most {minutes} minutes; the results are kept in {FOLDER}", highlight=False)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
    }
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(options.jobs)]
    with (FOLDER / "mutmut.log").open("w") as log:
        process = subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=log, stderr=log)  # noqa: S603 - a fixed command
        try:
            code = process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            code = 0
    if code:
        out.print(f"mutmut ended with exit code {code}; see {log.name}", highlight=False)
        return 2
    mutants = list(read(FOLDER))
    show(mutants, time.monotonic() - started)
    reached = all(score(of_area(mutants, area)) >= goal for area, goal in GOALS.items())
    return 0 if reached and not any(mutant.status == "not checked" for mutant in mutants) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prove.mutation", description=__doc__)
    parser.add_argument("--minutes", type=int, default=40, help="time limit (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    return parser.parse_args()


def _copy(folder: Path) -> None:
    """Update the copy; unchanged files keep their modification time, from which mutmut sees which ones changed."""
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy2(source, folder / name)
    # mutmut writes suppressions without a code into the files that it mutates.
    settings = folder / "pyproject.toml"
    settings.write_text(settings.read_text().replace('"ignore-without-code", ', ""))


def read(folder: Path) -> Iterator[Mutant]:
    """Yield every mutant that mutmut has made below a folder."""
    made = folder / "mutants"
    for record in sorted(made.rglob("*.py.meta")):
        verdicts: dict[str, int | None] = json.loads(record.read_text())["exit_code_by_key"]
        mutated = record.with_suffix("")
        functions = _functions(mutated) if any(code == 0 for code in verdicts.values()) else {}
        for name, code in verdicts.items():
            function, _, number = name.rpartition(".")[2].rpartition("__mutmut_")
            before, after = (
                functions.get(f"{function}__mutmut_{ORIGINAL}"),
                functions.get(f"{function}__mutmut_{number}"),
            )
            status, change = status_by_exit_code[code], ""
            if code == 0 and before is not None and after is not None:
                change = _difference(before, after)
                status = "wording" if _wording(before) == _wording(after) else status
            yield Mutant(
                file=str(mutated.relative_to(made)),
                function=function.removeprefix("x_").lstrip("xǁ").replace("ǁ", "."),
                name=name,
                status=status,
                change=change,
            )


def _functions(file: Path) -> dict[str, ast.AST]:
    functions: dict[str, ast.AST] = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = node
            node.name = "function"
    return functions


def _difference(before: ast.AST, after: ast.AST) -> str:
    """Return the changed part of two functions, with some text around it."""
    old, new = (" ".join(ast.unparse(node).split()) for node in (before, after))
    first = _alike(old, new)
    last = _alike(old[first:][::-1], new[first:][::-1])
    start = max(0, first - AROUND)
    shown = [text[start : len(text) - last + AROUND] if last > AROUND else text[start:] for text in (old, new)]
    return f"{shown[0]!r} -> {shown[1]!r}"


def _alike(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _wording(function: ast.AST) -> str:
    """Return a function as text, without the changes that mutmut makes to sentences: case, and letters around them."""

    class Sentences(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.Constant:
            if isinstance(node.value, str) and " " in node.value.strip():
                return ast.Constant(node.value.removeprefix("XX").removesuffix("XX").lower())
            return node

    return ast.dump(Sentences().visit(ast.parse(ast.unparse(function))))


def score(mutants: Iterable[Mutant]) -> float:
    """Return the share, 0 to 1, of tested mutants that were caught; mutants of wording do not count."""
    counted = Counter(mutant.status in CAUGHT for mutant in mutants if mutant.status not in ("wording", "not checked"))
    return counted[True] / counted.total() if counted else 0.0


def of_area(mutants: Iterable[Mutant], area: str) -> list[Mutant]:
    """Return the mutants of a key of `GOALS`."""

    def area_of(mutant: Mutant) -> str:
        return next((name for name in GOALS if f"/{name}/" in mutant.file), DECIDES)

    return [mutant for mutant in mutants if area_of(mutant) == area]


def show(mutants: list[Mutant], seconds: float) -> None:
    """Print every surviving mutant, and the score of each file and area."""
    table = Table(title="Mutants", title_justify="left", header_style="bold")
    table.add_column("file")
    for name in ("caught", "survived", "no test", "wording", "not tested", "score", "goal"):
        table.add_column(name, justify="right")
    groups = {file: [each for each in mutants if each.file == file] for file in sorted({each.file for each in mutants})}
    for name, mine in (groups | {area: of_area(mutants, area) for area in GOALS}).items():
        statuses = Counter("caught" if mutant.status in CAUGHT else mutant.status for mutant in mine)
        cells = [str(statuses[status]) for status in ("caught", "survived", "no tests", "wording", "not checked")]
        goal = f"{GOALS[name]:.0%}" if name in GOALS else ""
        table.add_row(name, *cells, f"{score(mine):.1%}", goal, style="bold" if goal else "")
    for mutant in mutants:
        if mutant.status not in CAUGHT | {"wording", "not checked"}:
            out.print(
                f"{mutant.status}: {mutant.file} {mutant.function}: {mutant.change}", markup=False, highlight=False
            )
    out.print(table)
    out.print(f"{score(mutants):.1%} of the tested mutants caught, in {seconds:.0f} s", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
