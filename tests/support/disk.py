"""A disk whose cache is lost: records what SQLite writes and syncs, and gives the files as a crash of the machine leaves them.

A process that is killed loses nothing that it has written, because the kernel writes it to the disk later. A machine
that crashes loses whatever was not synced. Within this process, SQLite's calls of the operating system go through a
layer ("VFS") that notes them; the code under test is not changed.
"""

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

_Write = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Open = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        ("others", ctypes.c_void_p * 13),
    )


class _File(ctypes.Structure):
    """`sqlite3_file`."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("path_length", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", _Open),
        ("others", ctypes.c_void_p * 14),
    )


@dataclass(frozen=True)
class Call:
    """A write (with content), a truncation (without), or a sync (`at` is None) of a file."""

    file: str
    at: int | None
    content: bytes | None = None


@dataclass
class Disk:
    """What was on a disk when the recording began, and what was done since.

    Args:
        before: content of the files, by path.
        calls: the calls, in their order.
    """

    before: dict[str, bytes]
    calls: list[Call] = field(default_factory=list)

    def crashes(self, after: int) -> Iterator[dict[str, bytes]]:
        """Yield the files after so many calls and a crash, with and without what each of them had not synced."""
        cached = sorted({call.file for call in self._unsynced(after)})
        for kept in product((False, True), repeat=len(cached)):
            lost = {name for name, keep in zip(cached, kept, strict=True) if not keep}
            yield self._files(after, lost)

    def _unsynced(self, after: int) -> Iterator[Call]:
        synced = {call.file: place for place, call in enumerate(self.calls[:after]) if call.at is None}
        return (
            call
            for place, call in enumerate(self.calls[:after])
            if call.at is not None and place > synced.get(call.file, -1)
        )

    def _files(self, after: int, lost: set[str]) -> dict[str, bytes]:
        files = {name: bytearray(content) for name, content in self.before.items()}
        gone = {id(call) for call in self._unsynced(after) if call.file in lost}
        for call in self.calls[:after]:
            if call.at is None or id(call) in gone:
                continue
            content = files.setdefault(call.file, bytearray())
            if call.content is None:
                del content[call.at :]
            else:
                content.extend(bytes(max(0, call.at - len(content))))
                content[call.at : call.at + len(call.content)] = call.content
        return {name: bytes(content) for name, content in files.items()}


@contextmanager
def recorded(*folders: Path) -> Iterator[Disk]:
    """Record what SQLite does, in this process, to the files that connections open from now on."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    system: _Vfs = library.sqlite3_vfs_find(None).contents
    paths = [path for folder in folders for path in folder.glob("*") if path.is_file()]
    disk = Disk({str(path): path.read_bytes() for path in paths})
    names: dict[int, str] = {}
    tables: dict[int, _Methods] = {}
    lock = Lock()

    def noted(call: Callable[..., int], describe: Callable[..., tuple[int | None, bytes | None]]) -> Callable[..., int]:
        def method(file: int, *arguments: Any) -> int:
            with lock:  # the order of the calls is that in which they took effect
                result = call(file, *arguments)
                if result == 0 and file in names:
                    disk.calls.append(Call(names[file], *describe(*arguments)))
            return result

        return method

    def open_file(vfs: int, name: int | None, file: int, flags: int, given: int) -> int:
        # The pointer itself is passed on: SQLite keeps it, not a copy of the text.
        result = int(system.open(vfs, name, file, flags, given))
        opened = ctypes.cast(file, ctypes.POINTER(_File)).contents
        if result == 0 and name is not None:
            names[file] = ctypes.string_at(name).decode()
            address = ctypes.addressof(opened.methods.contents)
            if address not in tables:
                theirs = opened.methods.contents
                tables[address] = ours = _Methods.from_buffer_copy(theirs)
                ours.write = _Write(noted(theirs.write, lambda data, size, at: (at, ctypes.string_at(data, size))))
                ours.truncate = _Truncate(noted(theirs.truncate, lambda size: (size, None)))
                ours.sync = _Sync(noted(theirs.sync, lambda _flags: (None, None)))
            opened.methods = ctypes.pointer(tables[address])
        return result

    ours = _Vfs.from_buffer_copy(system)
    ours.name, ours.open = b"recorded", _Open(open_file)
    library.sqlite3_vfs_register(ctypes.byref(ours), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(ours))
