"""Each gate that is a program of its own ends with exit code 0 if what it runs passes, and with no other outcome."""

import json
import math
import runpy
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import load.__main__
import pytest
from adopt import copies, datasets, updates
from prove import mutation, runner, tree
from prove.base import Stale
from prove.runner import Result, Verdict
from typer import Exit

from ctcd.errors import Unreachable, UsageError

TESTS = Path(__file__).parents[2]
SCRIPTS = TESTS.parent / "scripts"


def exit_code(program: Path) -> int:
    """Run a program as `python` does; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--quick", "--json"])
@pytest.mark.parametrize("verdict", Verdict)
def test_planted_defects_pass_only_if_each_is_caught(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, option: str
) -> None:
    """One that is missed or stale, or whose gate is broken, among those that are caught fails `make prove`."""

    def prove(_: object, wanted: list[int], **__: object) -> list[Result]:
        found = [verdict, *[Verdict.CAUGHT] * (len(wanted) - 1)]
        return [Result(name="a", area="b", gate="c", verdict=each, message="", seconds=0.0) for each in found]

    monkeypatch.setattr(runner, "prove", prove)
    monkeypatch.setattr("sys.argv", ["prove", option])
    assert exit_code(TESTS / "prove" / "__main__.py") == (0 if verdict is Verdict.CAUGHT else 1)
    monkeypatch.setattr("sys.argv", ["prove", option, "no defect has this name"])
    assert exit_code(TESTS / "prove" / "__main__.py") == 2


KILLED, SURVIVED, NOT_CHECKED = 1, 0, None
FILES = {area: f"src/ctcd/{area}/a.py" for area in mutation.GOALS} | {mutation.DECIDES: "src/ctcd/promotion/a.py"}


@pytest.mark.parametrize("area", mutation.GOALS)
@pytest.mark.parametrize(
    ("short", "more", "ends", "code"),
    [
        (0, [], 0, 0),
        (1, [], 0, 1),
        (0, [NOT_CHECKED], 0, 1),
        (0, [NOT_CHECKED], None, 1),  # time has run out
        (None, [], 0, 1),
        (0, [], 1, 2),
        (0, [], -9, 2),
    ],
)
def test_mutation_testing_passes_only_if_all_are_tested_and_enough_are_caught(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    area: str,
    short: int | None,
    more: list[int | None],
    ends: int | None,
    code: int,
) -> None:
    """In one area, one too many that survives, one not tested or none at all are failures, as is a mutmut that fails."""
    mutants: dict[str, list[int | None]] = {name: [KILLED] * 200 for name in FILES}
    caught = math.ceil(mutation.GOALS[area] * 200) - (short or 0)
    mutants[area] = [] if short is None else [*[KILLED] * caught, *[SURVIVED] * (200 - caught), *more]

    class Mutmut:
        def __init__(self, *_: object, cwd: Path, **__: object) -> None:
            for name, file in FILES.items():
                record = cwd / "mutants" / f"{file}.meta"
                record.parent.mkdir(parents=True)
                made = {f"x_f__mutmut_{number}": each for number, each in enumerate(mutants[name])}
                record.write_text(json.dumps({"exit_code_by_key": made}))
                record.with_suffix("").touch()
            self.ends = ends

        def wait(self, _: float | None = None) -> int:
            if self.ends is None:
                raise subprocess.TimeoutExpired("mutmut", 0)
            return self.ends

        def terminate(self) -> None:
            self.ends = -15

    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    monkeypatch.setattr(tree, "COPIED", ("pyproject.toml",))
    monkeypatch.setattr(subprocess, "Popen", Mutmut)
    monkeypatch.setattr("sys.argv", ["mutation"])
    assert exit_code(TESTS / "prove" / "mutation.py") == code


def test_mutation_testing_runs_the_tests_of_each_module_that_it_changes() -> None:
    """Otherwise changes count as missed that a test would notice: a module's tests have its name and its package's."""
    settings = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["mutmut"]
    selected = {TESTS.parent / each for each in settings["pytest_add_cli_args_test_selection"]}
    modules = [Path(each).relative_to("src/ctcd") for each in settings["only_mutate"]]
    tests = [TESTS / "unit" / module.parts[0] / f"test_{module.name}" for module in modules]
    existing = [each for each in tests if each.exists()]
    assert len(existing) > len(tests) / 2
    assert [each.name for each in existing if selected.isdisjoint({each, *each.parents})] == []


DRAFTED = "drafted contract a; no problems; with this request id: 1"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({}, 0),
        ({"returncode": 1}, 1),
        ({"stdout": "drafted contract a; no problems; with this request id: 0"}, 1),
        ({"made": False}, 1),
        ({"git": " M src/ctcd/settings.py\0"}, 1),
    ],
)
def test_an_adoption_passes_only_if_all_of_it_does(
    monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], code: int
) -> None:
    """A command that fails or says something else, a check that fails, and an edit of the engine are failures."""
    said = {"returncode": 0, "stdout": DRAFTED, "stderr": "", "made": True, "git": ""} | fault
    done = SimpleNamespace(**said)
    stand_ins: dict[str, Callable[..., Any]] = {
        "commit": lambda *_: None,
        "ctcd": lambda *_, **__: done,
        "git": lambda *_: said["git"],
        "made": lambda *_: said["made"],
        "write_files": lambda _: None,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(copies, name, stand_in)
    monkeypatch.setattr(datasets, "write", lambda _: None)
    monkeypatch.setattr("sys.argv", ["adopt"])
    assert exit_code(TESTS / "adopt" / "__main__.py") == code


def test_updates_pass_only_if_all_of_them_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A repository with a problem, instance tests that fail, and a template that cannot be made are failures."""
    outcome: dict[str, Any] = {"problems": [], "made": True}

    def make_template(*_: object) -> None:
        if outcome.get("stale"):
            raise Stale("changed")

    monkeypatch.setattr(updates, "ROOT", tmp_path)
    monkeypatch.setattr(updates, "older_revision", lambda: "abc")
    monkeypatch.setattr(updates, "make_template", make_template)
    monkeypatch.setattr(updates, "updated", lambda _, copy: outcome["problems"] if copy.name == updates.BUTTON else [])
    monkeypatch.setattr(updates, "made", lambda *_: outcome["made"])
    monkeypatch.setattr("sys.argv", ["updates"])
    assert updates.main() == 0
    for change in ({"problems": ["lost"]}, {"made": False}, {"stale": True}):
        outcome |= {"problems": [], "made": True} | change
        assert updates.main() == 1, change
    assert Path(updates.__file__).read_text().endswith('if __name__ == "__main__":\n    sys.exit(main())\n')


@pytest.mark.parametrize(
    ("ends", "code"), [(Exit(0), 0), (Exit(1), 1), (Exit(2), 2), (Unreachable("x"), 6), (UsageError("x"), 2)]
)
def test_a_nightly_load_test_fails_as_the_load_test_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: Exception, code: int
) -> None:
    """With its exit code; only a limit that was exceeded is reported as a regression."""

    def measure(**_: object) -> None:
        raise ends

    outputs = tmp_path / "outputs"
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(load.__main__, "main", measure)
    monkeypatch.setattr("load_summary.markdown", lambda _: "| slow |\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    for name in ("LOAD_URL", "LOAD_SHAPE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert exit_code(SCRIPTS / "load_release.py") == code
    assert outputs.exists() == (code == 1)
    if code == 1:
        assert outputs.read_text().startswith("regression=true\nsummary<<")
