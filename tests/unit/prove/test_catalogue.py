import tomllib

import pytest
from prove.base import Area, Edit
from prove.catalogue import load
from prove.subjects import planted
from prove.tree import COPIED, ROOT, Tests
from support.refusals import of_defects


def test_catalogue_is_large_and_covers_every_area() -> None:
    """It has as many defects in each area as `support.promised_tests` says, with unique names."""
    defects = load()
    refusal = of_defects(planted())
    assert not refusal, refusal
    assert len({defect.name for defect in defects}) == len(defects)
    assert {defect.area for defect in defects} == set(Area)


def test_the_documents_say_how_large_the_catalogue_is() -> None:
    """The number of `docs/testing.md` is that of the catalogue, rounded down to a multiple of 50."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert f"of which there are more than {len(load()) // 50 * 50};" in text


def test_mutated_copies_have_the_files_of_copies_with_planted_defects() -> None:
    """A test that reads a file of the repository finds it, whichever of the two it runs on."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    # mutmut itself copies the sources, the tests and this file.
    copied = {*settings["also_copy"], *settings["source_paths"], "tests", "pyproject.toml"}
    assert copied == set(COPIED)


@pytest.mark.slow
def test_every_edit_still_fits_the_code_and_changes_it() -> None:
    """The text that an edit replaces occurs exactly once, which shows in a second and not only in the next full run."""
    edits = [edit for defect in load() if isinstance(defect.plant, tuple) for edit in defect.plant]
    assert len(edits) >= 50
    for edit in edits:
        assert isinstance(edit, Edit)
        assert edit.old != edit.new
        text = (ROOT / edit.path).read_text(encoding="utf-8")
        assert text.count(edit.old) == 1, f"{edit.path}: {edit.old}"
        if edit.path.endswith(".py"):  # code that cannot be imported is caught by any test
            compile(text.replace(edit.old, edit.new), edit.path, "exec")


def test_every_test_that_is_a_gate_exists() -> None:
    """A defect whose test was moved or renamed fails here."""
    for gate in {defect.gate for defect in load() if isinstance(defect.gate, Tests)}:
        file, _, test = gate.selection.partition("::")
        assert (ROOT / file).exists(), gate.selection
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), gate.selection


def test_every_test_that_is_a_gate_is_named() -> None:
    """Any failure in a whole file would count, whatever its reason; one test fails for its own."""
    unnamed = [defect.name for defect in load() if isinstance(defect.gate, Tests) and "::" not in defect.gate.selection]
    assert unnamed == []


def test_every_refusal_that_is_not_a_failed_test_is_expected_to_say_why() -> None:
    """A gate that refuses for another reason does not count as one that caught the defect."""
    silent = [defect.name for defect in load() if not defect.expected and not isinstance(defect.gate, Tests)]
    assert silent == []
