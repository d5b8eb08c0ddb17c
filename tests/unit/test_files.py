"""A file or a folder is replaced as a whole or not at all."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctcd.errors import UsageError
from ctcd.files import files_in, leftovers, replacing, replacing_folder, write_text, writing_to


def test_a_file_is_written_into_a_new_folder(tmp_path: Path) -> None:
    """The folder is made, the text is UTF-8, and the file is all that the folder holds."""
    path = tmp_path / "new" / "folder" / "x.txt"
    write_text(path, "Žofia\n")
    assert path.read_bytes() == "Žofia\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_the_old_content_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    """While a file is being written, a reader finds the old content; afterwards, the new one."""
    path = tmp_path / "x.txt"
    path.write_text("old")
    with replacing(path) as unfinished:
        assert unfinished.parent == path.parent
        unfinished.write_text("new, unfinished")
        assert path.read_text() == "old"
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_synced_file_is_on_disk_before_its_name_is_and_both_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine leaves the old file or all of the new one; without `synced` nothing waits for the disk."""
    path, steps = tmp_path / "x.txt", []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name.partition('.txt')[0].lstrip('.')}")
        sync(descriptor)

    def replaced(unfinished: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(unfinished, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    with replacing(path, synced=True) as unfinished:
        unfinished.write_text("new")
    assert steps == ["sync x", "rename", f"sync {tmp_path.name}"]
    write_text(path, "newer")
    assert steps[3:] == ["rename"]


@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, old: str | None) -> None:
    """If writing fails half-way, the file is as it was before, and the unfinished one is deleted."""
    path = tmp_path / "x.txt"
    if old is not None:
        path.write_text(old)
    before = {each: each.read_text() for each in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as unfinished:  # noqa: PT012 -- it fails half-way
        unfinished.write_text("half of it")
        raise RuntimeError("disk")
    assert {each: each.read_text() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("old", ["old", None])
def test_a_link_is_followed(tmp_path: Path, old: str | None) -> None:
    """The file that a link points to is replaced or made; the link stays."""
    target, link = tmp_path / "elsewhere" / "x.txt", tmp_path / "link"
    link.symlink_to(target)
    if old is not None:
        write_text(target, old)
    write_text(link, "new")
    assert (link.readlink(), target.read_text()) == (target, "new")
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: int, linked: bool) -> None:
    """A pipe, a socket or a folder stays, also behind a link, and nothing is written: whoever gave it meant another file."""
    path = given = tmp_path / "x"
    path.mkdir() if kind == stat.S_IFDIR else os.mknod(path, kind | 0o600)
    if linked:
        given = tmp_path / "link"
        given.symlink_to(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=f"^{given}: cannot be written: it is not a regular file"):  # noqa: SIM117 - it is refused at once
        with writing_to(given), replacing(given):
            pytest.fail("it was to be refused before the work is done")
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_IFMT(path.lstat().st_mode) == kind


def test_two_writers_do_not_share_an_unfinished_file(tmp_path: Path) -> None:
    """Two writers at once each have a file of their own; the last one to finish wins, with its whole content."""
    path = tmp_path / "x.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_a_killed_writer_left_is_taken_for_that(tmp_path: Path) -> None:
    """Its unfinished file, and the journal of a database; not a copy of the file that somebody keeps beside it."""
    path = tmp_path / "a.db"
    with replacing(path) as unfinished:
        left = [unfinished, unfinished.with_name(f"{unfinished.name}-journal")]
        for name in (".a.db.backup", ".a.db.lock", ".a.db.2024-11-28", f"{unfinished.name}.bak", "a.db"):
            (tmp_path / name).touch()
        for file in left:
            file.touch()
        assert sorted(leftovers(path)) == sorted(left)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in the place of the folder is reported by the operating system's error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "x.txt", "text")


def fill(folder: Path, name: str) -> None:
    """Make a folder with one file."""
    folder.mkdir()
    (folder / name).touch()


def below(folder: Path) -> list[str]:
    """Return all that a folder holds but lock files."""
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.suffix != ".lock")


def test_the_old_folder_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    """Until then a reader finds the old one; afterwards the new one, without a file of the old one."""
    path = tmp_path / "made" / "folder"
    with replacing_folder(path) as new:
        fill(new, "old")
        assert not path.exists()
    with replacing_folder(path) as new:
        fill(new, "new")
        assert below(path) == ["old"]
    assert below(path.parent) == ["folder", "folder/new"]


@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path, old: str | None) -> None:
    """If the block fails, what it has made is deleted."""
    path = tmp_path / "folder"
    if old is not None:
        fill(path, old)
    before = below(tmp_path)
    with pytest.raises(RuntimeError, match="disk"), replacing_folder(path) as new:  # noqa: PT012 -- it fails half-way
        fill(new, "half of it")
        raise RuntimeError("disk")
    assert below(tmp_path) == before


