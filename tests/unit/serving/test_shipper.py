"""The shipper brings every record to the store exactly once."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from pydantic_core import to_json
from sqlalchemy import Engine, func, select
from support.instance import CONTRACT
from support.load import wait
from support.serving import EXAMPLE, origin

from ctcd.errors import Unreachable
from ctcd.model.scorer import Predictions
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log import shipper as shipper_module
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.prediction_log.outbox_files import DeadLetter
from ctcd.serving.prediction_log.shipper import Shipper
from ctcd.store import prediction_log
from ctcd.store.prediction_log import TooLarge
from ctcd.store.tables import build_tables


class Observer(Metrics):
    """Metrics that a test can read and wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.failures = 0
        self.dead = 0
        self.aside = 0
        self.age = 0.0
        self.restarts: list[str] = []
        self._changed = threading.Condition()

    def shipped(self, predictions: int) -> None:
        with self._changed:
            self.sent += predictions
            self._changed.notify_all()

    def dead_lettered(self, predictions: int) -> None:
        with self._changed:
            self.dead = predictions
            self._changed.notify_all()

    def moved_aside(self, files: int) -> None:
        with self._changed:
            self.aside = files
            self._changed.notify_all()

    def restarted(self, part: str) -> None:
        with self._changed:
            self.restarts += [part]
            self._changed.notify_all()

    def waiting(self, seconds: float) -> None:
        with self._changed:
            self.age = seconds
            self._changed.notify_all()

    def ship_failed(self) -> None:
        with self._changed:
            self.failures += 1
            self._changed.notify_all()

    def wait(self, reached: Callable[["Observer"], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: reached(self), timeout=10)


def record(*request_ids: str) -> bytes:
    many = len(request_ids)
    return records.encode(
        [tuple(EXAMPLE.values())] * many,
        columns=tuple(EXAMPLE),
        group=CONTRACT.group.name,
        request_ids=request_ids,
        predictions=Predictions(
            classes=[CONTRACT.classes[0]] * many,
            confidences=[0.5] * many,
            probabilities=[[0.5, 0.3, 0.2]] * many,
            class_order=CONTRACT.classes,
        ),
        elapsed_ms=[1.25] * many,
        origin=origin("7"),
        created_at=datetime(2025, 8, 31, 12, 30, 0, 123456, UTC),
    )


def body(number: int) -> bytes:
    return record(f"request-{number}")


def fields(number: int) -> dict[str, Any]:
    """Return the fields of such a record to change, without its checksum."""
    return {name: value for name, value in json.loads(body(number)).items() if name != "crc32"}


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    outbox = Outbox.claim(tmp_path / "outbox", max_records=1_000)
    started: list[Shipper] = []
    start = Shipper.start

    def remembered(shipper: Shipper) -> None:
        started.append(shipper)
        start(shipper)

    monkeypatch.setattr(Shipper, "start", remembered)
    yield outbox
    # A test that fails leaves its shipper running, and SQLite crashes if a connection is closed while it is used.
    for shipper in started:
        shipper.stop(0)
    outbox.close()


def logged(store: Engine) -> list[str]:
    table = build_tables(CONTRACT).predictions
    with store.connect() as connection:
        return list(connection.scalars(select(table.c.request_id).order_by(table.c.id)))


def sender(store: Engine) -> Callable[[list[bytes]], None]:
    return lambda bodies: _append(store, bodies)


def _append(store: Engine, bodies: list[bytes]) -> None:
    prediction_log.append(store, CONTRACT, [each for body in bodies for each in records.decode(body)])


def test_a_record_is_decoded_as_it_was_encoded() -> None:
    """What is decoded is what was encoded, also from a record that was split."""
    three = record("request-0", "request-1", "request-2")
    assert [each for part in records.split(three) for each in records.decode(part)] == records.decode(three)
    assert [len(records.decode(part)) for part in records.split(three)] == [1, 1, 1]
    assert records.decode(three)[1] == prediction_log.LoggedPrediction(
        request_id="request-1",
        group=EXAMPLE[CONTRACT.group.name],
        features={name: value for name, value in EXAMPLE.items() if name != CONTRACT.group.name},
        prediction=CONTRACT.classes[0],
        confidence=0.5,
        probabilities=dict(zip(CONTRACT.classes, [0.5, 0.3, 0.2], strict=True)),
        **vars(origin("7")),
        elapsed_ms=1.25,
        created_at=datetime(2025, 8, 31, 12, 30, 0, 123456, UTC),
    )


def test_no_flipped_bit_changes_a_prediction() -> None:
    """Whichever bit of a record is flipped, it is read as it was written, or not at all."""
    whole = record("request-0", "request-1")
    written = records.decode(whole)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read = records.decode(bytes(damaged))
        except records.Unreadable:
            continue
        assert read == written, damaged


def test_records_reach_the_store_and_leave_the_outbox(outbox: Outbox, store: Engine) -> None:
    """Records are sent in batches, in their order, and are then deleted from the outbox."""
    outbox.append([body(number) for number in range(25)])
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=10, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 25)
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in range(25)]
    assert (outbox.depth, observer.age) == (0, 0.0)


