"""Files that are written atomically, so that a reader finds the old content or the new one, and their paths.

Folders cannot be replaced in one step; see `replacing_folder`.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctcd.errors import UsageError


class PathIn:
    """An attribute: the absolute path below the folder that another attribute of its object names."""

    def __init__(self, folder: str, path: str) -> None:
        self._folder, self._path = folder, path

    def __get__(self, owner: Any, _kind: type) -> Path:
        folder: Path = getattr(owner, self._folder)
        return folder.resolve() / self._path


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Translate an error of the system while something is written to a file or folder that the user has chosen.

    Raises:
        UsageError: it cannot be written; says why.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"cannot be written: {reason}", where=str(place), hint="choose another place") from error


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return what is in a folder and has this suffix, sorted; nothing if there is no such folder.

    Raises:
        OSError: the folder may not be read, which `glob` takes for an empty one, is a file, or is on a disk that is not
            mounted, to which a link leads.
    """
    try:
        return sorted(each for each in folder.iterdir() if each.suffix == suffix)
    except FileNotFoundError:
        if any(each.is_symlink() and not each.exists() for each in (folder, *folder.parents)):
            raise
        return []


def require_regular(path: Path) -> None:
    """Refuse to write to what exists and is no regular file.

    Raises:
        OSError: it is a pipe or a device, for example.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


@contextmanager
def replacing(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` atomically if the block succeeds.

    Of a symbolic link, the file that it points to is replaced. The folder is created if it does not exist. If the block
    fails, the temporary file is deleted. With `synced` the file is on disk, under its name, when this returns: for what
    exists nowhere else afterwards.

    Raises:
        OSError: the folder cannot be written to, or there is something other than a regular file, such as a pipe or a
            device; it stays as it is.
    """
    require_regular(path)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield unfinished
        if synced:
            sync(unfinished)
        unfinished.replace(path)
        if synced:
            sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Return what processes that were killed while they replaced a file left beside it, with SQLite's files of that."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+-[0-9a-f]{{8}}(-[a-z]+)?")
    return [each for each in path.parent.iterdir() if name.fullmatch(each.name)]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file atomically, in UTF-8; see `replacing`."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a path for a new folder, which takes the place of the folder `path` if the block succeeds.

    Either may be a file, too. If the block fails, the old folder stays; it is not touched if the new one has the same
    files. A lock file beside it is held while the block runs, so that callers take turns. `scratch` is the path of the
    folder for unfinished ones, on the same disk; by default it is beside `path`, too.

    Readers hold no lock. Between the two renames, for an instant, they find no folder, and of several files that they
    open, some may be old and some new. If a process is killed between the renames, there is no folder until the next
    call, which puts the old one back first.

    Raises:
        OSError: the folders cannot be written to.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch or path.with_name(f".{path.name}.unfinished")
    new, old = scratch / "new", scratch / "old"

    def clean() -> None:
        if old.exists() and not path.exists():  # this or an earlier call ended between the renames
            old.rename(path)
        elif old.exists():
            old.rename(scratch / "deleted")  # first, so that no part of it is taken for the whole later
        shutil.rmtree(scratch, ignore_errors=True)

    with locked(path.with_name(f".{path.name}.lock")):
        clean()
        scratch.mkdir()
        try:
            yield new
            if not path.exists():
                new.rename(path)
            elif digest_of(new) != digest_of(path):
                path.rename(old)
                new.rename(path)
        finally:
            clean()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of the files in a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [f"{file.relative_to(path).as_posix()}\0{digest_of(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def claim(lock: Path) -> int | None:
    """Claim a lock file, created if it does not exist, until the returned descriptor is closed or the process dies.

    Returns:
        The descriptor, or None if another process has the claim.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold a lock file, which is created if it does not exist, while the block runs; wait for whoever holds it."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        yield
