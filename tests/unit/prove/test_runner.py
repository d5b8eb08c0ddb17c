from pathlib import Path

import pytest
from prove.base import Edit, Stale
from prove.runner import Result, Verdict, prove, proven
from prove.tree import ROOT, Case, end_warm, matches, run_tests, scratch_copy
from support.defects import CATALOGUE, load


def run(*positions: int) -> dict[str, Result]:
    reported: list[Result] = []
    results = prove(load, positions, jobs=1, report=reported.append)
    assert len(reported) == len(results) == len(positions)
    return {result.name: result for result in results}


@pytest.mark.slow
def test_every_defect_gets_its_verdict() -> None:
    """A defect is caught only if its gate refuses for the right reason and accepts a sound subject."""
    results = run(*range(len(CATALOGUE)))
    assert {name: result.verdict for name, result in results.items()} == {
        "is caught": Verdict.CAUGHT,
        "is accepted": Verdict.MISSED,
        "is refused for another reason": Verdict.MISSED,
        "cannot be planted": Verdict.STALE,
        "has a broken gate": Verdict.UNTRUSTED,
    }
    assert results["cannot be planted"].message == "nothing to change"
    assert not proven(results.values())
    assert not proven([])
    assert proven([results["is caught"]])


def test_an_edit_must_fit_exactly_once(tmp_path: Path) -> None:
    """Text that is missing or occurs twice makes the defect stale and changes nothing."""
    file = tmp_path / "a.py"
    file.write_text("one two two\n")
    Edit(path="a.py", old="one", new="three").apply(tmp_path)
    assert file.read_text() == "three two two\n"
    for old, times in (("one", 0), ("two", 2)):
        with pytest.raises(Stale, match=f"{times} times"):
            Edit(path="a.py", old=old, new="").apply(tmp_path)
    with pytest.raises(Stale, match="0 times"):
        Edit(path="b.py", old="one", new="").apply(tmp_path)
    assert file.read_text() == "three two two\n"


@pytest.mark.slow
def test_the_checkout_is_never_touched() -> None:
    """An edit is made in a copy, which is deleted afterwards."""
    edit = Edit(path="pyproject.toml", old="[build-system]", new="[sabotaged]")
    with scratch_copy([edit]) as root:
        assert "sabotaged" in (root / "pyproject.toml").read_text()
    assert not root.exists()
    assert "sabotaged" not in (ROOT / "pyproject.toml").read_text()


def test_selections_match_their_own_tests_only() -> None:
    """A test with a longer name or in another file does not match."""
    case = Case(file="tests/unit/a.py", name="test_one[x]", problem="")
    for selection in ("tests/unit/a.py", "tests/unit", "tests/unit/", "tests/unit/a.py::test_one"):
        assert matches(case, selection)
    for selection in ("tests/unit/a.py::test_on", "tests/unit/b.py", "tests/un", "tests/unit/a.py::test_one_more"):
        assert not matches(case, selection)


@pytest.mark.slow
def test_tests_that_do_not_end_are_ended_and_leave_the_next_ones_their_own_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their defect is not counted as caught, and the answer to the next request is not theirs."""
    program = tmp_path / "warm.py"
    program.write_text(
        "import json, sys, time\nfrom pathlib import Path\n"
        "for line in sys.stdin:\n"
        "    time.sleep(600 * ('hangs' in line))\n"
        "    Path(json.loads(line)['output']).touch()\n"
        "    print(1, flush=True)\n"
    )
    monkeypatch.setattr("prove.tree.WARM", program)
    monkeypatch.setattr("prove.tree.TIMEOUT_SECONDS", 1)
    end_warm()
    with pytest.raises(Stale, match="did not end within 1 seconds"):
        run_tests(tmp_path, ["hangs"])
    monkeypatch.setattr("prove.tree.TIMEOUT_SECONDS", 60)
    assert run_tests(tmp_path, ["fails"])[1].returncode == 1
    end_warm()