def test_shipping_goes_on_after_an_error_that_nobody_expects(
    outbox: Outbox, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the handling of a failure, too, which would end the thread; it is counted as a restart."""
    monkeypatch.setattr("ctcd.serving.loops.RESTART_SECONDS", 0.01)

    class Broken(Observer):
        def ship_failed(self) -> None:
            raise ArithmeticError

    outbox.append([body(1)])
    observer = Broken()

    def send(bodies: list[bytes]) -> None:
        if len(observer.restarts) < 2:
            raise Unreachable("away")
        _append(store, bodies)

    shipper = Shipper(outbox, send, batch=10, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 1)
    assert shipper.stop(5)
    assert (logged(store), observer.restarts) == (["request-1"], ["shipper"] * 2)


def test_a_crash_between_sending_and_deleting_makes_no_duplicates(outbox: Outbox, store: Engine) -> None:
    """What the store has committed is sent again after the crash, and stays there once."""
    outbox.append([body(number) for number in range(5)])
    _append(store, [body for _, body in outbox.oldest(3)])  # and then the process died
    shipper = Shipper(outbox, sender(store), batch=10, metrics=Observer())
    shipper.start()
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in range(5)]


@pytest.mark.slow
def test_a_store_that_fails_gets_everything_once_it_is_back(outbox: Outbox, store: Engine) -> None:
    """Failures are counted, nothing is deleted meanwhile, and the records arrive in the end."""
    outbox.append([body(1), body(2)])
    away = threading.Event()
    away.set()

    def send(bodies: list[bytes]) -> None:
        if away.is_set():
            raise Unreachable("the store is away")
        _append(store, bodies)

    observer = Observer()
    shipper = Shipper(outbox, send, batch=10, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.failures >= 2)
    assert (outbox.depth, logged(store)) == (2, [])
    away.clear()
    observer.wait(lambda seen: seen.sent == 2)
    assert shipper.stop(5)
    assert logged(store) == ["request-1", "request-2"]


@pytest.mark.slow
def test_stopping_without_a_store_ends_in_time_and_keeps_the_records(outbox: Outbox) -> None:
    """Draining gives up after its time."""

    def send(bodies: list[bytes]) -> None:
        raise Unreachable(f"the store takes none of {len(bodies)}")

    outbox.append([body(1)])
    shipper = Shipper(outbox, send, batch=10, metrics=Observer())
    shipper.start()
    assert shipper.stop(0.3)
    assert outbox.depth == 1


@pytest.mark.slow
def test_stopping_waits_no_longer_than_the_store_is_given(outbox: Outbox) -> None:
    """A store that hangs is left alone after the time to drain and a second; it is said that the thread has not ended."""
    hanging, over = threading.Event(), threading.Event()

    def send(_bodies: list[bytes]) -> None:
        hanging.set()
        assert over.wait(60)

    outbox.append([body(1)])
    shipper = Shipper(outbox, send, batch=10, metrics=Observer())
    shipper.start()
    assert hanging.wait(60)
    assert not shipper.stop(-0.9)
    over.set()
    assert shipper.stop(60)


def test_the_thread_gets_the_time_to_drain_and_a_second(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within that second it can finish what it began before the time was over."""
    asked: list[float] = []
    monkeypatch.setattr("ctcd.serving.loops.Loop.stop", lambda _loop, seconds: asked.append(seconds))
    Shipper(outbox, print, batch=10, metrics=Observer()).stop(3)
    assert asked == [4]


def test_batches_grow_with_the_backlog(outbox: Outbox) -> None:
    """A backlog is sent in batches up to forty times as large; a store that keeps up gets small batches."""
    sizes: list[int] = []
    shipper = Shipper(outbox, lambda bodies: sizes.append(len(bodies)), batch=1, metrics=Observer())
    outbox.append([body(number) for number in range(1_000)])
    shipper.start()
    assert shipper.stop(10)
    assert sum(sizes) == 1_000
    assert sizes[:2] == [40, 40]
    assert 1 < sizes[len(sizes) // 3] < 40
    assert sizes[-1] == 1


def test_the_records_of_a_dead_process_are_sent_too(outbox: Outbox, store: Engine) -> None:
    """The outbox of a process that is gone is emptied by a running one."""
    left = Outbox.claim(outbox.path.parent, max_records=10)
    left.append([body(7)])
    left.close()
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=10, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 1)
    assert shipper.stop(5)
    assert logged(store) == ["request-7"]


@pytest.mark.slow
def test_an_outbox_that_is_damaged_while_it_is_emptied_is_replaced(outbox: Outbox, store: Engine) -> None:
    """Its file is deleted, then the log of the new one: what is appended since, and what was to be sent, reaches the store once."""
    shipper = Shipper(outbox, sender(store), batch=10, metrics=Observer())
    shipper.start()
    outbox.append([body(1)])
    outbox.path.unlink()
    wait(outbox.path.exists)
    outbox.append([body(2)])
    wait(lambda: len(logged(store)) == 2)
    log = outbox.path.with_name(f"{outbox.path.name}-wal")
    log.unlink()
    wait(log.exists)
    outbox.append([body(3)])
    wait(lambda: len(logged(store)) == 3)
    assert shipper.stop(5)
    assert sorted(logged(store)) == ["request-1", "request-2", "request-3"]


def test_the_number_of_rows_equals_the_number_of_request_ids(store: Engine) -> None:
    """Sending the same batch twice writes it once."""
    _append(store, [body(1), body(2)])
    _append(store, [body(1), body(2), body(3)])
    table = build_tables(CONTRACT).predictions
    with store.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 3


def picky(store: Engine, poison: set[str]) -> Callable[[list[bytes]], None]:
    """A store that refuses some request ids."""

    def send(bodies: list[bytes]) -> None:
        if any(each.request_id in poison for body in bodies for each in records.decode(body)):
            raise ValueError("of no use")
        _append(store, bodies)

    return send


def test_a_prediction_that_is_always_refused_does_not_block_the_others(outbox: Outbox, store: Engine) -> None:
    """It becomes a dead letter with the reason; the others arrive, and so do those that come later."""
    outbox.append([body(number) for number in range(7)])
    observer = Observer()
    shipper = Shipper(outbox, picky(store, {"request-2", "request-5"}), batch=5, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.dead == 2)
    outbox.append([body(7)])
    observer.wait(lambda seen: seen.sent == 6)
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in (0, 1, 3, 4, 6, 7)]
    assert (outbox.depth, outbox.dead_letters) == (0, 2)
    refused = outbox._db.execute("SELECT body, reason FROM refused ORDER BY seq").fetchall()
    assert [(records.decode(each)[0].request_id, reason) for each, reason in refused] == [
        ("request-2", "refused by the store: ValueError"),
        ("request-5", "refused by the store: ValueError"),
    ]


