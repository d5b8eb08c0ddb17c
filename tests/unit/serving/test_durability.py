"""What is promised to survive a crash of the machine does, not only what survives the end of a process."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.disk import Disk, recorded
from support.instance import CONTRACT, INSTANCE
from support.serving import origin

from ctcd.model.scorer import Predictions
from ctcd.serving.prediction_log import outbox as outboxes
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipping import Store
from ctcd.store.engine import connect, reading
from ctcd.store.migrations import upgrade

NORMAL, FULL = 1, 2
"""SQLite's numbers of the values of `synchronous`."""


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.claim(tmp_path / "outbox", max_records=1_000)) as claimed:
        yield claimed


def record(number: int) -> bytes:
    return records.encode(
        [[number, 0.5 * number]],
        columns=["machine", "wear"],
        group="machine",
        request_ids=[f"request-{number}"],
        predictions=Predictions(
            classes=[CONTRACT.classes[0]],
            confidences=[0.5],
            probabilities=[[0.5, 0.3, 0.2]],
            class_order=CONTRACT.classes,
        ),
        elapsed_ms=[1.0],
        origin=origin("7"),
        created_at=datetime(2025, 8, 31, tzinfo=UTC),
    )


def test_a_commit_waits_for_the_disk_where_nothing_else_has_the_data(outbox: Outbox, tmp_path: Path) -> None:
    """The outbox that takes answers and the embedded store sync each commit; deletions need not wait, and both log first."""
    pragmas = ("synchronous", "journal_mode", "secure_delete", "auto_vacuum", "wal_autocheckpoint")
    found = [[db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas] for db in (outbox._db, outbox._out)]
    assert found == [[FULL, "wal", 0, 2, 16_000], [NORMAL, "wal", 0, 2, 0]]
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    with reading(engine) as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    engine.dispose()
    assert settings == [FULL, "wal"]


@pytest.mark.slow
def test_a_crash_of_the_machine_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it happens, each answer so far is in the outbox or in the store, and both can be read.

    Whatever each file had not synced is lost or is not, as a disk may have written it by itself.
    """
    monkeypatch.setattr(outboxes, "_WAL_PAGES", 8)  # so that checkpoints restart the log file
    store_file = tmp_path / "store" / "store.db"
    upgrade(f"sqlite:///{store_file}", INSTANCE.migrations)
    Outbox.claim(tmp_path / "outbox", max_records=1_000).close()
    moments: dict[int, int] = {}
    """Number of answers by the number of calls that the disk has got."""
    with recorded(tmp_path / "outbox", tmp_path / "store") as disk:
        outbox = Outbox.claim(tmp_path / "outbox", max_records=1_000)
        store = Store(f"sqlite:///{store_file}", CONTRACT)
        for number in range(12):
            outbox.append([record(2 * number), record(2 * number + 1)])
            answers = moments[len(disk.calls)] = 2 * number + 2
            if number % 3 == 2:
                rows = outbox.oldest(4 if number < 9 else 100)
                store.send([body for _, body in rows])
                moments[len(disk.calls)] = answers
                outbox.delete(rows[-1][0])
                moments[len(disk.calls)] = answers
                outbox.settle()
                outbox.checkpoint()
                moments[len(disk.calls)] = answers
        store.close()
        outbox.close()
    syncs = [place for place, call in enumerate(disk.calls) if call.at is None and place > min(moments)]
    promised = 0
    for after in sorted({*moments, *syncs}):
        promised = moments.get(after, promised)
        for number, found in enumerate(_after_crash(disk, after, tmp_path)):
            lost = {f"request-{answer}" for answer in range(promised)} - found
            assert not lost, f"{sorted(lost)} lost after call {after}, case {number}"
    assert promised == 24


def _after_crash(disk: Disk, after: int, folder: Path) -> Iterator[set[str]]:
    """Yield the request ids that outbox and store hold when they are opened after each kind of crash."""
    for number, files in enumerate(disk.crashes(after)):
        target = folder / f"crash-{after}-{number}"
        for name, content in files.items():
            path = target / Path(name).relative_to(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with closing(Outbox.attach(target / "outbox" / "1.outbox")) as outbox:
            assert outbox._db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
            bodies = [body for _, body in outbox.oldest(1_000)]
        with closing(sqlite3.connect(target / "store" / "store.db")) as db:
            query = f"SELECT request_id FROM {CONTRACT.predictions_table}"  # noqa: S608 - our own name
            sent = {request_id for (request_id,) in db.execute(query)}
        yield sent | {each.request_id for body in bodies for each in records.decode(body)}
