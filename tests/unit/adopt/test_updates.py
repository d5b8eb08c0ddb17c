from pathlib import Path

import pytest
from adopt.updates import ANSWERS, OF_ADOPTER, OWNED, Template, differences

SCHEDULE = OF_ADOPTER[0]
OLDER = {
    "src/a.py": b"a = 1\n",
    "src/gone.py": b"",
    "docs/deleted.md": b"old\n",
    SCHEDULE.path: f"# old\n{SCHEDULE.old}\n".encode(),
    "contracts/features.py": b"example\n",
    "README.md": b"template\n",
}
NEWEST = {
    **{path: content for path, content in OLDER.items() if path != "src/gone.py"},
    "src/a.py": b"a = 2\n",
    "src/new.py": b"",
    "docs/deleted.md": b"new\n",
    SCHEDULE.path: f"# new\n{SCHEDULE.old}\n".encode(),
    "contracts/new.py": b"",
    "README.md": b"template, changed\n",
    "copier.yml": b"",
}
BEFORE = {
    **{path: content for path, content in OLDER.items() if path != "docs/deleted.md"},
    SCHEDULE.path: f"# old\n{SCHEDULE.new}\n".encode(),
    "contracts/features.py": b"ours\n",
    "README.md": b"ours\n",
    "docs/ours.md": b"",
    ANSWERS: b"_commit: 1.0.0\n",
}
AFTER = {
    **{path: content for path, content in BEFORE.items() if path != "src/gone.py"},
    "src/a.py": b"a = 2\n",
    "src/new.py": b"",
    SCHEDULE.path: f"# new\n{SCHEDULE.new}\n".encode(),
    ANSWERS: b"_commit: 2.0.0\n",
}
TEMPLATE = Template(Path(), OLDER, NEWEST)


def test_a_complete_update_passes() -> None:
    """The release's files with the repository's own edits, and what its adopter owns, added or deleted as it was."""
    assert differences(TEMPLATE, BEFORE, AFTER) == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("src/a.py", b"a = 1\n"),  # not updated
        ("src/a.py", b"<<<<<<< before updating\na = 1\n=======\na = 2\n>>>>>>> after updating\n"),
        ("src/gone.py", b""),  # not removed
        ("src/new.py", None),  # not added
        ("docs/deleted.md", b"new\n"),  # came back
        (SCHEDULE.path, NEWEST[SCHEDULE.path]),  # lost the adopter's edit
        (SCHEDULE.path, BEFORE[SCHEDULE.path]),  # lost the release's
        ("contracts/features.py", b"example\n"),
        ("contracts/new.py", b""),  # what only the example has
        (OWNED[0], b"template\n"),
        ("README.md", b"template, changed\n"),
        ("docs/ours.md", None),
        ("copier.yml", b""),
        (ANSWERS, b"_commit: 1.0.0\n"),
        ("src/a.py.rej", b"-a = 1\n"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_noticed(path: str, content: bytes | None) -> None:
    """A conflict, an edit that is lost, a file of the adopter that was changed, and one of the release that is missing."""
    after = {name: text for name, text in (AFTER | {path: content}).items() if text is not None}
    assert differences(TEMPLATE, BEFORE, after) == [f"{path} is not as it should be"]