def test_predictions_are_counted_and_not_their_records(outbox: Outbox, store: Engine) -> None:
    """What the store has accepted of a batch is the number of its rows."""
    outbox.append([record("row-0", "row-1", "row-2"), body(1)], [3, 1])
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=10, metrics=observer)
    shipper.start()
    assert shipper.stop(5)
    assert (observer.sent, len(logged(store))) == (4, 4)


def test_one_row_of_a_batch_is_dead_lettered_alone(outbox: Outbox, store: Engine) -> None:
    """The other predictions of its record are sent."""
    many = record(*(f"row-{number}" for number in range(4)))
    outbox.append([many], [4])
    assert outbox.depth == 4
    observer = Observer()
    shipper = Shipper(outbox, picky(store, {"row-1"}), batch=500, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 3)
    assert shipper.stop(5)
    assert logged(store) == ["row-0", "row-2", "row-3"]
    assert (outbox.depth, outbox.dead_letters) == (0, 1)


@pytest.mark.slow
def test_a_store_that_refuses_everything_is_retried(outbox: Outbox, store: Engine) -> None:
    """Nothing is dead-lettered while the store accepts nothing at all: the fault is the store's."""
    outbox.append([body(1), body(2)])
    poison = {"request-1", "request-2"}
    observer = Observer()
    shipper = Shipper(outbox, picky(store, poison), batch=5, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.failures >= 2)
    assert (outbox.depth, outbox.dead_letters) == (2, 0)
    poison.clear()
    observer.wait(lambda seen: seen.sent == 2)
    assert shipper.stop(5)


@pytest.mark.slow
def test_the_log_file_of_the_outbox_stays_small(outbox: Outbox, store: Engine) -> None:
    """However many records pass through it, its files do not grow."""
    sizes = []
    for _ in range(6):
        for start in range(0, 500, 10):
            outbox.append([body(number) for number in range(start, start + 10)])
        for _ in range(5):
            outbox.delete(through=outbox.oldest(100)[-1][0])
            outbox.checkpoint()
        sizes.append(sum(path.stat().st_size for path in outbox.path.parent.iterdir()))
    assert sizes[-1] <= 1.2 * sizes[1], sizes
    assert logged(store) == []


