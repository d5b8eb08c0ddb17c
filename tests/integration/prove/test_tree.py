"""Gates on a scratch copy: real pytest and a real command line in it."""

import pytest
from prove.base import Area, Defect, Edit
from prove.runner import Result, Verdict, plant, sound_tests
from prove.tree import Tests, Verb

pytestmark = pytest.mark.integration


def defect(gate: Tests | Verb, old: str, new: str, told: str = "") -> Defect:
    return Defect(
        name="a",
        area=Area.CODE,
        gate=gate,
        told=told,
        plant=(Edit(path="src/ctcd/errors.py", old=old, new=new),),
    )


EXIT_CODE = Tests("tests/unit/cli/test_command.py::test_every_kind_of_error_has_its_exit_code")
REFUSED = '"""The gate refused to promote a model."""\n\n    exit_code = 4'


def planted(one: Defect) -> Result:
    return plant(lambda: (one,), 0)


def test_a_sabotaged_copy_is_what_its_tests_import() -> None:
    """A test that fails on the copy catches the defect; one that cannot even be imported does not."""
    caught = planted(defect(EXIT_CODE, REFUSED, REFUSED.replace("4", "0")))
    assert caught.verdict is Verdict.CAUGHT
    assert "test_every_kind_of_error_has_its_exit_code" in caught.said
    broken = planted(defect(EXIT_CODE, REFUSED, f"{REFUSED} = ="))
    assert broken.verdict is Verdict.STALE
    assert "did not run" in broken.said


def test_tests_that_select_nothing_or_fail_by_themselves_are_no_gate() -> None:
    """On the unchanged copy every selection passes, with at least one test."""
    nothing = "tests/unit/cli/test_command.py::test_that_is_not_there"
    assert sound_tests([EXIT_CODE.selection]) == {}
    assert "selects nothing" in sound_tests([nothing])[Tests(nothing).name]


def test_only_the_exit_code_of_a_refusal_counts() -> None:
    """A verb that does not exist ends in another exit code: that is no catch."""
    missing = planted(defect(Verb(("no-such-verb",)), REFUSED, REFUSED.replace("4", "0")))
    assert missing.verdict is Verdict.STALE
    assert "exit code 2" in missing.said
