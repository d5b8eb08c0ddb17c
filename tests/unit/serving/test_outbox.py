"""The outbox keeps what it has accepted, whatever happens to its process."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import at_most
from support.instance import INSTANCE
from support.outboxes import record
from support.serving import empty_store, logged_ids

from ctcd.errors import Unreachable
from ctcd.serving.prediction_log import outbox as outbox_module
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.prediction_log.outbox_files import (
    DeadLetter,
    NotAnOutbox,
    Obstructed,
    extend,
    identity,
    moved_aside,
    unusable,
)
from ctcd.serving.prediction_log.shipper import resend
from ctcd.settings import Settings
from ctcd.stages.outbox import export, list_outboxes, retry


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


@pytest.mark.slow
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


def test_room_is_found_when_another_process_has_emptied_the_outbox(outbox: Outbox) -> None:
    """What this process knew last is looked up again before it refuses."""
    outbox.append([b"1", b"2"], [4, 6])
    with closing(Outbox.attach(outbox.path)) as shipping:
        assert not outbox.room_for(1)
        shipping.delete(1)
        assert not outbox.room_for(5)
        assert outbox.room_for(4)
        shipping.delete(2)
    assert outbox.room_for(10)


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
    with pytest.raises(OutboxFull) as refused:
        outbox.append([b"first", None])  # type: ignore[list-item] # any error in the middle of a transaction will do
    assert str(refused.value) == f"{outbox.path}: cannot be written: SQLITE_CONSTRAINT_NOTNULL"
    assert (outbox.depth, bodies(outbox)) == (0, [])
    outbox.append([b"next"])
    assert bodies(outbox) == [b"next"]


def test_a_full_disk_refuses_and_recovers(outbox: Outbox) -> None:
    """A failed append is rolled back; the outbox is unusable until the disk has space again."""
    outbox.append([b"before"])
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    # SQLite then fails exactly as on a disk without space.
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxFull, match=r"SQLITE_FULL.*\(free its disk\)$"):
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


def database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


RECORDS = "CREATE TABLE records (seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, body BLOB NOT NULL)"
REFUSES_ALL = "CREATE TRIGGER refuses_all BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'no'); END"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "not a database"),
        (lambda path: path.mkdir(), "unable to open"),
        (
            lambda path: database(
                path, "CREATE TABLE records (seq INTEGER PRIMARY KEY, other TEXT)", "INSERT INTO records VALUES (1, '')"
            ),
            "no such column",
        ),
        (
            lambda path: database(path, "CREATE VIEW records AS SELECT 1 seq, 1 rows, x'' body WHERE 0"),
            "another layout: records",
        ),
        (lambda path: database(path, f"{RECORDS[:-1]}, extra TEXT NOT NULL)"), "another layout: records"),
        (lambda path: database(path, f"{RECORDS[:-1]}, CHECK (length(body) > 9))"), "another layout: records"),
        (lambda path: database(path, RECORDS, REFUSES_ALL), "another layout: refuses_all"),
        (lambda path: database(path, "CREATE TABLE depth (x)", "CREATE TABLE records (seq, body)"), "table depth has"),
    ],
)
def test_a_file_that_is_no_outbox_is_moved_aside(
    tmp_path: Path, make: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept under another name, the log says why, and an outbox takes its place; the same again for the next one."""
    for number in (1, 2):
        make(tmp_path / "1.outbox")
        outbox = Outbox.claim(tmp_path, max_records=10)
        assert outbox.path.name == "1.outbox"
        outbox.append([b"1"])
        assert bodies(outbox) == [b"1"]
        outbox.close()
        (tmp_path / "1.outbox").unlink()
        aside = moved_aside(tmp_path)
        assert [path.name for path in aside] == [f"1-{each + 1}.unreadable" for each in range(number)]
        assert (why in caplog.text, aside[-1].name in caplog.text) == (True, True)
        caplog.clear()