def garbage(outbox: Outbox) -> list[tuple[bytes, str]]:
    """Append records that cannot be read, between those that can; return them with the reasons."""
    flipped = bytearray(body(9))
    flipped[5] ^= 0x40
    naive = fields(7) | {"created_at": "2025-01-01T00:00:00"}
    number = fields(7) | {"request_ids": [5]}
    short = fields(8)
    short["confidences"] = []
    bad = [
        (b'{"format":2}', "unreadable: format 2, and this version of ctcd reads 1"),
        (bytes(flipped), "unreadable: damaged (checksum)"),
        (json.dumps(short).encode(), "unreadable: damaged (ValueError)"),
        (json.dumps(naive).encode(), "unreadable: damaged (a timestamp has no time zone)"),
        (json.dumps(number).encode(), "unreadable: damaged (a field is not text)"),
        (b"[1]", "unreadable: damaged (TypeError)"),
        (b"", "unreadable: damaged (ValueError)"),
        (b"\xff\x00", "unreadable: damaged (ValueError)"),
    ]
    for place, (each, _) in enumerate(bad):
        outbox.append([each, body(place)])
    return bad


def test_records_that_cannot_be_read_become_dead_letters_with_their_bytes(outbox: Outbox, store: Engine) -> None:
    """Whatever a record is, the ones behind it are shipped, and the reason shows no value of it."""
    bad = garbage(outbox)
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=5, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: (seen.sent, seen.dead) == (len(bad), len(bad)))
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in range(len(bad))]
    assert [(each.body, each.reason) for each in outbox.letters()] == bad
    assert (outbox.depth, observer.failures) == (0, 0)


def test_a_record_that_cannot_be_read_and_is_alone_waits_for_no_other(outbox: Outbox, store: Engine) -> None:
    """It becomes a dead letter although the store has accepted nothing beside it."""
    outbox.append([b'{"format":2}'])
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=5, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.dead == 1)
    assert shipper.stop(5)
    assert outbox.depth == 0


DAMAGED_CELLS = (
    ("rows = 'x'", None),
    ("rows = x'ff'", None),
    ("rows = 1e300", None),
    ("rows = -5", None),
    ("body = CAST(body AS TEXT)", None),
    ("body = 5", b"5"),
    ("body = 1.5", b"1.5"),
    ("body = CAST(x'ff' AS TEXT)", b"\xff"),
)
"""Changes of a cell, each with the bytes that are dead-lettered; None if the prediction can be sent all the same."""


def test_a_cell_of_any_type_holds_up_no_record(outbox: Outbox, store: Engine) -> None:
    """What can be read of a record is sent; the rest is dead-lettered with its bytes. Nothing counts as waiting then."""
    outbox.append([body(number) for number in range(len(DAMAGED_CELLS) + 1)])
    with closing(sqlite3.connect(outbox.path)) as db:
        for seq, (change, _) in enumerate(DAMAGED_CELLS, 1):
            db.execute(f"UPDATE records SET {change} WHERE seq = {seq}")  # noqa: S608 - our own statement
        db.execute("UPDATE depth SET rows = 'x'")
        db.commit()
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=50, metrics=observer)
    assert shipper._age() > 10_000_000  # that of the first one, made in 2025
    shipper.start()
    dead = [expected for _, expected in DAMAGED_CELLS if expected is not None]
    observer.wait(lambda seen: (seen.sent, seen.dead) == (len(DAMAGED_CELLS) + 1 - len(dead), len(dead)))
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in (0, 1, 2, 3, 4, 8)]
    assert [each.body for each in outbox.letters()] == dead
    assert (outbox.refresh(), observer.failures, observer.restarts) == (0, 0, [])


@pytest.mark.parametrize("wrong", ["'x'", "-7", "99", "1e300"])
def test_a_wrong_depth_of_a_running_outbox_is_corrected(outbox: Outbox, store: Engine, wrong: str) -> None:
    """An outbox that is empty, whatever its count says, accepts predictions again."""
    with closing(sqlite3.connect(outbox.path)) as db:
        db.execute(f"UPDATE depth SET rows = {wrong}")  # noqa: S608 - our own statement
        db.commit()
    shipper = Shipper(outbox, sender(store), batch=50, metrics=Observer())
    shipper._ship(outbox)
    outbox.append([body(1)])
    assert outbox.depth == 1
    shipper._ship(outbox)
    assert (outbox.refresh(), logged(store)) == (0, ["request-1"])


UNKNOWN: dict[str, Any] = dict.fromkeys(("probabilities", "contract_version", "served_by", "variant"))
"""What records of earlier versions do not have."""


