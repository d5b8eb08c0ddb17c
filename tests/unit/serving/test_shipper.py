"""The shipper brings every record to the store exactly once."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from support.instance import CONTRACT
from support.serving import EXAMPLE

from ctcd.errors import Unreachable
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipper import Shipper
from ctcd.store import prediction_log
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables


class Observer:
    """Counts what happens, and lets a test wait for it."""

    def __init__(self) -> None:
        self.sent = 0
        self.failures = 0
        self.dead = 0
        self.aside = 0
        self.age = 0.0
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
        predictions=[CONTRACT.classes[0]] * many,
        confidences=[0.5] * many,
        elapsed_ms=[1.25] * many,
        model_version="7",
        created_at=datetime(2025, 8, 31, 12, 30, 0, 123456, UTC),
    )


def body(number: int) -> bytes:
    return record(f"request-{number}")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox.claim(tmp_path / "outbox", max_records=1_000)
    yield outbox
    outbox.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    build_tables(CONTRACT).metadata.create_all(engine)
    yield engine
    engine.dispose()


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
        model_version="7",
        elapsed_ms=1.25,
        created_at=datetime(2025, 8, 31, 12, 30, 0, 123456, UTC),
    )


def test_records_reach_the_store_and_leave_the_outbox(outbox: Outbox, store: Engine) -> None:
    """Batch after batch, in order."""
    outbox.append([body(number) for number in range(25)])
    observer = Observer()
    shipper = Shipper(outbox, sender(store), batch=10, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 25)
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in range(25)]
    assert outbox.depth == 0


def test_a_crash_between_sending_and_deleting_makes_no_duplicates(outbox: Outbox, store: Engine) -> None:
    """What the store has committed is sent again after the crash, and stays there once."""
    outbox.append([body(number) for number in range(5)])
    _append(store, [body for _, body in outbox.oldest(3)])  # and then the process died
    shipper = Shipper(outbox, sender(store), batch=10, observer=Observer())
    shipper.start()
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in range(5)]


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
    shipper = Shipper(outbox, send, batch=10, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.failures >= 2)
    assert (outbox.depth, logged(store)) == (2, [])
    away.clear()
    observer.wait(lambda seen: seen.sent == 2)
    assert shipper.stop(5)
    assert logged(store) == ["request-1", "request-2"]


def test_stopping_without_a_store_ends_in_time_and_keeps_the_records(outbox: Outbox) -> None:
    """Draining gives up after its time."""

    def send(bodies: list[bytes]) -> None:
        raise Unreachable(f"the store takes none of {len(bodies)}")

    outbox.append([body(1)])
    shipper = Shipper(outbox, send, batch=10, observer=Observer())
    shipper.start()
    assert shipper.stop(0.3)
    assert outbox.depth == 1


def test_batches_grow_with_the_backlog(outbox: Outbox) -> None:
    """A backlog is sent in batches up to forty times as large; a store that keeps up gets small batches."""
    sizes: list[int] = []
    shipper = Shipper(outbox, lambda bodies: sizes.append(len(bodies)), batch=1, observer=Observer())
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
    shipper = Shipper(outbox, sender(store), batch=10, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 1)
    assert shipper.stop(5)
    assert logged(store) == ["request-7"]


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
    shipper = Shipper(outbox, picky(store, {"request-2", "request-5"}), batch=5, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.dead == 2)
    outbox.append([body(7)])
    observer.wait(lambda seen: seen.sent == 6)
    assert shipper.stop(5)
    assert logged(store) == [f"request-{number}" for number in (0, 1, 3, 4, 6, 7)]
    assert (outbox.depth, outbox.dead_letters) == (0, 2)
    refused = outbox._db.execute("SELECT body, reason FROM refused ORDER BY seq").fetchall()
    assert [(records.decode(each)[0].request_id, reason) for each, reason in refused] == [
        ("request-2", "ValueError"),
        ("request-5", "ValueError"),
    ]


def test_one_row_of_a_batch_is_dead_lettered_alone(outbox: Outbox, store: Engine) -> None:
    """The other predictions of its record are sent."""
    many = record(*(f"row-{number}" for number in range(4)))
    outbox.append([many], [4])
    assert outbox.depth == 4
    observer = Observer()
    shipper = Shipper(outbox, picky(store, {"row-1"}), batch=500, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.sent == 3)
    assert shipper.stop(5)
    assert logged(store) == ["row-0", "row-2", "row-3"]
    assert (outbox.depth, outbox.dead_letters) == (0, 1)


def test_a_store_that_refuses_everything_is_retried(outbox: Outbox, store: Engine) -> None:
    """Nothing is dead-lettered while the store accepts nothing at all: the fault is the store's."""
    outbox.append([body(1), body(2)])
    poison = {"request-1", "request-2"}
    observer = Observer()
    shipper = Shipper(outbox, picky(store, poison), batch=5, observer=observer)
    shipper.start()
    observer.wait(lambda seen: seen.failures >= 2)
    assert (outbox.depth, outbox.dead_letters) == (2, 0)
    poison.clear()
    observer.wait(lambda seen: seen.sent == 2)
    assert shipper.stop(5)


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
