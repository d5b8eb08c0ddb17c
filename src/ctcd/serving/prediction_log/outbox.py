"""Predictions on local disk until the store has them (transactional outbox).

Richardson, Microservices Patterns (2018), section 3.3: a message to another system is first committed locally, then sent,
then deleted. It may be sent twice but is never lost; the receiver drops duplicates by request id.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Self

from ctcd.errors import Unreachable, shown

SUFFIX = ".outbox"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS depth (id INTEGER PRIMARY KEY CHECK (id = 1), rows INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO depth VALUES (1, 0)",
    # The dead letters, under the name that the table has in files of earlier versions.
    "CREATE TABLE IF NOT EXISTS refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
)
_WAL_PAGES = 4_000
"""Size of the log file, in pages, from which on a checkpoint restarts it."""
_WAL_PAGES_AT_MOST = 16_000
"""Size from which on an append checkpoints itself, because the shipper does not get round to it."""

RESERVED_BYTES = 32 << 20
"""Initial size of the log file: a commit that extends a file also waits for the file system's journal, which occasionally
takes ten times as long. It is what 6,000 predictions per second write between two restarts of the log file."""


class OutboxFull(Unreachable):
    """The outbox cannot accept a record now: it is at its limit, or its disk is full or fails."""


class Outbox:
    """One SQLite file in WAL mode that survives the death of its process; safe to use from several threads.

    The process that fills it claims the file with a lock that the kernel releases when the process dies, so that two
    processes never share a file and none is left locked; another process may empty it meanwhile. The file must be on a
    local file system. A record holds one or more predictions.

    Args:
        path: the file; created if it does not exist.
        lock: file descriptor that holds the claim, closed with the outbox; None if another process holds the claim.
        max_records: maximum number of predictions.
    """

    def __init__(self, path: Path, lock: int | None, *, max_records: int) -> None:
        self.path = path
        self.max_records = max_records
        self.failure = ""
        """Why the last write failed; empty if it succeeded."""
        self._claim = lock
        self._lock = Lock()
        try:
            # A commit is on disk, not in a cache, before the answer is sent.
            self._db = _open(path, synchronous="FULL", checkpoint_pages=_WAL_PAGES_AT_MOST)
            # If a deletion is lost, records are sent twice, which is harmless: these commits need not wait for the disk.
            self._out = _open(path, synchronous="NORMAL", checkpoint_pages=0)
            for statement in _TABLES:
                self._db.execute(statement)
            self._depth = 0
            self.refresh()
        except sqlite3.Error as error:
            if lock is not None:
                os.close(lock)
            raise _unusable(path, error) from error

    @classmethod
    def claim(cls, folder: Path, *, max_records: int) -> Self:
        """Open the first outbox of a folder that no process has claimed, or a new one.

        Raises:
            Unreachable: the folder is not writable.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in count(1):
                path = folder / f"{number}{SUFFIX}"
                lock = _lock(path)
                if lock is not None:
                    outbox = cls(path, lock, max_records=max_records)
                    _reserve(path)
                    return outbox
        except OSError as error:
            raise _unusable(folder, error) from error
        raise AssertionError("count() does not end")

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Open an outbox that another process fills, to empty it.

        Raises:
            Unreachable: the file cannot be used.
        """
        return cls(path, None, max_records=0)

    @classmethod
    def abandoned(cls, folder: Path) -> Iterator[Self]:
        """Open, one after the other, the outboxes with records that dead processes left; the caller must close each."""
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            lock = _lock(path)
            if lock is None:
                continue
            outbox = cls(path, lock, max_records=0)
            if outbox.depth:
                yield outbox
            else:
                outbox.close()

    @property
    def depth(self) -> int:
        """Predictions that are not in the store yet, as of the last write or `refresh` of this process."""
        return self._depth

    def refresh(self) -> int:
        """Read how many predictions are not in the store yet, and return it."""
        self._depth = self._out.execute("SELECT rows FROM depth").fetchone()[0]
        return self._depth

    @property
    def dead_letters(self) -> int:
        """Predictions that the store refuses because of their content."""
        count: int = self._out.execute("SELECT count(*) FROM refused").fetchone()[0]
        return count

    def room_for(self, rows: int) -> bool:
        """Return whether `rows` more predictions may be appended."""
        return self._depth + rows <= self.max_records or self.refresh() + rows <= self.max_records

    def append(self, bodies: Sequence[bytes], rows: Sequence[int] | None = None) -> None:
        """Commit records together; when this returns they survive the process and the machine.

        Args:
            bodies: the records.
            rows: number of predictions in each record; by default one.

        Raises:
            OutboxFull: none of them was accepted.
        """
        rows = rows or [1] * len(bodies)
        total = sum(rows)
        with self._lock, self._transaction(self._db) as db:
            depth = _count(db, total)
            if depth > self.max_records:
                raise OutboxFull(
                    f"{depth - total} predictions wait for the store, at most {self.max_records} may",
                    where=str(self.path),
                )
            db.executemany("INSERT INTO records (body, rows) VALUES (?, ?)", zip(bodies, rows, strict=True))
        self._depth = depth

    def oldest(self, limit: int) -> list[tuple[int, bytes]]:
        """Return the oldest records with about `limit` predictions in total, each as (sequence number, body)."""
        found: list[tuple[int, bytes]] = []
        taken = 0
        # Closed, because an open query prevents the log file from being restarted.
        with closing(self._out.execute("SELECT seq, body, rows FROM records ORDER BY seq")) as cursor:
            for seq, body, rows in cursor:
                if taken >= limit:
                    break
                found.append((seq, body))
                taken += rows
        return found

    def delete(self, through: int) -> int:
        """Delete the records with sequence numbers up to `through`, which the store has; return their number of predictions.

        Raises:
            OutboxFull: the disk did not accept the change; the records are still there.
        """
        with self._lock, self._transaction(self._out) as db:
            found = db.execute("SELECT coalesce(sum(rows), 0) FROM records WHERE seq <= ?", (through,)).fetchone()
            deleted: int = found[0]
            db.execute("DELETE FROM records WHERE seq <= ?", (through,))
            depth = _count(db, -deleted)
        self._depth = depth
        return deleted

    def dead_letter(self, seq: int, refused: Sequence[tuple[bytes, str]]) -> None:
        """Keep the predictions of a record that the store refuses, and delete the record, as the store has the others.

        Args:
            seq: sequence number of the record.
            refused: the refused predictions, each as (body, reason).

        Raises:
            OutboxFull: the disk did not accept the change; the record is unchanged.
        """
        with self._lock, self._transaction(self._out) as db:
            # The record is missing if another process emptied the outbox, too.
            gone = db.execute("DELETE FROM records WHERE seq = ? RETURNING rows", (seq,)).fetchall()
            if gone:
                db.executemany("INSERT INTO refused (body, reason) VALUES (?, ?)", refused)
            depth = _count(db, -sum(rows for (rows,) in gone))
        self._depth = depth

    def checkpoint(self) -> None:
        """Move committed data from the log file into the database file, so that the log file stays small."""
        with suppress(sqlite3.Error):  # a full disk: the records stay in the log file
            _, pages, _ = self._out.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _WAL_PAGES:
                # Only while writers are blocked for a moment does a checkpoint complete and the log file restart.
                self._out.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def usable(self) -> bool:
        """Return whether records are accepted; after a failed write this is tested by writing."""
        if self.failure:
            try:
                with self._lock, self._transaction(self._db) as db:
                    # As large as a few records, so that a disk with only a few bytes left fails.
                    db.execute("INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?))", (16_384,))
            except OutboxFull:
                return False
        return self.room_for(1)

    def close(self) -> None:
        """Close the file and release its claim."""
        with self._lock:
            self._out.close()
            self._db.close()
            if self._claim is not None:
                os.close(self._claim)

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except OutboxFull:
            db.execute("ROLLBACK")
            raise
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.failure = getattr(error, "sqlite_errorname", type(error).__name__)
            raise OutboxFull(
                f"cannot be written: {self.failure}", where=str(self.path), hint="free its disk"
            ) from error
        self.failure = ""


def _open(path: Path, *, synchronous: str, checkpoint_pages: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
    # Some builds of SQLite overwrite deleted data with zeros, which doubles what a deletion writes.
    db.execute("PRAGMA secure_delete = OFF")
    return db


def _reserve(path: Path) -> None:
    """Extend the log file with zeros, which SQLite takes for the end of its content and overwrites."""
    with (
        suppress(OSError),
        path.with_name(f"{path.name}-wal").open("ab") as log,
    ):  # a full disk: then the log file grows as it is written
        zeros = bytes(1 << 20)
        while log.tell() < RESERVED_BYTES:
            log.write(zeros)
        log.flush()
        os.fdatasync(log.fileno())


def _count(db: sqlite3.Connection, rows: int) -> int:
    """Add to the stored number of predictions, within a transaction, and return the sum."""
    depth: int = db.execute("UPDATE depth SET rows = rows + ? RETURNING rows", (rows,)).fetchone()[0]
    return depth


def _lock(path: Path) -> int | None:
    # A file of its own: closing any descriptor of a database would drop SQLite's locks on it.
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _unusable(path: Path, error: Exception) -> Unreachable:
    return Unreachable(
        f"no outbox for predictions: {shown(error)}",
        where=str(path),
        hint="set CTCD_HOME to a writable folder",
    )
