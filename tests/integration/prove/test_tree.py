"""Gates that run real pytest and the real command line on a scratch copy."""

import pytest
from prove.base import Area, Defect, Edit
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


def test_only_the_exit_code_of_a_refusal_counts() -> None:
    """A command that does not exist ends with another exit code, which is not a refusal."""
    missing = planted(defect(Command(("no-such-command",)), REFUSED, REFUSED.replace("4", "0")))
    assert missing.verdict is Verdict.STALE
    assert "exit code 2" in missing.message
