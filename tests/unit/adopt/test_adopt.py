import shutil
from pathlib import Path

from adopt.__main__ import copy_repository, edited

INSTANCE = Path(__file__).parents[2] / "instance"


def test_an_edit_outside_the_instance_is_noticed(tmp_path: Path) -> None:
    """A copy in which `contracts/` was replaced counts as untouched; one with another or a new file elsewhere does not."""
    copy = tmp_path / "copy"
    copy_repository(copy)
    shutil.rmtree(copy / "contracts")
    shutil.copytree(INSTANCE, copy / "contracts")
    assert edited(copy) == []
    (copy / "Makefile").write_text("unit:\n")
    (copy / "more.py").write_text("")
    assert edited(copy) == ["copy: Makefile differs", "copy: more.py differs"]
