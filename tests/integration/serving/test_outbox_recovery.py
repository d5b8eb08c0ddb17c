"""An outbox gets over a full disk, garbage and passing faults of the store: exact counts, against a real server."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError
from support.instance import CONTRACT, INSTANCE
from support.load import wait
from support.mariadb import database, own_server
from support.network import free_port
from support.outboxes import NOWHERE, disk_of, fill, record, shipping
from support.serving import EXAMPLE, logged_ids, pinned

from ctcd.cli.app import run
from ctcd.deployment.bento import BentoReport
from ctcd.serving.launch import RunningService, running
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.outbox_files import DeadLetter, moved_aside
from ctcd.settings import Settings
from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade

pytestmark = pytest.mark.integration

Built = tuple[BentoReport, Path]
DISK_BYTES = 44 << 20
PATIENCE = 150
"""Seconds for what may take a second try: dead letters are sent again after 30 s, then after 60 s."""


def metric(url: str, name: str) -> float:
    page = httpx.get(f"{url}/metrics").text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"ctcd_{name}{{"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    """A file system of 44 MB for the outbox."""
    with disk_of(DISK_BYTES, tmp_path / "home" / "outbox"):
        yield


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.usefixtures("small_disk")
def test_an_outbox_on_a_full_disk_is_emptied(store_url: str, tmp_path: Path, killed: bool) -> None:
    """The store is away until the disk is full, then back: all is shipped once, and the outbox accepts records again.

    Also if the processes are killed and started again meanwhile.
    """
    settings = Settings(home=tmp_path / "home", drain_seconds=1, feature_store_url=SecretStr(NOWHERE))
    back = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    outbox = Outbox.claim(settings.outbox, max_records=10**7)
    with shipping(settings, outbox.path) as process:
        accepted = fill(outbox)
        wait(lambda: outbox.failure != "")
        accepted += fill(outbox)
        if killed:
            process.kill()
            outbox.close()
            outbox = Outbox.claim(settings.outbox, max_records=10**7)
    assert len(accepted) > 30_000
    assert outbox.refresh() == len(accepted)
    with shipping(back, outbox.path) as process:
        if killed:
            wait(lambda: len(logged_ids(store_url)) > 5_000)
            process.kill()
    if killed:
        outbox.close()
        outbox = Outbox.claim(settings.outbox, max_records=10**7)
    with shipping(back, outbox.path):
        wait(lambda: outbox.refresh() == 0, 120)
        found = logged_ids(store_url)
        assert (len(found), set(found)) == (len(accepted), set(accepted))
        wait(outbox.usable)
        outbox.append([record("after")])
        wait(lambda: outbox.refresh() == 0)
    assert len(logged_ids(store_url)) == len(accepted) + 1
    outbox.close()


@pytest.mark.usefixtures("small_disk")
def test_dead_letters_are_kept_on_a_full_disk(store_url: str, tmp_path: Path) -> None:
    """What cannot be read, all over an outbox on a full disk, is a dead letter once the rest is shipped."""
    settings = Settings(home=tmp_path / "home", feature_store_url=SecretStr(store_url))
    outbox = Outbox.claim(settings.outbox, max_records=10**7)
    garbage = [b'{"format":2,"number":%d}' % number for number in range(200)]
    accepted = []
    for each in garbage:
        accepted += [str(uuid4())]
        outbox.append([record(accepted[-1]), each])
    accepted += fill(outbox)
    with shipping(settings, outbox.path):
        wait(lambda: outbox.refresh() == 0, 120)
        wait(outbox.usable)
    found = logged_ids(store_url)
    assert (len(found), set(found)) == (len(accepted), set(accepted))
    assert [each.body for each in outbox.letters()] == garbage
    outbox.close()


@pytest.mark.usefixtures("small_disk")
def test_a_service_on_a_full_disk_recovers(built: Built, store_url: str, tmp_path: Path) -> None:
    """The store is away until clients get 503; once it is back, every answer is in it once, and clients get 200 again.

    The database is renamed away and back, as the service keeps its connection settings.
    """
    home = tmp_path / "home"
    (home / "bentoml").symlink_to(built[1] / "bentoml")
    table = f"{make_url(store_url).database}.{CONTRACT.predictions_table}"
    settings = pinned(
        home, port=free_port(), feature_store_url=SecretStr(store_url), outbox_max_records=10**7, outbox_batch=500
    )
    body = {"data": [EXAMPLE] * 4_000}
    answered: list[str] = []
    with running(built[0].tag, settings) as service:
        execute(store_url, f"RENAME TABLE {table} TO {table}_gone")
        with httpx.Client(base_url=service.url, timeout=60) as client:
            while (answer := client.post("/predict_batch", json=body)).status_code == 200:
                answered += [each["request_id"] for each in answer.json()["predictions"]]
            assert answer.status_code == 503
            while (answer := client.post("/predict", json={"data": EXAMPLE})).status_code == 200:
                answered.append(answer.json()["request_id"])
            assert answer.status_code == 503
            wait(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/livez").status_code == 200
            assert metric(service.url, "outbox_age_seconds") > 0
            execute(store_url, f"RENAME TABLE {table}_gone TO {table}")
            wait(lambda: client.get("/readyz").status_code == 200, 180)
            wait(lambda: metric(service.url, "outbox_records") == 0)
            found = logged_ids(store_url)
            assert (len(found), set(found)) == (len(answered), set(answered))
            assert len(answered) > 30_000
            assert client.post("/predict_batch", json=body).status_code == 200
            wait(lambda: len(logged_ids(store_url)) == len(answered) + 4_000)


def execute(url: str, statement: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def emptied_and_narrowed(url: str, table: str, narrow: str) -> bool:
    """Delete what does not fit, then narrow the column; return False if the service sent such a row in between."""
    execute(url, f"DELETE FROM {table} WHERE {CONTRACT.group.name} > 1000")  # noqa: S608 - our own names
    try:
        execute(url, narrow)
    except DataError:
        return False
    return True


def test_a_service_gets_past_what_it_cannot_read(built: Built, settings: Settings, store_url: str) -> None:
    """A record of another version first in its own outbox, garbage for files, an older layout: the rest goes on.

    All that can be read is in the store once, what cannot be read is kept and counted, also after `kill -9` and a restart.
    """
    folder = settings.outbox
    unreadable = b'{"format":2}'
    with ExitStack() as others:
        held = []
        for bodies in ((unreadable, record("a"), record("b")), (record("c"),), (record("d"),), (record("e"),)):
            held.append(Outbox.claim(folder, max_records=1_000))
            others.callback(held[-1].close)
            held[-1].append(list(bodies))
    held[1].path.write_bytes(b"no database at all" * 1_000)
    with closing(sqlite3.connect(held[2].path)) as old:  # as an earlier version left it
        old.executescript(
            "DROP TABLE depth; DROP TABLE refused; DROP TABLE probe; ALTER TABLE records DROP COLUMN rows;"
            "PRAGMA user_version = 0"
        )
    (folder / "5.outbox").write_bytes(os.urandom(8_192))
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    expected = {"a", "b", "d", "e"}
    for start in (1, 2):
        with running(built[0].tag, settings) as service:
            expected.add(httpx.post(f"{service.url}/predict", json={"data": EXAMPLE}).json()["request_id"])
            wait(lambda: sorted(logged_ids(store_url)) == sorted(expected))
            wait(lambda: metric(service.url, "outbox_dead_letters") == 1)
            wait(lambda: metric(service.url, "outbox_files_moved_aside") == 2)
            assert httpx.get(f"{service.url}/readyz").status_code == 200
            wait(lambda: metric(service.url, "outbox_records") == 0)
            if start == 1:
                family = psutil.Process(service.process.pid).children(recursive=True)
                service.process.kill()
                for each in family:
                    each.kill()
                psutil.wait_procs(family, 10)
    assert sorted(logged_ids(store_url)) == sorted(expected)
    assert [path.name for path in moved_aside(folder)] == ["2-1.unreadable", "5-1.unreadable"]
    outbox = Outbox.claim(folder, max_records=1)
    assert [each.body for each in outbox.letters()] == [unreadable]
    outbox.close()


def test_a_fault_of_the_store_that_passes_leaves_no_dead_letter(
    built: Built,
    settings: Settings,
    store_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A column that is too narrow for half of the predictions, later repaired: the command sends them, or the service itself.

    Before that they are listed, without their values, and can be exported.
    """
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    for name, value in settings.child_environment().items():
        monkeypatch.setenv(name, value)
    table = f"{make_url(store_url).database}.{CONTRACT.predictions_table}"
    narrow, wide = (
        f"ALTER TABLE {table} MODIFY {CONTRACT.group.name} {kind} NOT NULL" for kind in ("SMALLINT", "BIGINT")
    )
    expected: list[str] = []

    def ask(service: RunningService) -> None:
        for number in range(100):
            # One that fits is the last: if a batch held only one that does not, the fault would be taken to be the store's.
            row = EXAMPLE | {CONTRACT.group.name: 1_000_000 * ((number + 1) % 2) + 1}
            answer = httpx.post(f"{service.url}/predict", json={"data": row})
            assert answer.status_code == 200
            expected.append(answer.json()["request_id"])

    def report(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = run(["outbox", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    with running(built[0].tag, settings) as service:
        execute(store_url, narrow)
        ask(service)
        wait(lambda: metric(service.url, "outbox_dead_letters") == 50 and len(logged_ids(store_url)) == 50, PATIENCE)
        assert sorted(logged_ids(store_url)) == sorted(expected[1::2])
        code, listed = report("list")
        assert (code, listed["unusable"], listed["moved_aside"]) == (0, {}, [])
        assert sorted(letter["request_ids"][0] for letter in listed["letters"]) == sorted(expected[::2])
        assert {letter["reason"] for letter in listed["letters"]} == {"refused by the store: DataError"}
        assert "1000001" not in json.dumps(listed)
        code, retried = report("retry")
        assert (code, retried["sent"], retried["left"]) == (3, 0, {"refused by the store: DataError": 50})
        to = settings.home / "letters.jsonl"
        code, exported = report("export", str(to))
        assert (code, exported["letters"], exported["removed"]) == (0, 50, False)
        lines = [json.loads(line) for line in to.read_text().splitlines()]
        assert {line["predictions"][0]["group"] for line in lines} == {1_000_001}
        assert sorted(line["predictions"][0]["request_id"] for line in lines) == sorted(expected[::2])
        assert to.stat().st_mode & 0o777 == 0o600
        execute(store_url, wide)
        code, retried = report("retry")
        # The service sends dead letters again as well, so that some of them may be gone before the command.
        assert (code, retried["left"]) == (0, {})
        assert retried["sent"] <= 50
        assert sorted(logged_ids(store_url)) == sorted(expected)
        wait(lambda: emptied_and_narrowed(store_url, table, narrow))
        del expected[::2]
        before = len(expected)
        ask(service)
        wait(lambda: len(logged_ids(store_url)) == before + 50, PATIENCE)
        wait(lambda: len(report("list")[1]["letters"]) == 50, PATIENCE)
    execute(store_url, wide)
    with running(built[0].tag, settings) as service:  # which sends dead letters again at its start, and later
        wait(lambda: len(logged_ids(store_url)) == before + 100, PATIENCE)
        wait(lambda: metric(service.url, "outbox_dead_letters") == 0, PATIENCE)
    assert sorted(logged_ids(store_url)) == sorted(expected)


def test_the_service_sends_dead_letters_again_without_a_restart(settings: Settings, store_url: str) -> None:
    """Within a minute of the repair, while the shipping process runs."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    table = f"{make_url(store_url).database}.{CONTRACT.predictions_table}"
    execute(store_url, f"ALTER TABLE {table} MODIFY request_id VARCHAR(2) NOT NULL")
    outbox = Outbox.claim(settings.outbox, max_records=100)
    outbox.append([record("a"), record("long")])
    with shipping(settings, outbox.path):
        wait(lambda: outbox.dead_letters == 1)
        execute(store_url, f"ALTER TABLE {table} MODIFY request_id VARCHAR(36) NOT NULL")
        wait(lambda: outbox.dead_letters == 0, 90)
    assert logged_ids(store_url) == ["a", "long"]
    outbox.close()


def test_two_processes_adopt_what_others_left_without_doubling_it(settings: Settings, store_url: str) -> None:
    """Both search the same folder at the same time: every record is in the store once, every dead letter in one outbox."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    mine = [Outbox.claim(settings.outbox, max_records=10) for _ in range(2)]
    expected = []
    with ExitStack() as held:
        for number in range(6):
            left = Outbox.claim(settings.outbox, max_records=1_000)
            held.callback(left.close)
            expected += [f"{number}-{each}" for each in range(300)]
            left.append([record(each) for each in expected[-300:]])
            left.keep([DeadLetter(1, b"garbage %d" % number, "unreadable")])
    with shipping(settings, mine[0].path), shipping(settings, mine[1].path):
        wait(lambda: len(logged_ids(store_url)) == len(expected))
        wait(lambda: sum(each.dead_letters for each in mine) == 6, 90)
    assert sorted(logged_ids(store_url)) == sorted(expected)
    letters = [each.body for outbox in mine for each in outbox.letters()]
    assert sorted(letters) == [b"garbage %d" % number for number in range(6)]
    assert list(Outbox.abandoned(settings.outbox)) == []
    for outbox in mine:
        outbox.close()


def test_a_prediction_that_is_too_large_for_the_store_holds_up_no_other(settings: Settings) -> None:
    """With a limit of 64 KB for a statement: one of 100 KB is a dead letter, and a backlog of 400 KB arrives."""
    with own_server() as server, database(server.url) as url:
        text = url.render_as_string(hide_password=False)
        upgrade(text, INSTANCE.migrations)
        server.execute("SET GLOBAL max_allowed_packet = 65536")
        settings = settings.model_copy(update={"feature_store_url": SecretStr(text)})
        outbox = Outbox.claim(settings.outbox, max_records=10_000)
        large = record("large", **{CONTRACT.model_inputs[0].name: "x" * 100_000})
        outbox.append([large])
        outbox.append([record(f"{number}") for number in range(1_000)])
        with shipping(settings, outbox.path):
            wait(lambda: outbox.refresh() == 0)
        assert sorted(logged_ids(text), key=int) == [str(number) for number in range(1_000)]
        [letter] = outbox.letters()
        assert letter.reason.endswith("the store accepts 65536 (max_allowed_packet)")
        assert records.decode(letter.body) == records.decode(large)
        outbox.close()
