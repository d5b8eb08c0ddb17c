from pathlib import Path

from adopt.__main__ import OTHER, adopt, changes


def test_only_the_instance_is_replaced(tmp_path: Path) -> None:
    """The copy has the other instance in `contracts/`, everything else as it was, and an edit elsewhere is noticed."""
    adopt(tmp_path)
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("contracts", OTHER)]
    assert names[0] == names[1]
    assert all(path.startswith("contracts/") for path in changes(tmp_path))
    (tmp_path / "Makefile").write_text("unit:\n")
    (tmp_path / "more.py").write_text("")
    assert {"Makefile", "more.py"} <= set(changes(tmp_path))
