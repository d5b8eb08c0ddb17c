"""The queue of asynchronous requests and their answers, on local disk; all workers of a machine share it."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from ctcd.errors import Unreachable

MOST_ATTEMPTS = 5
"""How often a request is taken before it is given up: it may be what crashes the workers."""

_WAITING, _ANSWERED, _DONE = range(3)
"""States of a request: unanswered; answered, but its records are not in an outbox yet; done."""
# A lease with an end too far in the future was given before the clock was set back.
_FREE = f"state < {_DONE} AND NOT leased BETWEEN ? AND ?"
_TAKE = (
    "UPDATE requests SET leased = ?, attempts = attempts + 1 WHERE seq ="  # noqa: S608 - our own names
    f" (SELECT seq FROM requests WHERE {_FREE} ORDER BY seq LIMIT 1) RETURNING seq, id, body, received, attempts, state"
)
_FORMAT = 1
_TABLES = (
    # The large columns come last, so that SQLite can read the others without them.
    """CREATE TABLE requests (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, received REAL NOT NULL,
        leased REAL NOT NULL, attempts INTEGER NOT NULL, answered REAL NOT NULL, size INTEGER NOT NULL,
        status INTEGER NOT NULL, version TEXT NOT NULL, variant TEXT NOT NULL, body BLOB NOT NULL)""",
    "CREATE TABLE records (request INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL)",
    f"CREATE INDEX unfinished ON requests (seq) WHERE state < {_DONE}",
    "CREATE INDEX answers ON requests (answered)",
    "CREATE INDEX sizes ON requests (size)",
    "CREATE INDEX records_of ON records (request)",
    f"PRAGMA user_version = {_FORMAT}",
)


class QueueFull(Unreachable):
    """The queue cannot be used now: it has reached its limit, or its disk is full or fails."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A request that a worker has taken: no other worker takes it until its lease has expired.

    Args:
        waited: seconds since it was received.
        attempts: how often it has been taken, including this time.
        answered: whether it has been answered, so that only its records still have to be logged.
    """

    seq: int
    id: str
    body: bytes
    waited: float
    attempts: int
    answered: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to a request; while there is none, the status is 0 and the rest empty. For the variant, see `Trace`.

    Args:
        files: bytes that it has in files.
    """

    status: int
    body: bytes
    model_version: str = ""
    variant: str = ""
    files: int = 0


Answer = tuple[Result, list[tuple[bytes, int]], Counter[tuple[str, str, str]]]
"""The result of a request, its records with their rows, and its predictions by class, version and variant."""


