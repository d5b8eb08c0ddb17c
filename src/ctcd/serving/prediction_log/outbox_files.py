"""The files of outboxes: their layout, claims on them, and what happens to one that is damaged or of another version."""

import os
import sqlite3
import stat
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from ctcd.errors import Unreachable

SUFFIX = ".outbox"
LOCK = ".lock"
RESERVE = ".reserve"
_SQLITE_SUFFIXES = ("-wal", "-shm")
"""Ends of the names of the files that SQLite keeps with a database."""
UNREADABLE = ".unreadable"
"""Ends the name of a file that could not be used as an outbox: it is moved aside and kept."""
FORMAT = 1
"""Version of a file's layout, its `user_version`; files from before there were versions have 0 and are upgraded."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS depth (id INTEGER PRIMARY KEY CHECK (id = 1), rows INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO depth VALUES (1, 0)",
    # The dead letters, under the name that the table has in files of earlier versions.
    "CREATE TABLE IF NOT EXISTS refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
)
_KNOWN = {
    *(each.replace("IF NOT EXISTS ", "") for each in _TABLES),
    # As earlier versions created it: the first one, after `upgrade` has added a column to it, and the second.
    "CREATE TABLE records (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, rows INTEGER NOT NULL DEFAULT 1)",
    "CREATE TABLE records (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, rows INTEGER NOT NULL)",
}
"""Statements that a file's layout consists of; what else there is, such as a trigger, might refuse every record."""

# A cell of a SQLite file may hold a value of any type, whatever its column says. So each is read as what it should be.
_BODY = "coalesce(CAST(body AS BLOB), x'')"
_ROWS = f"iif(typeof(rows) = 'integer' AND rows BETWEEN 1 AND {1 << 30}, rows, 1)"
_REASON = "coalesce(CAST(reason AS TEXT), '')"
_SOUND = (
    f"CREATE TEMP VIEW sound_records AS SELECT seq, {_BODY} AS body, {_ROWS} AS rows FROM records",  # noqa: S608 - our own names
    f"CREATE TEMP VIEW sound_letters AS SELECT seq, {_BODY} AS body, {_REASON} AS reason FROM refused",  # noqa: S608 - our own names
    "CREATE TEMP VIEW sound_depth AS SELECT coalesce(max(CAST(rows AS INTEGER)), 0) AS rows FROM depth",
)
"""Views of a connection through which all tables are read."""
_NOT_AN_OUTBOX = (
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,  # another layout: a column or table is missing
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)
"""Errors whose cause is the content of a file; all others may pass."""
_HINTS = {
    sqlite3.SQLITE_FULL: "free its disk",
    sqlite3.SQLITE_IOERR: "free its disk, or check it",
    sqlite3.SQLITE_CANTOPEN: "set CTCD_HOME to a writable folder on a disk with free space",
    sqlite3.SQLITE_READONLY: "make the file writable",
    sqlite3.SQLITE_BUSY: "another process holds it: see which, with lsof",
    sqlite3.SQLITE_CORRUPT: "it is damaged: the service moves it aside, also at its start",
    sqlite3.SQLITE_NOTADB: "it is damaged: the service moves it aside, also at its start",
}


_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
"""Errors of a file that was in order when it was opened."""


class NotAnOutbox(Unreachable):
    """A file that this version cannot use as an outbox: it is damaged, or has another layout."""


class Obstructed(Unreachable):
    """Something that is no file is in the place of a file of an outbox."""


class DeadLetter(NamedTuple):
    """A prediction, or a record that cannot be read, that the store does not have and that holds up no others.

    Args:
        seq: primary key of the record in the outbox.
        body: the record, as it was found.
        reason: why it is not in the store; contains no value of it.
    """

    seq: int
    body: bytes
    reason: str