def older(number: int) -> list[bytes]:
    """Return records of two rows with the request ids a-, b-, c- and d- as each earlier version wrote them."""
    groups, names = CONTRACT.group.name, [name for name in EXAMPLE if name != CONTRACT.group.name]
    one = {
        "request_id": f"a-{number}",
        "group": EXAMPLE[groups],
        "features": {name: EXAMPLE[name] for name in names},
        "prediction": CONTRACT.classes[0],
        "confidence": 0.5,
        "model_version": "7",
        "elapsed_ms": 1.25,
        "created_at": "2025-08-31T12:30:00.123456Z",
    }
    many = {
        "group": groups,
        "request_ids": [f"b-{number}-0", f"b-{number}-1"],
        "predictions": [CONTRACT.classes[0]] * 2,
        "confidences": [0.5] * 2,
        "model_version": "7",
        "elapsed_ms": 1.25,
        "created_at": "2025-08-31T12:30:00.123456Z",
        "rows": [EXAMPLE, dict(reversed(EXAMPLE.items()))],
    }
    values = many | {
        "columns": list(EXAMPLE),
        "rows": [list(EXAMPLE.values())] * 2,
        "request_ids": [f"c-{number}-0", f"c-{number}-1"],
        "elapsed_ms": [1.25] * 2,
    }
    # The last one had the training run, one time for each row, a number of the format and a checksum.
    run = values | {"request_ids": [f"d-{number}-0", f"d-{number}-1"], "elapsed_ms": [1.25] * 2, "run_id": "run 7"}
    sealed = to_json(run | {"format": 1})[:-1]
    last = b'%b,"crc32":"%08x"}' % (sealed, crc32(sealed))
    return [*(json.dumps(each).encode() for each in (one, many, values)), last]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "2"}, "format unknown, and this version of ctcd reads 1"),
        ({"columns": [*EXAMPLE, "one more"]}, "damaged (ValueError)"),
        ({"request_ids": ["one", "two"]}, "damaged (ValueError)"),
    ],
)
def test_a_record_whose_parts_do_not_fit_is_unreadable(change: dict[str, Any], reason: str) -> None:
    """A record whose parts do not fit together gives no prediction, neither decoded as a whole nor split."""
    for read in (records.decode, records.split):
        with pytest.raises(records.Unreadable) as unreadable:
            read(json.dumps(fields(1) | change).encode())
        assert str(unreadable.value) == reason


def test_a_record_of_rows_that_nothing_identifies_has_no_group() -> None:
    """Its contract has neither group nor key; every column is a feature."""
    (found,) = records.decode(json.dumps(fields(1) | {"group": ""}).encode())
    assert (found.group, found.features) == (None, EXAMPLE)
    assert records.group_name(CONTRACT) == CONTRACT.group.name
    bare: Any = SimpleNamespace(identity=())
    assert records.group_name(bare) == ""


@pytest.mark.parametrize("columns", [["a"], ["b", "a"]])
def test_the_values_of_a_row_are_in_the_order_of_the_columns(columns: list[str]) -> None:
    """The values of a row are returned in the order of the columns, for one column and for several."""
    assert list(records.values_of(columns)({"a": 1, "b": 2})) == [{"a": 1, "b": 2}[name] for name in columns]


def test_an_earlier_record_of_one_row_is_read() -> None:
    """It has the names of its values in the row."""
    old = json.loads(older(1)[1])
    one = {name: old[name][:1] for name in ("rows", "request_ids", "predictions", "confidences")}
    assert [each.request_id for each in records.decode(json.dumps(old | one).encode())] == ["b-1-0"]


def test_records_of_every_earlier_version_are_read() -> None:
    """They give the same predictions as one of this version, without what they do not have, also when they are split."""
    ids = [["a-1"], ["b-1-0", "b-1-1"], ["c-1-0", "c-1-1"], ["d-1-0", "d-1-1"]]
    for old, names in zip(older(1), ids, strict=True):
        run = "run 7" if names[0].startswith("d") else ""
        now = [replace(each, **UNKNOWN, run_id=run) for each in records.decode(record(*names))]
        assert records.decode(old) == now
        assert [each for part in records.split(old) for each in records.decode(part)] == now
    assert json.loads(record("x"))["format"] == records.FORMAT


def test_a_record_of_another_contract_version_is_shipped(outbox: Outbox, store: Engine) -> None:
    """Its columns are those that it names, not those of the contract in force."""
    other = fields(1)
    other["columns"] = [*other["columns"], "of a later version"]
    other["rows"] = [[*values, 5] for values in other["rows"]]
    outbox.append([json.dumps(other).encode()])
    shipper = Shipper(outbox, sender(store), batch=5, metrics=Observer())
    shipper.start()
    assert shipper.stop(5)
    assert (logged(store), outbox.dead_letters) == (["request-1"], 0)


