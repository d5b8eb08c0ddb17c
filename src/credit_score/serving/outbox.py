"""Predictions on local disk until the store has them (transactional outbox).

Richardson, Microservices Patterns (2018), section 3.3: what has to reach another system is first committed locally, then
sent, then deleted. Sending twice is possible, losing is not; the receiver drops doubles by request id.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Self

from credit_score.errors import Unreachable

SUFFIX = ".db"


class OutboxFull(Unreachable):
    """The outbox cannot take a record now: it is at its limit, or its disk does not take it."""


class Outbox:
    """One SQLite file in WAL mode that survives the death of its process; safe to use from several threads.

    A process claims the file with a lock that the kernel gives back when the process dies, so that two never share one
    and none is left behind. The file has to be on a local file system.

    Args:
        path: the file; made if it is not there.
        lock: file descriptor that holds the claim; closed with the outbox.
        max_records: records that it holds at most.
    """

    def __init__(self, path: Path, lock: int, *, max_records: int) -> None:
        self.path = path
        self.max_records = max_records
        self.failure = ""
        """Why the last write failed; empty if it did not."""
        self._claim = lock
        self._lock = Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A commit is on disk, not in a cache, before the answer goes out.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            self._db.execute("CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            self._depth: int = self._db.execute("SELECT count(*) FROM records").fetchone()[0]
        except sqlite3.Error as error:
            os.close(lock)
            raise _unusable(path, error) from error

    @classmethod
    def claim(cls, folder: Path, *, max_records: int) -> Self:
        """Open the first outbox of a folder that no process holds, or a new one.

        Raises:
            Unreachable: the folder cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in count(1):
                path = folder / f"{number}{SUFFIX}"
                lock = _lock(path)
                if lock is not None:
                    return cls(path, lock, max_records=max_records)
        except OSError as error:
            raise _unusable(folder, error) from error
        raise AssertionError("count() does not end")

    @classmethod
    def abandoned(cls, folder: Path) -> Iterator[Self]:
        """Open, one after the other, the outboxes with records that dead processes left; the caller closes each."""
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
        """Records that are not in the store yet."""
        return self._depth

    def room_for(self, records: int) -> bool:
        """Return whether so many more records may be appended."""
        return self._depth + records <= self.max_records

    def append(self, bodies: Sequence[bytes]) -> None:
        """Commit records together; when this returns they survive the process and the machine.

        Raises:
            OutboxFull: none of them was taken.
        """
        if not self.room_for(len(bodies)):
            raise OutboxFull(
                f"{self._depth} predictions wait for the store, at most {self.max_records} may", where=str(self.path)
            )
        with self._lock:
            self._write("INSERT INTO records (body) VALUES (?)", [(body,) for body in bodies])
            self._depth += len(bodies)

    def oldest(self, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` records, oldest first, each with its sequence number."""
        with self._lock:
            return self._db.execute("SELECT seq, body FROM records ORDER BY seq LIMIT ?", (limit,)).fetchall()

    def delete(self, through: int) -> None:
        """Delete the records with sequence numbers up to `through`: the store has them.

        Raises:
            OutboxFull: the disk did not take the change; the records are still there.
        """
        with self._lock:
            self._depth -= self._write("DELETE FROM records WHERE seq <= ?", [(through,)])

    def usable(self) -> bool:
        """Return whether it takes records; after a failed write this is found out by writing."""
        if self.failure:
            with self._lock:
                try:
                    # As large as a few records, so that a disk with its last bytes free does not pass.
                    self._write("INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?))", [(16_384,)])
                except OutboxFull:
                    return False
        return self.room_for(1)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._db.close()
            os.close(self._claim)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            changed = self._db.executemany(statement, rows).rowcount
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.failure = str(error)
            raise OutboxFull(f"cannot be written to: {error}", where=str(self.path), hint="free its disk") from error
        self.failure = ""
        return changed


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
        f"no outbox for predictions: {error}",
        where=str(path),
        hint="set CREDIT_SCORE_HOME to a folder that can be written to",
    )