def open_file(path: Path, *, synchronous: str, checkpoint_pages: int) -> sqlite3.Connection:
    """Open a file in WAL mode; it is created if it does not exist.

    `synchronous` is SQLite's pragma: FULL if a commit has to be on disk when it returns, else NORMAL. From
    `checkpoint_pages` pages of the log file on, a commit checkpoints; 0: it never does.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.text_factory = _text
    if db.execute("PRAGMA page_count").fetchone()[0] == 0:
        # A new file, which can then be made smaller without a copy of it. For others this would be a write.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
    # Some builds of SQLite overwrite deleted data with zeros, which doubles what a deletion writes.
    db.execute("PRAGMA secure_delete = OFF")
    for view in _SOUND:
        db.execute(view)
    return db


def _text(content: bytes) -> str:
    """Decode a text of a file, which may be damaged."""
    return content.decode(errors="replace")


def upgrade(db: sqlite3.Connection) -> None:
    """Check a file, and give it the newest layout.

    Raises:
        sqlite3.Error: it cannot be used; `unusable` says why.
    """
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise _unreadable(f"it has format {version}, and this version of ctcd reads up to {FORMAT}")
    require_sound(db)
    if version < FORMAT:
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            db.execute(statement)
        if "rows" not in {column[1] for column in db.execute("PRAGMA table_info(records)")}:
            db.execute("ALTER TABLE records ADD COLUMN rows INTEGER NOT NULL DEFAULT 1")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        with suppress(sqlite3.Error):  # too little space: then it is an outbox all the same
            if db.execute("PRAGMA auto_vacuum").fetchone()[0] == 0:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("VACUUM")
    for columns in ("seq, rows, body FROM records", "seq, body, reason FROM refused", "id, body FROM probe"):
        db.execute(f"SELECT {columns} LIMIT 0")
    layout = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
    if unknown := [name for name, statement in layout if statement not in _KNOWN]:
        raise _unreadable(f"it has another layout: {', '.join(unknown)}")
    [rows] = db.execute("SELECT coalesce(sum(rows), 0) FROM sound_records").fetchone()
    if db.execute("SELECT id, rows FROM depth").fetchall() != [(1, rows)]:
        db.execute("INSERT OR REPLACE INTO depth VALUES (1, ?)", (rows,))


def require_sound(db: sqlite3.Connection) -> None:
    """Refuse a damaged file.

    Raises:
        sqlite3.Error: it is damaged.
    """
    fault: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise _unreadable("it is damaged")


def identity(path: Path) -> tuple[int, ...]:
    """Return the numbers that the file system has given to an outbox and to SQLite's files beside it; 0: there is none."""
    numbers = [0, 0, 0]
    for index, end in enumerate(("", *_SQLITE_SUFFIXES)):
        with suppress(OSError):  # a file that is not there has the number 0
            numbers[index] = path.with_name(path.name + end).stat().st_ino
    return tuple(numbers)


def require_identity(path: Path, files: tuple[int, ...]) -> None:
    """Refuse an outbox whose files are not in their place any more: what is written to them is lost with this process.

    Raises:
        sqlite3.Error: one of them was deleted, renamed or replaced.
    """
    if identity(path) != files:
        raise _unreadable("a file of it was deleted, renamed or replaced")


def damaged(error: BaseException) -> bool:
    """Return whether an error, or its cause, says that a file that was in order is damaged or not in its place any more."""
    return any(_code(each) in _DAMAGE for each in (error, error.__cause__))


