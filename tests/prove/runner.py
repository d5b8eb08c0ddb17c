"""Plants every defect, runs its gate and says what was caught."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from prove.base import Defect, Gate, Stale
from prove.tree import Tests, matches, run_tests, scratch_copy


class Verdict(StrEnum):
    """What became of a defect."""

    CAUGHT = "caught"
    MISSED = "missed"
    STALE = "stale"
    """It could not be planted: the code has moved on, and the defect has to follow."""
    UNTRUSTED = "gate broken"
    """Its gate refuses a sound subject too, so that a refusal says nothing."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table.

    Args:
        name: the defect.
        area: what it sabotages.
        gate: what had to catch it.
        verdict: whether it did.
        said: the gate's words, or why there are none.
        seconds: how long planting and judging took.
    """

    name: str
    area: str
    gate: str
    verdict: Verdict
    said: str
    seconds: float


Catalogue = Sequence[Defect]
Load = Callable[[], Catalogue]


def prove(load: Load, wanted: Sequence[int], *, jobs: int, told: Callable[[Result], None]) -> list[Result]:
    """Run some defects of a catalogue, each beside a run of its gate on a sound subject; return them in their order.

    Args:
        load: gives the catalogue; has to be a function of a module, because it is called in other processes.
        wanted: positions in the catalogue.
        jobs: processes.
        told: is given each result as it comes.
    """
    catalogue = load()
    tests = sorted({gate.selection for place in wanted if isinstance(gate := catalogue[place].gate, Tests)})
    others = list(
        {id(gate): place for place in wanted if not isinstance(gate := catalogue[place].gate, Tests)}.values()
    )
    unit, slow = ([each for each in tests if each.startswith("tests/integration") is heavy] for heavy in (False, True))
    broken: dict[str, str] = {}
    planted: dict[int, Result] = {}
    # The slowest first, so that no process is left with one at the end.
    order = sorted(wanted, key=lambda place: _weight(catalogue[place].gate))
    # Started anew rather than forked: CatBoost and Arrow have threads.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        sound = {pool.submit(sound_tests, part) for part in (slow, unit) if part}
        sound |= {pool.submit(sound_gate, load, place) for place in others}
        defects = {pool.submit(plant, load, place): place for place in order}
        for future in as_completed(defects):
            planted[defects[future]] = future.result()
            told(planted[defects[future]])
        for each in sound:
            broken |= each.result()
    return [_trusted(planted[place], broken) for place in wanted]


def plant(load: Load, place: int) -> Result:
    """Plant one defect and run its gate."""
    defect, started = load()[place], time.monotonic()
    try:
        said = defect.gate.judge(defect.plant)
        verdict = Verdict.CAUGHT if said and defect.told in said else Verdict.MISSED
        if said and verdict is Verdict.MISSED:
            said = f"refused without {defect.told!r}: {said}"
    except Stale as problem:
        verdict, said = Verdict.STALE, str(problem)
    return Result(
        name=defect.name,
        area=defect.area,
        gate=defect.gate.name,
        verdict=verdict,
        said=said,
        seconds=time.monotonic() - started,
    )


def sound_gate(load: Load, place: int) -> dict[str, str]:
    """Run a defect's gate without the defect; return its name and words if it refuses, else nothing."""
    gate = load()[place].gate
    try:
        said = gate.judge()
    except Stale as problem:
        said = str(problem)
    return {gate.name: said} if said else {}


def sound_tests(selections: Sequence[str]) -> dict[str, str]:
    """Run tests on an unchanged copy, all at once; return the selections that do not pass, or that select nothing."""
    with scratch_copy() as root:
        cases, done = run_tests(root, selections)
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
    return Result(**{**vars(result), "verdict": Verdict.UNTRUSTED, "said": broken[result.gate]})


def _weight(gate: Gate) -> int:
    if isinstance(gate, Tests):
        return 0 if gate.selection.startswith("tests/integration") else 1
    return 3 if gate.quick else 2


def proven(results: Iterable[Result]) -> bool:
    """Return whether every defect was caught, and there was one."""
    verdicts = [result.verdict for result in results]
    return bool(verdicts) and all(verdict is Verdict.CAUGHT for verdict in verdicts)


def in_process(catalogue: Catalogue) -> Load:
    """Return a loader that gives this very catalogue, for tests of the runner."""
    return partial(tuple, catalogue)