def test_dead_letters_are_sent_again_by_themselves(
    outbox: Outbox, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the store accepts them they arrive, each once, and are dead letters no longer; others stay."""
    monkeypatch.setattr(shipper_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(shipper_module, "MAX_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(shipper_module, "RETRY_LETTERS", 2)
    poison = {f"request-{number}" for number in range(0, 10, 2)}
    outbox.append([*(body(number) for number in range(10)), b"garbage"])
    observer = Observer()
    shipper = Shipper(outbox, picky(store, poison), batch=50, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: seen.dead == 6)
    poison.clear()
    observer.wait(lambda seen: seen.dead == 1 and seen.sent == 10)
    assert shipper.stop(5)
    assert sorted(logged(store)) == [f"request-{number}" for number in range(10)]
    assert [each.body for each in outbox.letters()] == [b"garbage"]


def test_each_reason_of_a_dead_letter_is_said() -> None:
    """Too large in our words, unreadable with what is damaged, and any other by its kind alone; those accepted are apart."""
    faults: list[Exception | None] = [
        TooLarge("too many bytes"),
        records.Unreadable("damaged"),
        ValueError("wear=1"),
        None,
    ]

    def send(_bodies: list[bytes]) -> None:
        if fault := faults.pop(0):
            raise fault

    letters = [DeadLetter(number, b"", "") for number in range(4)]
    sent, left = shipper_module.resend(letters, send)
    assert sent == letters[3:]
    assert [each.reason for each in left] == [
        "too many bytes",
        "unreadable: damaged",
        "refused by the store: ValueError",
    ]


def test_a_prediction_that_is_too_large_says_so(outbox: Outbox) -> None:
    """It is a dead letter although the store has accepted nothing beside it."""

    def send(_bodies: list[bytes]) -> None:
        raise TooLarge("too many bytes")

    outbox.append([body(1)])
    assert Shipper(outbox, send, batch=10, metrics=Observer())._isolate(outbox, outbox.oldest(10))
    assert [each.reason for each in outbox.letters()] == ["too many bytes"]


def test_some_dead_letters_are_sent_at_once_and_the_next_ones_later(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are sent between two looks at the outbox; after a round in which one was accepted the pause is short."""
    monkeypatch.setattr(shipper_module, "RETRY_LETTERS", 2)
    outbox.keep([DeadLetter(0, b"%d" % number, "") for number in range(3)])
    tried: list[bytes] = []

    def send(bodies: list[bytes]) -> None:
        tried.extend(bodies)
        if bodies != [b"0"]:
            raise ValueError

    shipper = Shipper(outbox, send, batch=10, metrics=Observer())
    shipper._retries._pause = 900
    shipper._retry_dead_letters()
    assert tried == [b"0", b"1"]
    shipper._retry_dead_letters()
    assert tried == [b"0", b"1", b"2"]
    assert shipper._retries.due - time.monotonic() == pytest.approx(30, abs=5)
    shipper._retry_dead_letters()
    assert len(tried) == 3


def test_dead_letters_wait_longer_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause doubles up to a maximum while none is accepted, and begins anew when one is."""
    clock = 0.0
    monkeypatch.setattr(shipper_module, "time", SimpleNamespace(monotonic=lambda: clock))
    retries, letter = shipper_module._Retries(), DeadLetter(1, b"", "")
    pauses = []
    for accepted in (*[False] * 7, True, False):
        clock = retries.due
        retries.proceed([letter], accepted=accepted)
        pauses.append(retries.due - clock)
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 30, 60]
    retries.proceed([letter._replace(seq=number) for number in range(100)], accepted=True)
    assert retries.after == 99
    retries.proceed([], accepted=False)
    assert (retries.after, retries.due - clock) == (0, 30)


def test_the_age_grows_whatever_the_clock_and_the_record_say(outbox: Outbox) -> None:
    """A record that cannot be read, or that was made in the future of a clock set back, waits too."""

    def send(bodies: list[bytes]) -> None:
        raise Unreachable(f"the store takes none of {len(bodies)}")

    future = fields(1) | {"created_at": "2999-01-01T00:00:00Z"}
    for first in (b"garbage", json.dumps(future).encode(), json.dumps(future | {"created_at": "2999-01-01"}).encode()):
        outbox.append([first])
        observer = Observer()
        shipper = Shipper(outbox, send, batch=5, metrics=observer)
        shipper._accepted_at -= 1_000
        shipper.start()
        observer.wait(lambda seen: seen.failures >= 1)
        shipper.stop(0)
        assert 1_000 <= observer.age < 1_100
        outbox.delete(through=outbox.oldest(1)[-1][0])
    outbox.append([b"garbage", body(1)])  # made in 2025
    assert Shipper(outbox, send, batch=5, metrics=Observer())._age() > 10_000_000


def test_an_empty_outbox_does_not_age(outbox: Outbox) -> None:
    """A service without requests has nothing that waits; with records that are not sent, the time goes on."""
    shipper = Shipper(outbox, print, batch=5, metrics=Observer())
    shipper._accepted_at -= 1_000
    shipper._ship(outbox)
    assert shipper._age() < 100


def test_an_outbox_that_cannot_be_renewed_is_logged(outbox: Outbox, said: list[str]) -> None:
    """The line says why, and the thread goes on."""

    def full() -> None:
        raise OutboxFull("no new one can be opened", where="there", hint="a full disk")

    Shipper(outbox, print, batch=5, metrics=Observer(), damaged=full)._renew()
    assert said == ["error: there: no new one can be opened (a full disk)"]


@pytest.mark.slow
def test_one_outbox_that_cannot_be_emptied_does_not_stop_the_adoption_of_the_others(
    outbox: Outbox, store: Engine
) -> None:
    """One is damaged, one holds only what the store refuses, one holds dead letters; the last one arrives all the same."""
    folder = outbox.path.parent
    left = [Outbox.claim(folder, max_records=10) for _ in range(4)]
    for number, each in enumerate(left):
        each.append([body(number)])
    left[2].delete(1, [DeadLetter(1, b"dead", "unreadable")])
    for each in left:
        each.close()
    left[0].path.write_bytes(b"no database at all" * 100)
    observer = Observer()
    shipper = Shipper(outbox, picky(store, {"request-1"}), batch=10, metrics=observer)
    shipper.start()
    observer.wait(lambda seen: (seen.sent, seen.aside, seen.dead) == (1, 1, 1))
    assert shipper.stop(5)
    assert logged(store) == ["request-3"]
    # Dead letters are moved to the outbox of whoever adopts them, which sends them again from time to time.
    assert [each.body for each in outbox.letters()] == [b"dead"]
    again = list(Outbox.abandoned(folder))
    assert [(each.path.name, each.depth, each.dead_letters) for each in again] == [("3.outbox", 1, 0)]
    again[0].close()


def test_dead_letters_that_cannot_be_adopted_stay_where_they_are(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are deleted there only once they are kept here: a disk that is full, or a process that is killed, loses none."""
    left = Outbox.claim(outbox.path.parent, max_records=10)
    left.keep([DeadLetter(1, b"dead", "unreadable")])
    left.close()

    def full(_letters: object) -> None:
        raise OutboxFull("there is no space", where="here")

    monkeypatch.setattr(outbox, "keep", full)
    Shipper(outbox, print, batch=5, metrics=Observer())._ship_abandoned()
    [again] = Outbox.abandoned(outbox.path.parent)
    assert [each.body for each in again.letters()] == [b"dead"]
    again.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The log lines of the shipper, as "<level>: <text>"."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname.lower()}: {record.getMessage()}")

    handler, logger = Lines(), logging.getLogger("ctcd.serving.prediction_log.shipper")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_the_log_says_what_failed_and_no_value_of_a_row(outbox: Outbox, store: Engine, said: list[str]) -> None:
    """A store that is away, one that refuses a row, dead letters, and those that it accepts later."""
    faults: list[Exception] = [RuntimeError("wear=12.5"), ValueError("wear=12.5")]
    poison = {"request-2"}

    def send(bodies: list[bytes]) -> None:
        if faults and len(bodies) > 1:
            raise faults[0]
        picky(store, poison)(bodies)

    outbox.append([body(number) for number in range(1, 4)])
    observer = Observer()
    shipper = Shipper(outbox, send, batch=10, metrics=observer)
    assert shipper._isolate(outbox, outbox.oldest(10))
    assert said == [f"error: dead-lettered 0 unreadable or too large, and 1 that the store refuses, in {outbox.path}"]
    poison.clear()
    shipper._retry_dead_letters()
    assert said[1:] == ["info: the store has accepted 1 dead letter"]
    outbox.append([body(number) for number in range(4, 6)])
    poison |= {"request-4", "request-5"}
    with pytest.raises(RuntimeError):
        shipper._ship(outbox)
    assert said[2:] == ["warning: the store refuses something in a batch: RuntimeError"]
    shipper.start()
    observer.wait(lambda seen: seen.failures >= 1)
    faults.clear()
    poison.clear()
    observer.wait(lambda seen: seen.sent >= 5)
    assert shipper.stop(5)
    assert "warning: the store does not accept predictions, will retry: RuntimeError" in said
    assert not any("wear" in line or "request-" in line for line in said)
    assert logged(store) == ["request-1", "request-3", "request-2", "request-4", "request-5"]