class RequestQueue:
    """One SQLite file in WAL mode; safe to use from several threads and processes of one machine.

    A worker takes a request with a lease. If it has not answered when the lease expires, for example because it was
    killed, another worker takes the request; the first answer counts. An answer is committed together with its records
    for the prediction log, so that the two always agree; then the records move to an outbox. If the worker is killed in
    between, another one adds them to its own outbox, and the store drops duplicates.

    The file is reopened if it was replaced, so that a damaged file can be moved away while the service runs.

    Args:
        path: the file; created with its folder if it does not exist.
        most: maximum number of requests, including answered ones.
        most_bytes: maximum total size of bodies and answers above which no request is added.
        keep_seconds: how long an answer is kept.
        lease_seconds: how long a lease lasts.
    """

    def __init__(self, path: Path, *, most: int, most_bytes: int, keep_seconds: float, lease_seconds: float) -> None:
        self.path = path
        self._most, self._most_bytes = most, most_bytes
        self._keep, self._lease = keep_seconds, lease_seconds
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._file = 0

    def add(self, request_id: str, body: bytes) -> None:
        """Commit a request durably; one that is already in the queue is left unchanged.

        Raises:
            QueueFull: it was not accepted.
        """
        self._add([(request_id, len(body), body)])

    def _add(self, requests: Sequence[tuple[str, int, bytes]]) -> None:
        """Commit requests together, each with its id, its size in bytes and its body; without any, check for room."""
        now = time.time()
        with self._transaction() as db:
            self._expire(db, now)
            number, size = db.execute("SELECT count(*), total(size) FROM requests").fetchone()
            more = sum(size for _, size, _ in requests)
            if number + max(len(requests), 1) > self._most or size + more > self._most_bytes:
                raise QueueFull(
                    f"it holds {number} requests and answers with {size:.0f} bytes; the limits are {self._most} and"
                    f" {self._most_bytes} bytes",
                    where=str(self.path),
                )
            db.executemany(
                "INSERT OR IGNORE INTO requests (id, state, received, leased, attempts, answered, size, status, version,"
                " variant, body) VALUES (?, ?, ?, 0, 0, 0, ?, 0, '', '', ?)",
                [(each, _WAITING, now, size, body) for each, size, body in requests],
            )

    def take(self) -> Taken | None:
        """Take the oldest request without a lease; None if there is none.

        Raises:
            QueueFull: the file cannot be written.
        """
        with self._reading() as db:
            # Usually there is none; then nothing is written.
            query = f"SELECT 1 FROM requests WHERE {_FREE} LIMIT 1"  # noqa: S608 - our own names
            if not db.execute(query, self._leases(time.time())).fetchone():
                return None
        with self._transaction() as db:
            # With the lock: leases that others took meanwhile would end too late for an earlier `now`, and look
            # invalid.
            now = time.time()
            row = db.execute(_TAKE, (now + self._lease, *self._leases(now))).fetchone()
        if row is None:
            return None
        seq, request_id, body, received, attempts, state = row
        return Taken(
            seq=seq,
            id=request_id,
            body=body,
            waited=max(now - received, 0),
            attempts=attempts,
            answered=state == _ANSWERED,
        )

    def give_back(self, taken: Taken) -> None:
        """End the lease of a request that could not be answered for want of disk or store: that is no attempt at it.

        Raises:
            QueueFull: the file cannot be written; the request is taken again when its lease has expired.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE requests SET leased = 0, attempts = attempts - 1 WHERE seq = ? AND attempts = ? AND state = ?",
                (taken.seq, taken.attempts, _WAITING),
            )

    def finish(self, taken: Taken, result: Result, records: Sequence[tuple[bytes, int]] = ()) -> bool:
        """Replace a request by its answer, and add its records for the log, each with its number of predictions.

        Returns:
            False if another worker has answered first; then nothing is changed.

        Raises:
            QueueFull: the file cannot be written; it will be taken again.
        """
        with self._transaction() as db:
            now = time.time()
            done = db.execute(
                "UPDATE requests SET state = ?, leased = ?, answered = ?, size = ?, status = ?, version = ?, variant = ?, body = ?"
                " WHERE seq = ? AND id = ? AND state = ?",
                (
                    _ANSWERED if records else _DONE,
                    now + self._lease,
                    now,
                    len(result.body) + result.files,
                    result.status,
                    result.model_version,
                    result.variant,
                    result.body,
                    taken.seq,
                    taken.id,
                    _WAITING,
                ),
            ).rowcount
            if done:
                db.executemany(
                    "INSERT INTO records VALUES (?, ?, ?)", [(taken.seq, rows, body) for body, rows in records]
                )
        return bool(done)

    def _leases(self, now: float) -> tuple[float, float]:
        """Return the range of times in which a valid lease ends."""
        return now, now + self._lease

    def records(self, taken: Taken) -> list[tuple[bytes, int]]:
        """Return the records of an answer that are not in an outbox yet, each with its number of predictions.

        Raises:
            QueueFull: the file cannot be read.
        """
        with self._reading() as db:
            query = "SELECT body, rows FROM records WHERE request = ? ORDER BY rowid"
            return db.execute(query, (taken.seq,)).fetchall()

    def logged(self, taken: Taken) -> None:
        """Delete the records of an answer once they are in an outbox.

        Raises:
            QueueFull: the file cannot be written; they will be sent again, which is harmless.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM records WHERE request = ?", (taken.seq,))
            db.execute("UPDATE requests SET state = ? WHERE seq = ?", (_DONE, taken.seq))

    def result(self, request_id: str) -> Result | None:
        """Return the answer to a request; None if there is no such request, or its answer has expired.

        Raises:
            QueueFull: the file cannot be read.
        """
        with self._reading() as db:
            query = "SELECT status, version, variant, answered, iif(state, body, x''), state FROM requests WHERE id = ?"
            row = db.execute(query, (request_id,)).fetchone()
        # Not expired before its records are in an outbox, so that a redelivered message is not answered again.
        if row is None or (row[5] == _DONE and row[3] < time.time() - self._keep):
            return None
        return Result(status=row[0], model_version=row[1], variant=row[2], body=row[4])

    def forget(self, request_id: str) -> None:
        """Expire an answer now, or as soon as its records are in an outbox.

        Raises:
            QueueFull: the file cannot be written.
        """
        with self._transaction() as db:
            db.execute("UPDATE requests SET answered = 1 WHERE id = ? AND state > ?", (request_id, _WAITING))

    def waiting(self) -> tuple[int, float]:
        """Return how many requests have no answer, and how long the oldest of them has been waiting, in seconds.

        Raises:
            QueueFull: the file cannot be read.
        """
        with self._reading() as db:
            # The first condition makes SQLite use the partial index.
            query = f"SELECT count(*), min(received) FROM requests WHERE state < {_DONE} AND state = {_WAITING}"  # noqa: S608 - our own numbers
            number, oldest = db.execute(query).fetchone()
        return number, max(time.time() - oldest, 0) if number else 0

    def expire(self) -> None:
        """Delete expired answers.

        Raises:
            QueueFull: the file cannot be written.
        """
        with self._transaction() as db:
            self._expire(db, time.time())

    def _expire(self, db: sqlite3.Connection, now: float) -> None:
        db.execute(
            f"DELETE FROM requests WHERE answered > 0 AND answered < ? AND state = {_DONE}",  # noqa: S608 - our own number
            (now - self._keep,),
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection()
            except (sqlite3.Error, OSError) as error:
                self.close()
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                raise QueueFull(
                    f"the queue of requests cannot be used: {name}",
                    where=str(self.path),
                    hint="free its disk; if it is damaged, move it away",
                ) from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and self.path.exists() and self.path.stat().st_ino == self._file:
            return self._db
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._db, self._file = db, self.path.stat().st_ino
        return db


class PartQueue(RequestQueue):
    """The queue of the parts of files, whose ids are `<id of the file>/<number>`; the parts of a file expire together."""

    def require_room(self) -> None:
        """Check that a part could be added.

        Raises:
            QueueFull: it could not.
        """
        self._add([])

    def add_parts(self, file: str, parts: Sequence[tuple[int, bytes]]) -> None:
        """Commit the parts of a file durably, each with its size in bytes and its body.

        Raises:
            QueueFull: none was accepted.
        """
        self._add([(f"{file}/{number:06d}", *part) for number, part in enumerate(parts)])

    def parts(self, file: str) -> list[Result]:
        """Return the answers to the parts of a file in their order, with the bodies of those that have none yet.

        Returns:
            Nothing if there is no such file, or its answers have expired.

        Raises:
            QueueFull: the queue cannot be read.
        """
        with self._reading() as db:
            query = "SELECT status, body, state, answered FROM requests WHERE id BETWEEN ? AND ? ORDER BY id"
            rows = db.execute(query, (f"{file}/", f"{file}0")).fetchall()
        if all(state == _DONE and answered < time.time() - self._keep for _, _, state, answered in rows):
            return []
        return [Result(status=status, body=body) for status, body, _, _ in rows]

    def files(self) -> set[str]:
        """Return the ids of the files.

        Raises:
            QueueFull: the queue cannot be read.
        """
        with self._reading() as db:
            return {file for (file,) in db.execute("SELECT DISTINCT substr(id, 1, instr(id, '/') - 1) FROM requests")}

    def _expire(self, db: sqlite3.Connection, now: float) -> None:
        db.execute(
            "DELETE FROM requests WHERE substr(id, 1, instr(id, '/') - 1) IN (SELECT substr(id, 1, instr(id, '/') - 1)"
            " FROM requests GROUP BY 1 HAVING min(state) = ? AND max(answered) < ?)",
            (_DONE, now - self._keep),
        )


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    # A commit is flushed to disk before a request is accepted or an answer is available.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _FORMAT):
        raise sqlite3.DatabaseError("another format")
    for statement in _TABLES if version == 0 else ():
        db.execute(statement)
    db.execute("COMMIT")