def test_what_can_be_read_of_a_damaged_file_is_taken_over(tmp_path: Path) -> None:
    """A page in the middle is overwritten: the records on all other pages are in the new outbox, in order."""
    outbox = Outbox.claim(tmp_path, max_records=10_000)
    outbox.append([b"%04d" % number * 100 for number in range(1_000)])
    outbox.delete(1, [DeadLetter(1, b"dead", "a reason")])
    outbox.close()
    path = tmp_path / "1.outbox"
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 8192 * 4096
    damaged[middle : middle + 4096] = b"x" * 4096
    path.write_bytes(damaged)
    again = Outbox.claim(tmp_path, max_records=10_000)
    left = [int(body[:4]) for body in bodies(again)]
    assert left == sorted(set(left))
    assert 980 <= len(left) == again.depth < 999
    assert again.letters() == [DeadLetter(1, b"dead", "a reason")]
    assert moved_aside(tmp_path)[0].read_bytes() == damaged
    again.close()


def overwrite(path: Path, first: int = 0) -> None:
    """Overwrite the pages of a file from `first` on."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(first * 4096)
        file.write(b"x" * (size - file.tell()))


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def replace(path: Path) -> None:
    """Replace a file by a copy of it."""
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.replace(path)


DAMAGE: dict[str, tuple[Callable[[Path], None], int]] = {
    "header": (overwrite, 0),
    "all pages but the header": (lambda path: overwrite(path, 1), 0),
    "emptied": (lambda path: path.open("wb").close(), 0),
    "deleted": (Path.unlink, 300),
    "log deleted": (lambda path: log_of(path).unlink(), 300),
    "index of the log deleted": (lambda path: path.with_name(f"{path.name}-shm").unlink(), 300),
    "replaced": (replace, 300),
}
"""What happens to the files of an outbox in use, and how many of its 300 records can still be read."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_outbox_that_is_damaged_in_use_goes_on_with_a_new_file(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Records are accepted without a refusal, what can be read of the others is there, and so it is after a restart."""
    damage, left = DAMAGE[kind]
    outbox = Outbox.claim(tmp_path, max_records=1_000)
    outbox.append([b"%03d" % number * 100 for number in range(300)])
    outbox._out.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    damage(outbox.path)
    outbox.append([b"since"])
    assert outbox.refresh() == left + 1
    outbox.append([b"after"])
    outbox.close()
    outbox = Outbox.claim(tmp_path, max_records=1_000)
    assert outbox.path.name == "1.outbox"
    assert [int(body[:3]) for body in bodies(outbox)[:-2]] == list(range(left))
    assert bodies(outbox)[-2:] == [b"since", b"after"]
    assert [path.name for path in moved_aside(tmp_path)] == ["1-1.unreadable"] * (kind != "deleted")
    assert "records of it that can be read are taken over" in caplog.text
    outbox.close()


@pytest.mark.parametrize("part", ["a page", "the log"])
def test_damage_that_only_the_process_that_ships_meets_is_found_by_the_one_that_fills(
    tmp_path: Path, part: str
) -> None:
    """A page in the middle is overwritten, in the file or in its log, which appending does not read: all others are kept."""
    outbox = Outbox.claim(tmp_path, max_records=10_000)
    outbox.append([b"%03d" % number * 1_000 for number in range(300)])
    reader = Outbox.attach(outbox.path)
    if part == "a page":
        outbox._out.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    with (outbox.path if part == "a page" else log_of(outbox.path)).open("r+b") as file:
        file.seek(4_120 * 100)
        file.write(b"x" * 4_096)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        reader.oldest(1_000)
    outbox.check()
    with pytest.raises(sqlite3.DatabaseError, match="deleted, renamed or replaced"):
        reader.oldest(1_000)
    reader.close()
    left = [int(body[:3]) for body in bodies(outbox)]
    assert left == sorted(set(left))
    assert 280 <= len(left) == outbox.depth < 300
    outbox.check()
    assert len(moved_aside(tmp_path)) == 1
    outbox.close()