def _unreadable(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_FORMAT
    return error


def readable(path: Path) -> tuple[list[DeadLetter], list[tuple[int, bytes]]]:
    """Return what can be read of a file: dead letters, and records as (number of predictions, body)."""
    with (
        suppress(sqlite3.Error),  # nothing can be read of what cannot be opened
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        db.text_factory = _text
        return still_readable(db)
    return [], []


def still_readable(db: sqlite3.Connection) -> tuple[list[DeadLetter], list[tuple[int, bytes]]]:
    """Return the same as `readable` through an open connection, which also reads files that were deleted."""
    letters = [DeadLetter(*row) for row in _readable_rows(db, "refused", "reason", _REASON, "''")]
    return letters, [(rows, body) for _, body, rows in _readable_rows(db, "records", "rows", _ROWS, "1")]


def _readable_rows(
    db: sqlite3.Connection, table: str, column: str, value: str, missing: str
) -> list[tuple[int, bytes, Any]]:
    """Return number, body and a column of the rows from either end of a table up to what is damaged.

    `value` reads the column, and `missing` stands for it if the table has none.
    """
    found: dict[int, tuple[int, bytes, Any]] = {}
    with suppress(sqlite3.Error):  # what is damaged cannot be read: the rest is returned
        if column not in {each[1] for each in db.execute(f"PRAGMA table_info({table})")}:
            value = missing
        for order in ("ASC", "DESC"):
            query = f"SELECT rowid, {_BODY}, {value} FROM {table} ORDER BY rowid {order}"  # noqa: S608 - our own names
            with suppress(sqlite3.Error):  # the other order reads from the other end up to the damage
                for row in db.execute(query):
                    if row[0] in found:
                        break
                    found[row[0]] = row
    return [row for _, row in sorted(found.items())]


def require_files(path: Path) -> None:
    """Refuse an outbox if something that is no file is in the place of it, its lock, its log or its reserve.

    A folder in the place of the outbox itself is left to `unusable`, as it can be moved aside.

    Raises:
        Obstructed: there is a folder, a device or a link to nothing.
    """
    sqlite_files = [path.with_name(path.name + end) for end in _SQLITE_SUFFIXES]
    for each in (path, *sqlite_files, path.with_suffix(LOCK), path.with_suffix(RESERVE)):
        try:
            kind = stat.S_IFMT(each.stat().st_mode)
        except OSError:  # a link to nothing; or a file that there is not, or no longer
            kind = stat.S_IFLNK if each.is_symlink() else stat.S_IFREG
        if kind != stat.S_IFREG and (each, kind) != (path, stat.S_IFDIR):
            raise Obstructed(
                f"{each.name} is a folder, a device or a broken link, and not a file",
                where=str(each),
                hint="move it away",
            )


def moved_aside(folder: Path) -> list[Path]:
    """Return the files of a folder that were moved aside."""
    return sorted(folder.glob(f"*{UNREADABLE}"))


def move_aside(path: Path) -> Path:
    """Rename a file and its log to a name that no outbox has; return the file's new path."""
    taken = [each.name for each in path.parent.glob(f"{path.stem}-*{UNREADABLE}*")]
    names = (f"{path.stem}-{number}{UNREADABLE}" for number in count(1))
    aside = path.with_name(next(name for name in names if not any(each.startswith(name) for each in taken)))
    for end in (*_SQLITE_SUFFIXES, ""):
        with suppress(FileNotFoundError):  # not every outbox has all its files
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    return aside


def discard(path: Path) -> None:
    """Delete a file and its log."""
    for end in (*_SQLITE_SUFFIXES, ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def extend(path: Path, size: int) -> bool:
    """Extend a file with zeros, which SQLite takes for the end of its log and overwrites; return whether there was space."""
    try:
        with path.open("ab") as file:
            zeros = bytes(1 << 20)
            while file.tell() < size:
                file.write(zeros)
            file.flush()
            os.fdatasync(file.fileno())
    except OSError:  # a full disk: then a log file grows as it is written
        return False
    return True


def hint_of(error: sqlite3.Error) -> str:
    """Return what a person can do about an error of SQLite; empty if nothing is known."""
    return _HINTS.get(_code(error), "")


def _code(error: BaseException | None) -> int:
    """Return the primary code of an error of SQLite, the lowest byte of its code; 0 if it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def unusable(path: Path, error: BaseException) -> Unreachable:
    """Return the error of a file, or of the folder, that cannot be used."""
    if _code(error) in _NOT_AN_OUTBOX or (path.is_dir() and path.suffix == SUFFIX):
        return NotAnOutbox(f"not an outbox of predictions: {error}", where=str(path))
    hint = _HINTS.get(_code(error), "set CTCD_HOME to a writable folder on a disk with free space")
    return Unreachable(f"no outbox for predictions: {error}", where=str(path), hint=hint)