def test_an_interrupt_between_the_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the call in that instant, the old folder is there afterwards."""
    path, rename = tmp_path / "folder", Path.rename
    fill(path, "old")

    def interrupted(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as new:
        fill(new, "new")
    assert below(tmp_path) == ["folder", "folder/old"]


KILLED = """
import os, sys
from pathlib import Path

from ctcd.files import replacing_folder

rename, left = Path.rename, int(sys.argv[2])

def end_after_the_last():
    if not left:
        os._exit(9)  # nothing is cleaned up, as after SIGKILL

def renamed(path, target):
    global left
    rename(path, target)
    left -= 1
    end_after_the_last()

Path.rename = renamed
with replacing_folder(Path(sys.argv[1])) as new:
    new.mkdir()
    (new / "new").touch()
    end_after_the_last()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("renames", "kept"), [(0, "old"), (1, "old"), (2, "new")])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path: Path, renames: int, kept: str) -> None:
    """The next call, even one that fails, puts back what was there and deletes what the killed process left."""
    path = tmp_path / "folder"
    fill(path, "old")
    command = [sys.executable, "-c", KILLED, str(path), str(renames)]
    assert subprocess.run(command, check=False).returncode == 9  # noqa: S603 - our own program
    assert path.exists() == (renames != 1)
    with pytest.raises(RuntimeError, match="disk"), replacing_folder(path):
        raise RuntimeError("disk")
    assert below(tmp_path) == ["folder", f"folder/{kept}"]
    with replacing_folder(path) as new:
        fill(new, "newest")
    assert below(tmp_path) == ["folder", "folder/newest"]


@pytest.mark.slow
def test_those_who_replace_a_folder_take_turns(tmp_path: Path) -> None:
    """A second one waits until the first one is done; of many at once, the last one wins, and all succeed."""
    path = tmp_path / "folder"

    def replaced(name: str) -> None:
        with replacing_folder(path) as new:
            fill(new, name)

    with ThreadPoolExecutor(4) as pool:
        with replacing_folder(path) as new:
            second = pool.submit(replaced, "second")
            with pytest.raises(TimeoutError):
                second.result(0.2)
            fill(new, "first")
        second.result()
        assert below(tmp_path) == ["folder", "folder/second"]
        names = [f"{number}" for number in range(20)]
        list(pool.map(replaced, names))
    assert below(tmp_path) in [["folder", f"folder/{name}"] for name in names]


def test_a_folder_with_the_same_files_is_not_touched(tmp_path: Path) -> None:
    """Whoever reads it meanwhile misses none of them; if one of them has other content, the folder is another one."""
    path = tmp_path / "folder"
    fill(path, "name")
    before = path.stat().st_ino
    with replacing_folder(path) as new:
        fill(new, "name")
    assert path.stat().st_ino == before
    with replacing_folder(path) as new:
        fill(new, "name")
        (new / "name").write_text("other")
    assert path.stat().st_ino != before
    assert (path / "name").read_text() == "other"


def test_a_file_and_a_folder_can_replace_each_other(tmp_path: Path) -> None:
    """The model of an estimator is the one or the other."""
    path = tmp_path / "model"
    fill(path, "old")
    with replacing_folder(path) as new:
        new.write_text("new")
    assert path.read_text() == "new"
    with replacing_folder(path) as new:
        fill(new, "newest")
    assert below(tmp_path) == ["model", "model/newest"]


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """A folder that does not exist has no files; one behind a link that leads nowhere may have some."""
    (tmp_path / "link").symlink_to("disk")
    assert files_in(tmp_path / "folder", ".txt") == []
    for folder in (tmp_path / "link", tmp_path / "link" / "folder"):
        with pytest.raises(FileNotFoundError):
            files_in(folder, ".txt")
    for name in ("b.txt", "a.txt", "c.txt.old"):
        write_text(tmp_path / "disk" / name, "")
    assert [path.name for path in files_in(tmp_path / "link", ".txt")] == ["a.txt", "b.txt"]
    assert files_in(tmp_path / "link" / "folder", ".txt") == []
    with pytest.raises(NotADirectoryError):  # as of a folder without rights: root has all
        files_in(tmp_path / "disk" / "a.txt", ".txt")
