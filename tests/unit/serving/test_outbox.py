"""The outbox keeps what it has accepted, whatever happens to its process."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import at_most

from ctcd.errors import Unreachable
from ctcd.serving.prediction_log import outbox as outbox_module
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox.claim(tmp_path, max_records=10)
    yield outbox
    outbox.close()


def bodies(outbox: Outbox) -> list[bytes]:
    return [body for _, body in outbox.oldest(1_000)]


def test_records_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    """All records are there, oldest first, when the file is opened again."""
    first = Outbox.claim(tmp_path, max_records=10)
    first.append([b"1", b"2"])
    first.append([b"3"])
    first.close()
    second = Outbox.claim(tmp_path, max_records=10)
    assert (second.path, second.depth, bodies(second)) == (first.path, 3, [b"1", b"2", b"3"])
    second.close()


def test_records_survive_kill_9(tmp_path: Path) -> None:
    """A process killed right after an append leaves its records, and its claim is released."""
    code = (
        "import os, signal, sys; from pathlib import Path; from ctcd.serving.prediction_log.outbox import Outbox\n"
        "Outbox.claim(Path(sys.argv[1]), max_records=10).append([b'1', b'2'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)  # noqa: S603 - our own command
    assert ended.returncode == -signal.SIGKILL
    outbox = Outbox.claim(tmp_path, max_records=10)
    assert (outbox.path.name, bodies(outbox)) == ("1.outbox", [b"1", b"2"])
    outbox.close()


def test_two_processes_never_share_a_file(outbox: Outbox, tmp_path: Path) -> None:
    """A second claim gets another file while the first is held."""
    other = Outbox.claim(tmp_path, max_records=10)
    assert other.path != outbox.path
    other.close()


def test_abandoned_outboxes_are_unclaimed_ones_with_records(outbox: Outbox, tmp_path: Path) -> None:
    """Claimed and empty ones are left alone."""
    outbox.append([b"held"])
    left, empty = Outbox.claim(tmp_path, max_records=10), Outbox.claim(tmp_path, max_records=10)
    left.append([b"left"])
    left.close()
    empty.close()
    found = list(Outbox.abandoned(tmp_path))
    assert [(each.path, bodies(each)) for each in found] == [(left.path, [b"left"])]
    found[0].close()


def test_delete_removes_sent_records_and_none_appended_since(outbox: Outbox) -> None:
    """Records appended while a batch is being sent stay."""
    outbox.append([b"1", b"2"])
    sent = outbox.oldest(10)
    outbox.append([b"3"])
    outbox.delete(through=sent[-1][0])
    assert (outbox.depth, bodies(outbox)) == (1, [b"3"])


def test_a_full_outbox_takes_nothing_and_says_so(outbox: Outbox) -> None:
    """A batch that does not fit is refused completely; once there is room, the outbox is usable again."""
    outbox.append([b"x"] * 9)
    with pytest.raises(OutboxFull, match="9 predictions wait"):
        outbox.append([b"y", b"z"])
    assert (outbox.depth, outbox.usable()) == (9, True)
    outbox.append([b"y"])
    assert not outbox.usable()
    outbox.delete(through=outbox.oldest(1)[-1][0])
    assert outbox.usable()


def test_a_batch_that_fails_halfway_leaves_no_records(outbox: Outbox) -> None:
    """All records of a batch are accepted or none, and the next batch is accepted."""
    with pytest.raises(OutboxFull, match="SQLITE_CONSTRAINT_NOTNULL"):
        outbox.append([b"first", None])  # type: ignore[list-item] # any error in the middle of a transaction will do
    assert (outbox.depth, bodies(outbox)) == (0, [])
    outbox.append([b"next"])
    assert bodies(outbox) == [b"next"]


def test_a_full_disk_refuses_and_recovers(outbox: Outbox) -> None:
    """A failed append is rolled back; the outbox is unusable until the disk has space again."""
    outbox.append([b"before"])
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    # SQLite then fails exactly as on a disk without space.
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxFull, match="SQLITE_FULL"):
        outbox.append([b"x" * 100_000])
    assert (outbox.usable(), outbox.depth, bodies(outbox)) == (False, 1, [b"before"])
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    assert outbox.usable()
    outbox.append([b"after"])
    assert bodies(outbox) == [b"before", b"after"]


def test_a_folder_that_is_not_writable_is_named(tmp_path: Path) -> None:
    """The error says which path cannot hold predictions."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(Unreachable, match=str(blocked)):
        Outbox.claim(blocked, max_records=10)


def test_a_file_that_is_not_an_outbox_is_named_and_released(tmp_path: Path) -> None:
    """The error has its path, and its claim is released."""
    (tmp_path / "1.outbox").write_bytes(b"no database at all" * 100)
    for _ in range(2):
        with pytest.raises(Unreachable, match=r"1\.outbox"):
            Outbox.claim(tmp_path, max_records=10)


@settings(max_examples=at_most(25), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=12))
def test_every_record_leaves_once_and_in_order(steps: list[tuple[int, int]]) -> None:
    """However appends and deletions alternate, the oldest are deleted, and the depth is the number of those left."""
    with TemporaryDirectory() as folder:
        outbox = Outbox.claim(Path(folder), max_records=1_000)
        appended, gone = 0, 0
        for add, take in steps:
            outbox.append([str(appended + index).encode() for index in range(add)])
            appended += add
            rows = outbox.oldest(take)
            if rows:
                outbox.delete(through=rows[-1][0])
                assert [int(body) for _, body in rows] == list(range(gone, gone + len(rows)))
                gone += len(rows)
            assert outbox.depth == appended - gone
        outbox.close()


def test_a_commit_extends_no_file(tmp_path: Path) -> None:
    """The log file has its size from the start, and its records survive a kill."""
    outbox = Outbox.claim(tmp_path, max_records=10_000)
    log = outbox.path.with_name(f"{outbox.path.name}-wal")
    size = log.stat().st_size
    assert size >= outbox_module.RESERVED_BYTES
    for _ in range(50):
        outbox.append([b"x" * 8_000])
    assert log.stat().st_size == size
    copy = tmp_path / "killed"
    copy.mkdir()
    for path in (outbox.path, log):  # as a killed process leaves them
        shutil.copy(path, copy / path.name)
    outbox.close()
    again = Outbox.claim(copy, max_records=10_000)
    assert [body for _, body in again.oldest(100)] == [b"x" * 8_000] * 50
    again.append([b"y"])
    assert again.depth == 51
    assert (copy / log.name).stat().st_size < outbox_module.RESERVED_BYTES + 2**21
    again.close()
