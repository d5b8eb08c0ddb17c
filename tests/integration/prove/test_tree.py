"""Gates that run real pytest and the real command line on a scratch copy."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from prove import tree
from prove.base import Area, Defect, Edit, Stale
from prove.runner import Result, Verdict, plant, sound_tests
from prove.tree import Command, Tests

pytestmark = pytest.mark.integration


def defect(gate: Tests | Command, old: str, new: str, expected: str = "") -> Defect:
    return Defect(
        name="a",
        area=Area.CODE,
        gate=gate,
        expected=expected,
        plant=(Edit(path="src/ctcd/errors.py", old=old, new=new),),
    )


EXIT_CODE = Tests("tests/unit/cli/test_command_line.py::test_every_kind_of_error_has_its_exit_code")
REFUSED = '"""The gate refused to promote a model."""\n\n    exit_code = 4'


def planted(one: Defect) -> Result:
    return plant(lambda: (one,), 0)


def test_a_sabotaged_copy_is_what_its_tests_import() -> None:
    """A test that fails on the copy catches the defect; code that cannot be imported does not count."""
    caught = planted(defect(EXIT_CODE, REFUSED, REFUSED.replace("4", "0")))
    assert caught.verdict is Verdict.CAUGHT
    assert "test_every_kind_of_error_has_its_exit_code" in caught.message
    broken = planted(defect(EXIT_CODE, REFUSED, f"{REFUSED} = ="))
    assert broken.verdict is Verdict.STALE
    assert "did not run" in broken.message


def test_a_selection_without_tests_is_not_a_gate() -> None:
    """On the unchanged copy every selection must pass with at least one test."""
    nothing = "tests/unit/cli/test_command_line.py::test_that_is_not_there"
    assert sound_tests([EXIT_CODE.selection]) == {}
    assert "selects nothing" in sound_tests([nothing])[Tests(nothing).name]


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """End the process that has imported the libraries, which `judge` starts."""
    yield
    tree.end_warm()


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize("when", ["start", "end"])
def test_an_exception_of_pytest_itself_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, passes: bool
) -> None:
    """Before the tests, it means that they did not run; after them, what they have found counts."""
    fault = {"start": "raise SystemExit(1)", "end": "def pytest_unconfigure(): raise SystemExit(1)"}[when]
    profile = "import hypothesis; hypothesis.settings.register_profile('unshrunk')"
    (tmp_path / "conftest.py").write_text(f"{profile}\n{fault}\n")
    (tmp_path / "test_a.py").write_text(f"def test_a(): assert {passes}\n")
    monkeypatch.setattr(tree, "scratch_copy", lambda _: nullcontext(tmp_path))
    gate = Tests("test_a.py")
    if when == "start":
        with pytest.raises(Stale, match="did not run"):
            gate.judge()
    else:
        assert gate.judge().partition(":")[0] == ("" if passes else "test_a failed")


def test_only_the_exit_code_of_a_refusal_counts() -> None:
    """A command that does not exist ends with another exit code, which is not a refusal."""
    missing = planted(defect(Command(("no-such-command",)), REFUSED, REFUSED.replace("4", "0")))
    assert missing.verdict is Verdict.STALE
    assert "exit code 2" in missing.message