def test_a_damaged_outbox_is_listed_as_unusable(tmp_path: Path) -> None:
    """A page of its dead letters is overwritten while no service runs: the command says so, and changes nothing."""
    settings = Settings(home=tmp_path)
    outbox = Outbox.claim(settings.outbox, max_records=10)
    outbox.keep([DeadLetter(0, b"%03d" % number * 200, "a reason") for number in range(100)])
    outbox.close()
    damaged = bytearray(outbox.path.read_bytes())
    middle = len(damaged) // 8192 * 4096
    damaged[middle : middle + 4096] = b"x" * 4096
    outbox.path.write_bytes(damaged)
    report = list_outboxes(settings)
    assert (report.unusable, report.letters) == ({"1.outbox": "not an outbox of predictions: it is damaged"}, [])
    assert outbox.path.read_bytes() == damaged


def test_numbers_of_a_file_that_was_replaced_delete_nothing(outbox: Outbox) -> None:
    """A batch that was being sent when the file was deleted is offered again, and deleted only then."""
    outbox.append([b"1", b"2"])
    [(_, body), *_] = sent = outbox.oldest(10)
    outbox.path.unlink()
    outbox.refresh()
    outbox.append([b"3"])
    assert (outbox.delete(sent[-1][0]), body) == (0, b"1")
    assert bodies(outbox) == [b"1", b"2", b"3"]
    assert outbox.delete(sent[-1][0]) == 2
    assert bodies(outbox) == [b"3"]


def test_every_file_of_an_outbox_is_closed_with_it(tmp_path: Path) -> None:
    """Also those that were replaced before the last one, whose connections other threads may have been using."""
    outbox = Outbox.claim(tmp_path, max_records=10)
    connections = []
    for _ in range(3):
        connections += [outbox._db, outbox._out]
        outbox.path.unlink()
        outbox.refresh()
    outbox.close()
    for each in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            each.execute("SELECT 1")


