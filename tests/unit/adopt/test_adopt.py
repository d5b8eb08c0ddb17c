import shutil
from pathlib import Path

import pytest
from adopt.__main__ import edited
from adopt.copies import commit, write_files

INSTANCE = Path(__file__).parents[2] / "instance"


@pytest.mark.slow
def test_an_edit_outside_the_instance_is_noticed(tmp_path: Path) -> None:
    """A copy in which `contracts/` was replaced counts as untouched; one with another or a new file elsewhere does not."""
    copy = tmp_path / "copy"
    write_files(copy)
    commit(copy, "the template")
    shutil.rmtree(copy / "contracts")
    shutil.copytree(INSTANCE, copy / "contracts")
    assert edited(copy) == []
    (copy / "Makefile").write_text("unit:\n")
    (copy / "more.py").write_text("")
    assert edited(copy) == ["copy: Makefile differs", "copy: more.py differs"]
