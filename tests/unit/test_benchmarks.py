"""The command line of the benchmarks, and what one of them computes from what it measured."""

import inspect
import json
import re
import shutil
from collections.abc import Sequence
from typing import NoReturn

import pytest
import typer

from benchmarks import memory
from benchmarks.__main__ import NEEDED, PARTS, main
from benchmarks.children import Ended

USES = {"wrk": r"\bmeasure\(", "mariadbd": r"\bown_store\(|\bmariadb\b", "redis-server": r"\bsupport\.redis\b"}
"""How the source of a part shows that it starts a program."""


def not_run(*_: object) -> NoReturn:
    raise AssertionError("a benchmark was started")


@pytest.mark.parametrize(("part", "program"), [("serving", "wrk"), ("disk", "mariadbd"), ("cache", "redis-server")])
def test_a_missing_program_is_named_before_a_benchmark_starts(
    monkeypatch: pytest.MonkeyPatch, part: str, program: str
) -> None:
    """The error says what installs it; the parts before are not run either."""
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == program else path)
    for name in ("pipeline", part):
        monkeypatch.setitem(PARTS, name, not_run)
    with pytest.raises(typer.BadParameter) as refused:
        main(["pipeline", part])
    assert str(refused.value) == f"{program} is missing: {NEEDED[program][1]}"


def test_an_unknown_part_is_named_before_a_benchmark_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts before are not run either."""
    monkeypatch.setitem(PARTS, "pipeline", not_run)
    with pytest.raises(typer.BadParameter, match="'serv' is none of pipeline, "):
        main(["pipeline", "serv"])


def test_every_part_names_the_programs_that_it_starts() -> None:
    """A part that starts one without naming it would fail in the middle, after minutes."""
    sources = {}
    for name, run in PARTS.items():
        module = inspect.getmodule(run)
        assert module is not None
        sources[name] = inspect.getsource(run if module.__name__ == "benchmarks.__main__" else module)
    for program, pattern in USES.items():
        assert {name for name, source in sources.items() if re.search(pattern, source)} == NEEDED[program][0], program


def test_memory_grows_since_the_size_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """By phase, in 1,000 bytes for each row more; trainings in processes are run by the integration tests."""
    sizes = iter([(1_000, 100.0), (3_000, 101.0), (4_000, 103.0)])

    def ended(command: Sequence[str], _environment: object) -> Ended:
        if "benchmarks.memory" not in command:
            return Ended(output=b"", cpu_seconds=0, peak_mib=0)
        rows, mib = next(sizes)
        found = [
            {"phase": phase, "rows": rows, "before_mib": mib, "peak_mib": mib * times}
            for phase, times in (("read", 2), ("fit", 3))
        ]
        return Ended(output=f"a line before\n{json.dumps(found)}\n".encode(), cpu_seconds=0, peak_mib=0)

    monkeypatch.setattr(memory, "ended", ended)
    results = memory.run(None, [1_000, 3_000, 4_000])
    kib = 2**20 / 1_000
    assert [(each.phase, each.rows, each.before_kb_a_row, each.peak_kb_a_row) for each in results] == [
        ("read", 1_000, None, None),
        ("fit", 1_000, None, None),
        ("read", 3_000, pytest.approx(kib / 2_000), pytest.approx(2 * kib / 2_000)),
        ("fit", 3_000, pytest.approx(kib / 2_000), pytest.approx(3 * kib / 2_000)),
        ("read", 4_000, pytest.approx(2 * kib / 1_000), pytest.approx(4 * kib / 1_000)),
        ("fit", 4_000, pytest.approx(2 * kib / 1_000), pytest.approx(6 * kib / 1_000)),
    ]
