"""Plants defects, runs their gates and returns the verdicts."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from prove.base import Defect, Gate, Stale
from prove.tree import Tests, matches, run_tests, scratch_copy


class Verdict(StrEnum):
    """Outcome of planting a defect."""

    CAUGHT = "caught"
    MISSED = "missed"
    STALE = "stale"
    """It could not be planted: the code has changed, and the defect must be adapted."""
    UNTRUSTED = "gate broken"
    """Its gate also refuses a sound subject, so that a refusal proves nothing."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of the report.

    Args:
        name: name of the defect.
        area: the part of the system that it breaks.
        gate: name of the gate that had to catch it.
        verdict: the outcome.
        message: the gate's refusal, or why there is none.
        seconds: time for planting and judging.
    """

    name: str
    area: str
    gate: str
    verdict: Verdict
    message: str
    seconds: float


Catalogue = Sequence[Defect]
Load = Callable[[], Catalogue]


def prove(load: Load, wanted: Sequence[int], *, jobs: int, report: Callable[[Result], None]) -> list[Result]:
    """Plant some defects of a catalogue, run each gate on a sound subject too, and return the results in order.

    Args:
        load: returns the catalogue; must be a module-level function, because other processes call it.
        wanted: positions in the catalogue.
        jobs: number of processes.
        report: called with each result as soon as it is known.
    """
    catalogue = load()
    tests = sorted({gate.selection for position in wanted if isinstance(gate := catalogue[position].gate, Tests)})
    others = list(
        {id(gate): position for position in wanted if not isinstance(gate := catalogue[position].gate, Tests)}.values()
    )
    # A process for each kind of tests, as in the Makefile: a browser's leaves an event loop in which no other can begin.
    kinds = [list(found) for _, found in groupby(tests, key=lambda selection: selection.split("/")[1])]
    broken: dict[str, str] = {}
    planted: dict[int, Result] = {}
    # The slowest first, so that no process is left with a slow one at the end.
    order = sorted(wanted, key=lambda position: _weight(catalogue[position].gate))
    # Spawned rather than forked: CatBoost and Arrow have threads.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        sound = {pool.submit(sound_tests, found) for found in kinds}
        sound |= {pool.submit(sound_gate, load, position) for position in others}
        defects = {pool.submit(plant, load, position): position for position in order}
        for future in as_completed(defects):
            planted[defects[future]] = future.result()
            report(planted[defects[future]])
        for each in sound:
            broken |= each.result()
    return [_trusted(planted[position], broken) for position in wanted]


def plant(load: Load, position: int) -> Result:
    """Plant one defect of a catalogue and run its gate."""
    defect, started = load()[position], time.monotonic()
    try:
        message = defect.gate.judge(defect.plant)
        verdict = Verdict.CAUGHT if message and defect.expected in message else Verdict.MISSED
        if message and verdict is Verdict.MISSED:
            message = f"refused without {defect.expected!r}: {message}"
    except Stale as problem:
        verdict, message = Verdict.STALE, str(problem)
    return Result(
        name=defect.name,
        area=defect.area,
        gate=defect.gate.name,
        verdict=verdict,
        message=message,
        seconds=time.monotonic() - started,
    )


def sound_gate(load: Load, position: int) -> dict[str, str]:
    """Run a defect's gate on a sound subject; return the gate's name and refusal, or nothing if it accepts."""
    gate = load()[position].gate
    try:
        message = gate.judge()
    except Stale as problem:
        message = str(problem)
    return {gate.name: message} if message else {}


def sound_tests(selections: Sequence[str]) -> dict[str, str]:
    """Run tests on an unchanged copy in one pytest run; return each selection that fails or selects nothing."""
    try:
        with scratch_copy() as root:
            cases, done = run_tests(root, selections)
    except Stale as problem:
        return {Tests(selection).name: str(problem) for selection in selections}
    problems = {}
    for selection in selections:
        mine = [case for case in cases if matches(case, selection)]
        failed = [f"{case.name}: {case.problem}" for case in mine if case.problem]
        if failed or not mine:
            problems[Tests(selection).name] = next(
                iter(failed), f"selects nothing; pytest ended with {done.returncode}"
            )
    return problems


def _trusted(result: Result, broken: dict[str, str]) -> Result:
    if result.gate not in broken:
        return result
    return Result(**{**vars(result), "verdict": Verdict.UNTRUSTED, "message": broken[result.gate]})


def _weight(gate: Gate) -> int:
    if isinstance(gate, Tests):
        return 0 if gate.selection.startswith("tests/integration") else 1
    return 3 if gate.quick else 2


def proven(results: Iterable[Result]) -> bool:
    """Return whether there is at least one result and every defect was caught."""
    verdicts = [result.verdict for result in results]
    return bool(verdicts) and all(verdict is Verdict.CAUGHT for verdict in verdicts)
