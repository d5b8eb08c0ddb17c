"""Predictions on local disk until the store has them (transactional outbox).

Richardson, Microservices Patterns (2018), section 3.3: a message to another system is first committed locally, then
sent, then deleted. It may be sent twice but is never lost; the receiver drops duplicates by request id.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Self

from ctcd.errors import Unreachable, shown
from ctcd.files import claim
from ctcd.serving.prediction_log.outbox_files import (
    LOCK,
    RESERVE,
    SUFFIX,
    DeadLetter,
    NotAnOutbox,
    Obstructed,
    damaged,
    discard,
    extend,
    hint_of,
    identity,
    move_aside,
    open_file,
    readable,
    require_files,
    require_identity,
    require_sound,
    still_readable,
    unusable,
    upgrade,
)

logger = logging.getLogger(__name__)

_WAL_PAGES = 4_000
"""Size of the log file, in pages, from which on a checkpoint restarts it."""
_WAL_PAGES_AT_MOST = 16_000
"""Size from which on an append checkpoints itself, because the shipper does not get round to it."""

RESERVED_BYTES = 32 << 20
"""Initial size of the log file: a commit that extends a file also waits for the file system's journal, which
occasionally takes ten times as long. It is what 4,500 predictions per second write between two restarts of the log
file."""
RESERVE_BYTES = 4 << 20
"""Size of the reserve: more than is written to delete a whole outbox."""


_OF_A_FILE = ("_db", "_out", "_files", "_depth", "_reserved", "_sent", "_refused")
"""What an outbox knows about its file, which is new with each."""


class OutboxFull(Unreachable):
    """The outbox cannot accept a record now: it is at its limit, or its disk is full or fails."""


class Outbox:
    """One SQLite file in WAL mode that survives the death of its process; safe to use from several threads.

    The process that fills it claims the file with a lock that the kernel releases when the process dies, so that two
    processes never share a file and none is left locked; another process may empty it meanwhile. The file must be on a
    local file system. A record holds one or more predictions.

    Deleting records needs disk space, too. So that an outbox whose disk is full can be emptied, it has a reserve, a
    file that is removed once everything has been sent. It accepts records only while it has one.

    If the file turns out to be damaged, or is no longer in its place, the process that fills the outbox goes on with a
    new file of the same name, which has what can still be read of the other one.

    Args:
        path: the file; created if it does not exist.
        lock: file descriptor that holds the claim, closed with the outbox; None if another process holds the claim.
        max_records: maximum number of predictions.

    Raises:
        NotAnOutbox: the file is damaged, or has a layout that this version does not know.
        Unreachable: the file cannot be opened now.
    """

    def __init__(self, path: Path, lock: int | None, *, max_records: int) -> None:
        self.path = path
        self.max_records = max_records
        self.failure = ""
        """Why the last write failed; empty if it succeeded."""
        self._claim = lock
        self._lock = RLock()
        self._reserve = path.with_suffix(RESERVE)
        self._reserved = True
        self._sent = 0
        """Records up to this one are in the store, and could not be deleted yet; 0 if there are none."""
        self._refused: list[DeadLetter] = []
        """Dead letters among them, by the number of their record."""
        self._depth = 0
        self._replaced: list[sqlite3.Connection] = []
        """Connections to the files before this one: other threads may be using them."""
        opened: list[sqlite3.Connection] = []
        try:
            # A commit is on disk, not in a cache, before the answer is sent.
            opened.append(open_file(path, synchronous="FULL", checkpoint_pages=_WAL_PAGES_AT_MOST))
            # If a deletion is lost, records are sent twice, harmlessly: these commits need not wait for the disk.
            opened.append(open_file(path, synchronous="NORMAL", checkpoint_pages=0))
            self._db, self._out = opened
            if lock is not None:
                upgrade(self._db)
            self._read_depth()
            self._files = identity(path)
            self._offered = self._out
            """Connection to the file that the records are from which `oldest` returned last."""
        except sqlite3.Error as error:
            for each in opened:
                each.close()
            raise unusable(path, error) from error

    @classmethod
    def claim(cls, folder: Path, *, max_records: int) -> Self:
        """Open the first outbox of a folder that no process has claimed and that can be used, or a new one.

        Raises:
            Unreachable: the folder is not writable.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in count(1):
                path = folder / f"{number}{SUFFIX}"
                existed = path.exists()
                try:
                    outbox = cls._claimed(path, max_records=max_records)
                except Unreachable as error:
                    if not (existed or isinstance(error, Obstructed)):
                        raise
                    logger.error("an outbox cannot be used now, another one is: %s", error)  # noqa: TRY400 - no traceback
                    continue
                if outbox is not None:
                    with suppress(OutboxFull):  # then it accepts nothing until there is space
                        outbox.settle()
                    outbox.refresh()
                    outbox.extend_log()
                    return outbox
        except OSError as error:
            raise unusable(folder, error) from error
        raise AssertionError("count() does not end")

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Open an outbox that another process fills, to empty it.

        Raises:
            Unreachable: the file cannot be used.
        """
        require_files(path)
        return cls(path, None, max_records=0)

    @classmethod
    def abandoned(cls, folder: Path) -> Iterator[Self]:
        """Open, one after the other, what dead processes left: outboxes with records or dead letters.

        One that cannot be opened is logged and skipped. The caller must close each.
        """
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                outbox = cls._claimed(path, max_records=0)
            except (OSError, Unreachable) as error:
                logger.error("an outbox that a process left cannot be used now: %s", shown(error))  # noqa: TRY400 - as above
                continue
            if outbox is None:
                continue
            if outbox.depth or outbox.dead_letters:
                yield outbox
            else:
                outbox.close()

    @classmethod
    def _claimed(cls, path: Path, *, max_records: int) -> Self | None:
        """Claim and open a file; return None if another process has claimed it.

        A file that is no outbox is moved aside and replaced, and what can be read of it is in its successor.
        """
        require_files(path)
        # A file of its own: closing any descriptor of a database would drop SQLite's locks on it.
        lock = claim(path.with_suffix(LOCK))
        if lock is None:
            return None
        try:
            try:
                return cls(path, lock, max_records=max_records)
            except NotAnOutbox as error:
                return cls._successor(path, lock, error, *readable(path), max_records=max_records)
            except Unreachable:
                reserve = path.with_suffix(RESERVE)
                if not reserve.exists():
                    raise
                reserve.unlink()  # the disk may be full
                return cls(path, lock, max_records=max_records)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _successor(
        cls,
        path: Path,
        lock: int,
        why: Unreachable,
        letters: Sequence[DeadLetter],
        rescued: Sequence[tuple[int, bytes]],
        *,
        max_records: int,
    ) -> Self:
        """Move a file aside and open a new one in its place, with what could be read of it.

        Raises:
            Unreachable: there is no new one.
        """
        aside = move_aside(path)
        opened: list[sqlite3.Connection] = []
        try:
            outbox = cls(path, lock, max_records=max_records)
            opened += [outbox._out, outbox._db]
            outbox._take(letters, rescued)
        except Unreachable:
            for each in opened:
                each.close()
            discard(path)
            raise
        logger.error(
            "%s; what there is of it is kept as %s; records of it that can be read are taken over: %d",
            why,
            aside.name,
            len(rescued),
        )
        return outbox

    def check(self) -> None:
        """Read the whole file, and go on with a new one if it is damaged or not in its place any more.

        Raises:
            NotAnOutbox: so it is, and another process fills it.
            OutboxFull: the new one cannot be opened.
        """
        out = self._out
        try:
            require_identity(self.path, self._files)
            # Another connection, because this one's may still have in memory what is damaged on disk.
            with closing(open_file(self.path, synchronous="NORMAL", checkpoint_pages=0)) as db:
                require_sound(db)
        except sqlite3.Error as error:
            if damaged(error):
                self._renew(out, error)

    def _renew(self, out: sqlite3.Connection, why: sqlite3.Error) -> None:
        """Go on with a new file, because the one of this connection is damaged or not in its place any more.

        What is left of it is moved aside, and what can be read is taken over: it may be sent twice, which is harmless.

        Raises:
            NotAnOutbox: another process fills this outbox.
            OutboxFull: the new one cannot be opened, or has no space for what was taken over; the next record tries
                again.
        """
        with self._lock:
            if self._claim is None:
                raise unusable(self.path, why) from why
            if self._out is not out:
                return  # another thread was first
            try:
                new = self._successor(
                    self.path,
                    self._claim,
                    unusable(self.path, why),
                    *still_readable(self._out),
                    max_records=self.max_records,
                )
            except (Unreachable, OSError) as error:
                self._reserved = False  # accepts nothing until `refresh` was able to open one
                raise OutboxFull("no new one can be opened", where=str(self.path), hint=shown(error)) from error
            self._replaced += [self._db, self._out]
            vars(self).update({name: vars(new)[name] for name in _OF_A_FILE})
        self.extend_log()

    @property
    def depth(self) -> int:
        """Predictions that are not in the store yet, as of the last write or `refresh` of this process."""
        return self._depth

    def refresh(self) -> int:
        """Read how many predictions are not in the store yet, and return it.

        Raises:
            OutboxFull: the file is damaged or gone, and no new one can be opened.
        """
        out = self._out
        try:
            require_identity(self.path, self._files)
            return self._read_depth()
        except sqlite3.Error as error:
            if not damaged(error):
                raise
            self._renew(out, error)
            return self._depth

    def _read_depth(self) -> int:
        self._reserved = self._reserve.exists()
        self._depth = self._out.execute("SELECT rows FROM sound_depth").fetchone()[0]
        return self._depth

    @property
    def dead_letters(self) -> int:
        """Number of dead letters."""
        count: int = self._out.execute("SELECT count(*) FROM refused").fetchone()[0]
        return count + len(self._refused)

    def room_for(self, rows: int) -> bool:
        """Return whether `rows` more predictions may be appended."""
        return self._depth + rows <= self.max_records or self.refresh() + rows <= self.max_records

    def append(self, bodies: Sequence[bytes], rows: Sequence[int] | None = None) -> None:
        """Commit records together; when this returns they survive the process and the machine.

        `rows` is the number of predictions in each record, by default one.

        Raises:
            OutboxFull: none of them was accepted.
        """
        rows = rows or [1] * len(bodies)
        total = sum(rows)
        if not self._reserved:
            raise OutboxFull("there is no space for its reserve", where=str(self.path), hint="free its disk")
        db = self._db
        try:
            self._append(bodies, rows, total)
        except OutboxFull:
            if self._db is db:
                raise
            self._append(bodies, rows, total)  # to the new file

    def _append(self, bodies: Sequence[bytes], rows: Sequence[int], total: int) -> None:
        with self._lock, self._transaction(self._db) as db:
            db.executemany("INSERT INTO records (body, rows) VALUES (?, ?)", zip(bodies, rows, strict=True))
            depth = _count(db, total)
            if depth > self.max_records:
                raise OutboxFull(
                    f"{depth - total} predictions wait for the store, at most {self.max_records} may",
                    where=str(self.path),
                )
        self._depth = depth

    def oldest(self, limit: int) -> list[tuple[int, bytes]]:
        """Return the oldest records to send, with about `limit` predictions in total, each as (sequence number, body)."""
        require_identity(self.path, self._files)
        self._offered = self._out
        found: list[tuple[int, bytes]] = []
        taken = 0
        # Closed, because an open query prevents the log file from being restarted.
        query = "SELECT seq, body, rows FROM sound_records WHERE seq > ? ORDER BY seq"
        with closing(self._offered.execute(query, (self._sent,))) as cursor:
            for seq, body, rows in cursor:
                if taken >= limit:
                    break
                found.append((seq, body))
                taken += rows
        return found

    def delete(self, through: int, refused: Sequence[DeadLetter] = ()) -> int:
        """Delete the records with sequence numbers up to `through`, which the store has.

        What it does not have of them, `refused`, is kept as dead letters. If the disk does not accept the change, the
        outbox remembers that they are in the store, does not offer them again, and deletes them with the next ones or
        in `settle`.

        Returns:
            The number of predictions in the records.
        """
        query = "SELECT coalesce(sum(rows), 0) FROM sound_records WHERE seq > ? AND seq <= ?"
        with self._lock:
            if self._out is not self._offered:
                return 0  # in the file that is used now, these numbers are those of other records
            deleted: int = self._out.execute(query, (self._sent, through)).fetchone()[0]
            self._sent = max(self._sent, through)
            self._refused += refused
            with suppress(OutboxFull):  # tried again after the next batch
                self._delete(shrink=False)
        return deleted

    def settle(self) -> None:
        """Delete what could not be deleted yet, and restore the reserve; to be called when everything has been sent.

        Raises:
            OutboxFull: the disk does not accept the change, even without the reserve.
        """
        missing = not self._reserve.exists()
        # Predictions that are counted but not there: then the count was wrong, and is corrected as well.
        if (self._sent or missing or self.refresh()) and not self.oldest(1):
            # Only now that nothing is left to send: what this frees is sure to be more than what it takes.
            self._delete(shrink=True)
        if missing or not self._reserve.exists():
            self._restore_reserve()

    def _delete(self, *, shrink: bool) -> None:
        """Delete what is in the store; to `shrink` the file as well, the space of the reserve is used."""
        # Shrinking changes many pages that are no longer part of the file when it commits: they need not be written.
        self._out.execute(f"PRAGMA cache_spill = {'OFF' if shrink else 'ON'}")
        with self._lock, self._transaction(self._out) as db:
            if shrink:
                # Within the transaction, because the process that fills the outbox would take the space.
                self._reserve.unlink(missing_ok=True)
            # A record is missing if another process emptied the outbox, too.
            refused = [
                (each.body, each.reason)
                for each in self._refused
                if db.execute("SELECT 1 FROM records WHERE seq = ?", (each.seq,)).fetchone()
            ]
            query = "SELECT coalesce(sum(rows), 0) FROM sound_records WHERE seq <= ?"
            deleted: int = db.execute(query, (self._sent,)).fetchone()[0]
            db.execute("DELETE FROM records WHERE seq <= ?", (self._sent,))
            db.executemany("INSERT INTO refused (body, reason) VALUES (?, ?)", refused)
            depth = _count(db, -deleted)
            if shrink:
                # Pages that are no longer part of the file need no space when the log file is moved into it.
                for _ in range(db.execute("PRAGMA freelist_count").fetchone()[0]):
                    # One page: Python ends a statement without columns after its first step.
                    db.execute("PRAGMA incremental_vacuum")
        self._depth = depth
        # Numbers may begin anew.
        self._sent = 0
        self._refused.clear()

    def letters(self, after: int = 0, limit: int | None = 1_000) -> list[DeadLetter]:
        """Return dead letters with numbers above `after`, oldest first, at most `limit`; None: all."""
        query = "SELECT seq, body, reason FROM sound_letters WHERE seq > ? ORDER BY seq LIMIT ?"
        return [
            DeadLetter(*row) for row in self._out.execute(query, (after, -1 if limit is None else limit)).fetchall()
        ]

    def forget(self, letters: Sequence[DeadLetter]) -> None:
        """Delete dead letters that the store, or whoever cares for them, has.

        Raises:
            OutboxFull: the disk did not accept the change; they are still there.
        """
        with self._lock, self._transaction(self._out) as db:
            query = "DELETE FROM refused WHERE seq IN (SELECT seq FROM sound_letters WHERE seq = ? AND body = ?)"
            db.executemany(query, [(each.seq, each.body) for each in letters])

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Add dead letters of another outbox, except those that are in this one.

        Raises:
            OutboxFull: the disk did not accept the change; none was added.
        """
        with self._lock, self._transaction(self._out) as db:
            known = {body for (body,) in db.execute("SELECT body FROM sound_letters")}
            new = [(each.body, each.reason) for each in letters if each.body not in known]
            db.executemany("INSERT INTO refused (body, reason) VALUES (?, ?)", new)

    def _take(self, letters: Sequence[DeadLetter], records: Sequence[tuple[int, bytes]]) -> None:
        """Add what was rescued from another file: dead letters, and records as (number of predictions, body)."""
        self.keep(letters)
        with self._lock, self._transaction(self._db) as db:
            db.executemany("INSERT INTO records (rows, body) VALUES (?, ?)", records)
            self._depth = _count(db, sum(rows for rows, _ in records))

    def checkpoint(self) -> None:
        """Move committed data from the log file into the database file, so that the log file stays small."""
        with suppress(sqlite3.Error):  # a full disk: the records stay in the log file
            _, pages, _ = self._out.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _WAL_PAGES:
                # Only while writers are blocked for a moment does a checkpoint complete and the log file restart.
                self._out.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def usable(self) -> bool:
        """Return whether records are accepted; after a failed write this is tested by writing."""
        if not self._reserved:
            with suppress(OutboxFull):  # it still has no reserve, which is the answer
                self.refresh()
            return self._reserved
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
            for each in (self._out, self._db, *self._replaced):
                each.close()
            if self._claim is not None:
                os.close(self._claim)

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self.failure = getattr(error, "sqlite_errorname", type(error).__name__)
            if damaged(error) and self._claim is not None:
                self._renew(self._out, error)
            raise OutboxFull(f"cannot be written: {self.failure}", where=str(self.path), hint=hint_of(error)) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        self.failure = ""

    def _restore_reserve(self) -> None:
        """Make the reserve if there is space for it."""
        with suppress(sqlite3.Error):  # gives the space of both files back
            self._out.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        part = self._reserve.with_suffix(f"{RESERVE}-part")
        if extend(part, RESERVE_BYTES):
            part.rename(self._reserve)
            self.extend_log()
        else:
            part.unlink(missing_ok=True)

    def extend_log(self) -> None:
        """Give the log file its initial size, if there is space for it."""
        extend(self.path.with_name(f"{self.path.name}-wal"), RESERVED_BYTES)


def _count(db: sqlite3.Connection, rows: int) -> int:
    """Add to the stored number of predictions, within a transaction, and return the sum; 0 if there are no records."""
    query = (
        "INSERT OR REPLACE INTO depth SELECT 1, iif(EXISTS (SELECT 1 FROM records), max(rows + ?, 0), 0) FROM sound_depth"
        " RETURNING rows"
    )
    depth: int = db.execute(query, (rows,)).fetchone()[0]
    return depth