def test_the_log_says_which_outbox_of_a_dead_process_cannot_be_emptied(
    outbox: Outbox, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full one with our words, any other fault by its kind alone; the search goes on, unless the store is away."""
    left = [Outbox.claim(outbox.path.parent, max_records=10) for _ in range(2)]
    shipper = Shipper(outbox, print, batch=10, metrics=Observer())
    faults = [OutboxFull("cannot be written", where="there"), sqlite3.OperationalError("wear=12.5")]

    def ship(_outbox: Outbox) -> None:
        raise faults.pop(0)

    monkeypatch.setattr(Outbox, "abandoned", lambda _folder: iter(left))
    monkeypatch.setattr(shipper, "_ship", ship)
    paths = [each.path for each in left]
    shipper._ship_abandoned()
    assert said == [
        "error: there: cannot be written",
        f"error: {paths[1]} cannot be emptied, will retry: OperationalError",
    ]
    faults.append(Unreachable("the store is away"))
    left[:] = [Outbox.claim(outbox.path.parent, max_records=10)]
    with pytest.raises(Unreachable, match="the store is away"):
        shipper._ship_abandoned()


class Turns(threading.Event):
    """A request to stop that comes after some turns of the shipper's loop; keeps how long it waited for each.

    Args:
        turns: number of turns; the last one is that of the end.
    """

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.left, self.waits = turns, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for nothing."""
        self.waits.append(timeout or 0.0)
        self.left -= 1
        if self.left < 1:
            self.set()
        return self.is_set()


def failing(outbox: Outbox, error: Exception) -> Shipper:
    """Return a shipper whose store fails, and which has no time to drain."""

    def send(_bodies: list[bytes]) -> None:
        raise error

    outbox.append([body(1)])
    shipper = Shipper(outbox, send, batch=5, metrics=Observer())
    shipper._deadline = 0
    return shipper


def test_pauses_grow_while_the_store_is_away(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is twice the one before, up to the longest; once the time to drain is over, it gives up."""
    monkeypatch.setattr(shipper_module, "POLL_SECONDS", 1)
    stop, observer = Turns(100), Observer()
    shipper = Shipper(outbox, print, batch=5, metrics=observer)

    def send(_bodies: list[bytes]) -> None:
        if len(stop.waits) == 6:
            shipper._deadline = 0
        raise Unreachable("away")

    shipper._send = send
    outbox.append([body(1)])
    shipper._run(stop)
    assert stop.waits == [1, 2, 4, 8, 10, 10]
    assert (outbox.depth, observer.failures) == (1, 6)


@pytest.mark.parametrize("error", [OutboxFull("cannot be written", where="there"), sqlite3.OperationalError("wear=1")])
def test_an_outbox_that_cannot_be_emptied_is_not_the_fault_of_the_store(
    outbox: Outbox, said: list[str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said in our words, or by the kind of the error and where it was raised, and counts as no failure of the store."""
    shipper = failing(outbox, Unreachable("away"))
    monkeypatch.setattr(shipper, "_ship", lambda _: (_ for _ in ()).throw(error))
    shipper._run(Turns(1))
    (line,) = said
    ours = "there: cannot be written" if isinstance(error, OutboxFull) else "OperationalError at "
    assert line.startswith(f"error: the outbox cannot be emptied, will retry: {ours}")
    assert isinstance(shipper._metrics, Observer)
    assert shipper._metrics.failures == 0


def test_a_store_that_comes_back_while_the_service_ends_gets_the_rest(
    outbox: Outbox, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again as long as there is time."""
    monkeypatch.setattr(shipper_module, "POLL_SECONDS", 0.001)
    faults = [Unreachable("away")] * 3

    def send(bodies: list[bytes]) -> None:
        if faults:
            raise faults.pop()
        _append(store, bodies)

    outbox.append([body(1)])
    Shipper(outbox, send, batch=5, metrics=Observer())._run(Turns(1))
    assert (logged(store), outbox.depth) == (["request-1"], 0)


def test_outboxes_of_dead_processes_are_looked_for_now_and_then(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outboxes of dead processes are looked for once in `ADOPT_SECONDS`, not at every turn."""
    looked: list[Path] = []

    def abandoned(folder: Path) -> Iterator[Outbox]:
        looked.append(folder)
        return iter(())

    monkeypatch.setattr(Outbox, "abandoned", abandoned)
    Shipper(outbox, print, batch=5, metrics=Observer())._run(Turns(5))
    assert looked == [outbox.path.parent]


def test_a_backlog_is_sent_at_once_and_what_comes_meanwhile_is_left(outbox: Outbox, store: Engine) -> None:
    """Batch after batch with a short pause, around what is refused; a last batch that is not full waits to be worth it."""
    outbox.append([body(number) for number in range(12)])
    outbox.path.with_suffix(".reserve").unlink()
    checkpoints: list[None] = []
    shipper, turns = Shipper(outbox, picky(store, {"request-1"}), batch=5, metrics=Observer()), Turns(100)
    outbox.checkpoint = lambda: checkpoints.append(None)  # type: ignore[method-assign] # counts them
    shipper._stop = turns
    send = shipper._send

    def more(bodies: list[bytes]) -> None:
        send(bodies)
        if any(b"request-11" in each for each in bodies):
            outbox.append([body(12)])

    shipper._send = more
    shipper._ship(outbox)
    assert logged(store) == [f"request-{number}" for number in (0, *range(2, 12))]
    assert (outbox.depth, outbox.dead_letters, turns.waits, len(checkpoints)) == (1, 1, [0.005], 1)
    turns.set()
    shipper._ship(outbox)
    assert (outbox.depth, logged(store)[-1]) == (0, "request-12")
    assert outbox.path.with_suffix(".reserve").exists()
