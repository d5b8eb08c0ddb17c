"""The command line of the benchmarks."""

import inspect
import re
import shutil
from typing import NoReturn

import pytest
import typer

from benchmarks.__main__ import NEEDED, PARTS, main

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