def test_a_damaged_outbox_that_nothing_can_replace_refuses_until_something_can(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be read of it is kept meanwhile: it is in the new file once there is one."""
    outbox.append([b"1"])
    outbox.path.unlink()
    with monkeypatch.context() as patched:
        # A disk cannot be filled exactly between two steps of one call.
        patched.setattr(Outbox, "_take", lambda *_: (_ for _ in ()).throw(OutboxFull("a full disk")))
        for _ in range(3):
            with pytest.raises(OutboxFull) as refused:
                outbox.refresh()
            assert str(refused.value) == f"{outbox.path}: no new one can be opened (a full disk)"
        with pytest.raises(OutboxFull):
            outbox.append([b"2"])
        assert not outbox.usable()
    assert [path.name for path in tmp_path.glob("1.outbox*")] == []
    assert outbox.usable()
    outbox.append([b"2"])
    assert (bodies(outbox), outbox.depth) == ([b"1", b"2"], 2)


def test_cells_of_any_type_are_taken_over(tmp_path: Path) -> None:
    """From a file that is moved aside; a body as its bytes, and a number of predictions that is none as one."""
    database(
        tmp_path / "1.outbox",
        "CREATE TABLE records (seq INTEGER PRIMARY KEY, rows, body)",
        "INSERT INTO records (rows, body) VALUES (3, x'41'), ('x', 'B'), (NULL, NULL), (1, 5), (-1, x'43')",
        "CREATE TABLE refused (seq INTEGER PRIMARY KEY, body, reason)",
        "INSERT INTO refused (body, reason) VALUES (5, NULL), (NULL, 6), ('text', CAST(x'ff' AS TEXT))",
    )
    outbox = Outbox.claim(tmp_path, max_records=10)
    assert (bodies(outbox), outbox.depth) == ([b"A", b"B", b"", b"5", b"C"], 7)
    assert [(each.body, each.reason) for each in outbox.letters()] == [(b"5", ""), (b"", "6"), (b"text", "\ufffd")]
    outbox.close()


def test_a_dead_letter_of_any_type_hides_no_other(tmp_path: Path) -> None:
    """Whatever is in its cells, it is listed, exported with its bytes, and removed, like the others."""
    settings = Settings(home=tmp_path)
    outbox = Outbox.claim(settings.outbox, max_records=10)
    outbox.keep([DeadLetter(0, b"first", "a reason")])
    database(outbox.path, "INSERT INTO refused (body, reason) VALUES (5, 'x'), ('text', 7), (1.5, CAST(x'ff' AS TEXT))")
    assert [(each.reason, each.size) for each in list_outboxes(settings).letters] == [
        ("a reason", 5), ("x", 1), ("7", 4), ("\ufffd", 3),
    ]  # fmt: skip

    def send(bodies: list[bytes]) -> None:
        records.decode(bodies[0])

    sent, left = resend(outbox.letters(), send)
    assert (len(sent), {each.reason.partition(":")[0] for each in left}) == (0, {"unreadable"})
    assert export(settings, tmp_path / "letters", remove=True).letters == 4
    exported = [json.loads(line) for line in (tmp_path / "letters").read_text().splitlines()]
    assert [b64decode(each["base64"]) for each in exported] == [b"first", b"5", b"text", b"1.5"]
    assert outbox.dead_letters == 0
    outbox.close()


OBSTACLES: dict[str, Callable[[Path], None]] = {
    "1.lock": Path.mkdir,
    "1.outbox-wal": Path.mkdir,
    "1.outbox-shm": Path.mkdir,
    "1.reserve": Path.mkdir,
    "1.outbox": lambda path: path.symlink_to("nowhere"),
    "1.outbox-wal ": lambda path: os.mkfifo(path.with_name("1.outbox-wal")),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_is_no_file_is_named_and_another_outbox_is_used(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder, a pipe or a broken link in the place of any file of an outbox neither stops a worker nor hides an outbox."""
    left = Outbox.claim(tmp_path / "left", max_records=10)
    left.append([b"left"])
    left.close()
    left.path.rename(tmp_path / "3.outbox")
    OBSTACLES[name](tmp_path / name)
    outbox = Outbox.claim(tmp_path, max_records=10)
    assert outbox.path.name == "2.outbox"
    [line] = caplog.messages
    assert line == (
        f"an outbox cannot be used now, another one is: {tmp_path / name.strip()}: {name.strip()} is a folder, a device"
        " or a broken link, and not a file (move it away)"
    )
    with pytest.raises(Obstructed):
        Outbox.attach(tmp_path / "1.outbox")
    found = list(Outbox.abandoned(tmp_path))
    assert [bodies(each) for each in found] == [[b"left"]]
    for each in (*found, outbox):
        each.close()


def test_a_file_of_a_newer_version_is_moved_aside_and_its_records_are_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever goes back to an earlier version loses neither the service nor a record; the log says what happened."""
    outbox = Outbox.claim(tmp_path, max_records=10)
    outbox.append([b"1", b"2"], [1, 3])
    outbox.close()
    # Nobody knows what that version writes.
    text = "INSERT INTO records (rows, body) VALUES (1, 'text'), (2, x'33')"
    database(tmp_path / "1.outbox", "PRAGMA user_version = 99", text)
    again = Outbox.claim(tmp_path, max_records=10)
    assert (bodies(again), again.depth) == ([b"1", b"2", b"text", b"3"], 7)
    assert [path.name for path in moved_aside(tmp_path)] == ["1-1.unreadable"]
    again.close()
    (said,) = caplog.messages
    assert (
        "1.outbox: not an outbox of predictions: it has format 99, and this version of ctcd reads up to 1; what" in said
    )
    assert said.endswith("is kept as 1-1.unreadable; records of it that can be read are taken over: 4")


def test_records_without_a_number_of_predictions_are_of_one_each(tmp_path: Path) -> None:
    """Records without a number of predictions count as one each, also in a file of another version."""
    insert = "INSERT INTO records (body) VALUES (x'41'), (x'42')"
    database(tmp_path / "1.outbox", *OLDER["records of one prediction each"], insert, "PRAGMA user_version = 99")
    outbox = Outbox.claim(tmp_path, max_records=10)
    assert (bodies(outbox), outbox.depth) == ([b"A", b"B"], 2)
    outbox.close()


OLDER = {
    "records of one prediction each": ("CREATE TABLE records (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)",),
    "no counted depth": (
        "CREATE TABLE records (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, rows INTEGER NOT NULL)",
        "CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL)",
    ),
    "no version": (
        "CREATE TABLE records (seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE TABLE depth (id INTEGER PRIMARY KEY CHECK (id = 1), rows INTEGER NOT NULL)",
        "CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL)",
    ),
}


@pytest.mark.parametrize("layout", OLDER)
def test_a_file_of_an_older_layout_is_upgraded_with_its_records(tmp_path: Path, layout: str) -> None:
    """It stays in use, nothing is moved aside, and it can be made smaller like a new one."""
    insert = "INSERT INTO records (body, rows) VALUES (x'41', 1), (x'42', 1)"
    if "rows" not in OLDER[layout][0]:
        insert = "INSERT INTO records (body) VALUES (x'41'), (x'42')"
    database(tmp_path / "1.outbox", *OLDER[layout], insert)
    outbox = Outbox.claim(tmp_path, max_records=10)
    assert (outbox.path.name, outbox.depth, bodies(outbox), moved_aside(tmp_path)) == ("1.outbox", 2, [b"A", b"B"], [])
    outbox.append([b"C"], [3])
    outbox.delete(through=2)
    assert (outbox.depth, bodies(outbox)) == (3, [b"C"])
    assert outbox._out.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    outbox.close()


def test_a_wrong_depth_is_counted_again(tmp_path: Path) -> None:
    """Whatever a file says of its depth, it is what its records say once it is opened."""
    outbox = Outbox.claim(tmp_path, max_records=10)
    outbox.append([b"1"], [4])
    for wrong in ("UPDATE depth SET rows = 99", "DELETE FROM depth"):
        outbox.close()
        database(tmp_path / "1.outbox", wrong)
        outbox = Outbox.claim(tmp_path, max_records=10)
        assert outbox.depth == 4
    outbox.close()


@pytest.mark.slow
def test_an_unreadable_outbox_does_not_hide_the_others(tmp_path: Path) -> None:
    """Outboxes that dead processes left are found behind one that is damaged, which is moved aside."""
    mine = Outbox.claim(tmp_path, max_records=10)
    left = [Outbox.claim(tmp_path, max_records=10) for _ in range(3)]
    for outbox in left:
        outbox.append([outbox.path.name.encode()])
        outbox.close()
    left[0].path.write_bytes(b"no database at all" * 100)
    found = []
    for outbox in Outbox.abandoned(tmp_path):
        found += bodies(outbox)
        outbox.close()
    assert found == [b"3.outbox", b"4.outbox"]
    assert [path.name for path in moved_aside(tmp_path)] == ["2-1.unreadable"]
    mine.close()


def test_a_folder_that_cannot_be_read_is_not_one_without_outboxes(tmp_path: Path) -> None:
    """Such as that of another user, or on a disk that is not mounted: nobody is told that no prediction waits.

    Before the first start there is none.
    """
    homes = [Settings(home=tmp_path), Settings(home=tmp_path / "home")]
    assert [list_outboxes(home).waiting for home in homes] == [{}, {}]
    for link in (homes[0].outbox, homes[1].home):
        link.symlink_to(tmp_path / "disk")
    for expected in (FileNotFoundError, NotADirectoryError):
        for act in (list_outboxes, retry, partial(export, to=tmp_path / "exported")):
            for home in homes:
                with pytest.raises(expected):
                    act(home)
        (tmp_path / "disk").touch()  # root may read every folder
    assert not (tmp_path / "exported").exists()


def test_an_abandoned_outbox_that_cannot_be_used_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The line names the file and says why."""
    Outbox.claim(tmp_path, max_records=10).close()
    (tmp_path / "1.reserve").unlink()
    (tmp_path / "1.reserve").mkdir()
    assert list(Outbox.abandoned(tmp_path)) == []
    [line] = caplog.messages
    assert line.startswith(f"an outbox that a process left cannot be used now: {tmp_path / '1.reserve'}: ")


def fill(folder: Path) -> sqlite3.Connection:
    """Return a connection whose transaction keeps everybody else from writing."""
    db = sqlite3.connect(folder / "1.outbox", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


def test_records_that_cannot_be_deleted_are_not_offered_again(outbox: Outbox, tmp_path: Path) -> None:
    """They are deleted with the next ones or when the outbox settles; dead letters among them are kept."""
    outbox.append([b"%d" % number for number in range(6)])
    outbox._out.execute("PRAGMA busy_timeout = 0")
    locked = fill(tmp_path)
    assert outbox.delete(2, [DeadLetter(2, b"1", "refused")]) == 2
    assert (bodies(outbox), outbox.refresh(), outbox.dead_letters) == ([b"2", b"3", b"4", b"5"], 6, 1)
    locked.execute("ROLLBACK")
    assert outbox.delete(3) == 1
    assert (bodies(outbox), outbox.refresh(), outbox.dead_letters) == ([b"3", b"4", b"5"], 3, 1)
    locked.execute("BEGIN IMMEDIATE")
    assert outbox.delete(6) == 3
    with pytest.raises(OutboxFull, match="SQLITE_BUSY"):
        outbox.settle()
    assert (bodies(outbox), outbox.refresh()) == ([], 3)
    locked.execute("ROLLBACK")
    outbox.settle()
    outbox.append([b"7"])
    assert (bodies(outbox), outbox.depth) == ([b"7"], 1)
    assert [(each.body, each.reason) for each in outbox.letters()] == [(b"1", "refused")]
    locked.close()


def test_an_outbox_accepts_records_only_while_it_has_its_reserve(outbox: Outbox, tmp_path: Path) -> None:
    """Without one, what it accepts could not be deleted from a full disk; it is made again as soon as there is space."""
    (tmp_path / "1.reserve").unlink()
    outbox.refresh()
    with pytest.raises(OutboxFull, match="reserve"):
        outbox.append([b"1"])
    assert not outbox.usable()
    outbox.settle()
    assert outbox.usable()
    outbox.append([b"1"])


def test_dead_letters_of_another_outbox_are_added_once(outbox: Outbox) -> None:
    """A process that is killed between adding them here and deleting them there doubles none."""
    letters = [DeadLetter(1, b"a", "x"), DeadLetter(2, b"b", "y")]
    outbox.keep(letters[:1])
    outbox.keep(letters)
    assert [(each.body, each.reason) for each in outbox.letters()] == [(b"a", "x"), (b"b", "y")]
    outbox.forget(outbox.letters(limit=1))
    assert [each.body for each in outbox.letters()] == [b"b"]


@pytest.mark.slow
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
    for _ in range(40):
        outbox.append([b"x" * 8_000])
    assert log.stat().st_size == size
    copy = tmp_path / "killed"
    copy.mkdir()
    for path in (outbox.path, log):  # as a killed process leaves them
        shutil.copy(path, copy / path.name)
    outbox.close()
    again = Outbox.claim(copy, max_records=10_000)
    assert [body for _, body in again.oldest(100)] == [b"x" * 8_000] * 40
    again.append([b"y"])
    assert again.depth == 41
    assert (copy / log.name).stat().st_size < outbox_module.RESERVED_BYTES + 2**21
    again.close()


def test_a_refusal_names_the_file_the_reason_and_what_to_do(outbox: Outbox, tmp_path: Path) -> None:
    """Whether there is no reserve, no room, no folder or no outbox."""
    outbox.append([b"1"] * 10)
    assert outbox.room_for(0)
    assert not outbox.room_for(1)
    with pytest.raises(OutboxFull) as full:
        outbox.append([b"11"])
    assert str(full.value) == f"{outbox.path}: 10 predictions wait for the store, at most 10 may"
    outbox.path.with_suffix(".reserve").unlink()
    outbox.refresh()
    with pytest.raises(OutboxFull) as reserve:
        outbox.append([b"11"])
    assert str(reserve.value) == f"{outbox.path}: there is no space for its reserve (free its disk)"
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable) as folder:
        Outbox.claim(tmp_path / "file", max_records=1)
    assert str(folder.value).startswith(f"{tmp_path / 'file'}: no outbox for predictions: [Errno 17] File exists")
    assert str(folder.value).endswith("(set CTCD_HOME to a writable folder on a disk with free space)")
    for name, reason in (("2.outbox", "file is not a database"), ("3.outbox", "no such table: depth")):
        (tmp_path / name).write_bytes(b"not a database at all" * 100 if name == "2.outbox" else b"")
        with pytest.raises(NotAnOutbox) as other:
            Outbox.attach(tmp_path / name)
        assert str(other.value) == f"{tmp_path / name}: not an outbox of predictions: {reason}"


def test_a_file_is_extended_to_its_size_or_not_at_all(tmp_path: Path) -> None:
    """It says whether there was space, on which the reserve depends."""
    path = tmp_path / "file"
    assert extend(path, 3 << 20)
    assert path.stat().st_size == 3 << 20
    assert not extend(tmp_path / "none" / "file", 1)


def test_the_folder_of_an_outbox_is_made_with_those_above_it(tmp_path: Path) -> None:
    """As in a home that is new."""
    Outbox.claim(tmp_path / "home" / "outbox", max_records=10).close()
    assert (tmp_path / "home" / "outbox" / "1.outbox").exists()


def test_a_file_that_is_not_there_has_the_number_zero(tmp_path: Path) -> None:
    """Neither the outbox nor SQLite's files beside it; one that comes later is another file."""
    path = tmp_path / "1.outbox"
    assert identity(path) == (0, 0, 0)
    path.touch()
    assert identity(path) == (path.stat().st_ino, 0, 0)


def test_an_outbox_that_cannot_be_used_now_is_still_one(tmp_path: Path) -> None:
    """The error names the cause in its hint; only a folder in its place, or other content, is no outbox."""
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    found = unusable(tmp_path / "1.outbox", full)
    assert type(found) is Unreachable
    assert str(found) == (
        f"{tmp_path / '1.outbox'}: no outbox for predictions: database or disk is full (free its disk)"
    )
    (tmp_path / "2.outbox").mkdir()
    assert type(unusable(tmp_path / "2.outbox", full)) is NotAnOutbox


def test_exported_letters_are_on_disk_before_they_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the file, then its name: if the machine is lost in between, the outbox still has them."""
    settings = Settings(home=tmp_path)
    outbox = Outbox.claim(settings.outbox, max_records=10)
    outbox.keep([DeadLetter(1, b"dead", "a reason")])
    steps: list[object] = []
    monkeypatch.setattr("ctcd.files.sync", lambda path: steps.append("name" if path.is_dir() else "file"))
    monkeypatch.setattr(Outbox, "forget", lambda _outbox, letters: steps.append([each.body for each in letters]))
    export(settings, tmp_path / "letters", remove=True)
    assert steps == ["file", "name", [b"dead"]]
    outbox.close()


@pytest.mark.slow
def test_only_what_the_store_accepts_is_no_dead_letter_any_more(tmp_path: Path) -> None:
    """The command sends all of them; those that the store does not have then stay, with the reason why."""
    settings = empty_store(Settings(home=tmp_path, contracts=INSTANCE.folder))
    outbox = Outbox.claim(settings.outbox, max_records=10)
    letters = (record("a"), b"damaged", record("b"))
    outbox.keep([DeadLetter(number, body, "refused") for number, body in enumerate(letters)])
    for sent in (2, 0):
        found = retry(settings)
        assert (found.sent, sum(found.left.values()), [each[:10] for each in found.left]) == (sent, 1, ["unreadable"])
        assert [each.body for each in outbox.letters()] == [b"damaged"]
    assert logged_ids(settings.store_url) == ["a", "b"]
    outbox.close()


def test_letters_are_given_in_parts_or_all_at_once(outbox: Outbox) -> None:
    """At most a thousand, unless the number is given; without a limit, all of them, the oldest first."""
    outbox.keep([DeadLetter(0, b"%d" % number, "refused") for number in range(1_100)])
    assert len(outbox.letters()) == 1_000
    assert [each.body for each in outbox.letters(limit=3)] == [b"0", b"1", b"2"]
    every = outbox.letters(limit=None)
    assert len(every) == 1_100
    assert [each.body for each in outbox.letters(every[1_097].seq)] == [b"1098", b"1099"]
