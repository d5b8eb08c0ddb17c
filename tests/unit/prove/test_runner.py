from pathlib import Path

import pytest
from prove.base import Area, Check, Defect, Edit, Stale
from prove.runner import Result, Verdict, prove, proven
from prove.tree import Case, matches, scratch_copy

WORKS = Check(name="works", subject=list, refusal="; ".join)
BROKEN = Check(name="refuses everything", subject=list, refusal=lambda _: "no")


def refuse(found: list[str]) -> list[str]:
    return [*found, "it is wrong"]


def stale(_: list[str]) -> list[str]:
    raise Stale("nothing to change")


CATALOGUE = (
    Defect(name="is caught", area=Area.DATA, gate=WORKS, plant=refuse, told="wrong"),
    Defect(name="is let through", area=Area.DATA, gate=WORKS, plant=list),
    Defect(name="is refused for another reason", area=Area.DATA, gate=WORKS, plant=refuse, told="too slow"),
    Defect(name="cannot be planted", area=Area.DATA, gate=WORKS, plant=stale),
    Defect(name="has a broken gate", area=Area.DATA, gate=BROKEN, plant=refuse),
)


def load() -> tuple[Defect, ...]:
    return CATALOGUE


def run(*places: int) -> dict[str, Result]:
    told: list[Result] = []
    results = prove(load, places, jobs=1, told=told.append)
    assert len(told) == len(results) == len(places)
    return {result.name: result for result in results}


def test_every_defect_gets_its_verdict() -> None:
    """Only a refusal for the right reason, by a gate that lets a sound subject through, is a catch."""
    results = run(*range(len(CATALOGUE)))
    assert {name: result.verdict for name, result in results.items()} == {
        "is caught": Verdict.CAUGHT,
        "is let through": Verdict.MISSED,
        "is refused for another reason": Verdict.MISSED,
        "cannot be planted": Verdict.STALE,
        "has a broken gate": Verdict.UNTRUSTED,
    }
    assert results["cannot be planted"].said == "nothing to change"
    assert not proven(results.values())
    assert not proven([])
    assert proven([results["is caught"]])


def test_an_edit_fits_exactly_once(tmp_path: Path) -> None:
    """Text that is gone or there twice makes the defect stale, and changes nothing."""
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


PHRASE = '"""What every suite shares."""'


def test_the_checkout_is_never_touched() -> None:
    """An edit is made in a copy, which is gone afterwards."""
    edit = Edit(path="tests/conftest.py", old=PHRASE, new='"""Sabotaged."""')
    with scratch_copy([edit]) as root:
        assert "Sabotaged" in (root / "tests" / "conftest.py").read_text()
    assert not root.exists()
    assert "Sabotaged" not in (Path(__file__).parents[2] / "conftest.py").read_text()


def test_selections_match_their_own_tests_only() -> None:
    """A test of a longer name, or of another file, is another test."""
    case = Case(file="tests/unit/a.py", name="test_one[x]", problem="")
    for selection in ("tests/unit/a.py", "tests/unit", "tests/unit/", "tests/unit/a.py::test_one"):
        assert matches(case, selection)
    for selection in ("tests/unit/a.py::test_on", "tests/unit/b.py", "tests/un", "tests/unit/a.py::test_one_more"):
        assert not matches(case, selection)
