"""No answer is lost and none is logged twice, whatever fails meanwhile."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from support.instance import CONTRACT, INSTANCE
from support.load import CLIENTS, Answers, load, wait
from support.mariadb import OwnServer, database, own_server
from support.network import free_port
from support.processes import still_running
from support.proxy import Cut, Proxy, proxy
from support.serving import EXAMPLE, logged_ids, pinned

from ctcd.deployment.bento import BentoReport
from ctcd.serving.launch import RunningService, running
from ctcd.serving.prediction_log.outbox_files import moved_aside
from ctcd.settings import LogLevel, Settings
from ctcd.store.migrations import upgrade

pytestmark = pytest.mark.integration

Built = tuple[BentoReport, Path]


def workers(service: RunningService) -> list[psutil.Process]:
    children = psutil.Process(service.process.pid).children(recursive=True)
    return [child for child in children if "_bentoml_impl.worker.service" in child.cmdline()]


def log_of(url: str, before: frozenset[str] = frozenset()) -> list[str]:
    return [each for each in logged_ids(url) if each not in before]


def check(answers: Answers, ids: list[str], *, unseen: int = 0) -> None:
    """Assert that every answer has exactly one row, and that no more than `unseen` rows are of answers that no client got."""
    assert len(ids) == len(set(ids)), "a row is logged twice"
    assert set(answers.ids) <= set(ids), "an answer is lost"
    assert len(ids) - len(answers.ids) <= unseen


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def command(tag: str, settings: Settings) -> Iterator[RunningService]:
    """Serve like the command, in a process of its own that forwards signals, until the block ends it."""
    code = (
        "import sys; from ctcd.serving.launch import serve; from ctcd.settings import load_settings\n"
        f"sys.exit(serve({tag!r}, load_settings()))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=settings.child_environment())  # noqa: S603 - our own command
    url = f"http://{settings.host}:{settings.port}"
    try:
        wait(lambda: ready(url))
        family = psutil.Process(process.pid).children(recursive=True)
        yield RunningService(url=url, process=process, log=settings.logs / "none")
        process.wait(30)
        assert not still_running(family, 10)
        assert not ready(url)
    finally:
        process.kill()
        process.wait()


def test_no_answer_is_lost_when_a_process_dies_under_load(built: Built, settings: Settings, store_url: str) -> None:
    """`kill -9` of a worker, then of the whole service, then SIGTERM to its successor: every answer is in the store, once.

    A connection that breaks in a `kill -9` may leave one row of an answer that no client got; an orderly shutdown leaves none.
    """
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    with running(built[0].tag, settings) as service, load(service) as answers:
        wait(lambda: len(answers.ids) > 200)
        workers(service)[0].kill()
        before = len(answers.ids)
        wait(lambda: len(answers.ids) > before + 200)
        page = httpx.get(f"{service.url}/metrics").text
        # The gauges of the killed worker are gone, its counters are not.
        [served] = [
            line
            for line in page.splitlines()
            if line.startswith('ctcd_requests_total{model="machine_condition",route="/predict"')
        ]
        assert float(served.split()[-1]) > before + 100
        # The records of the killed worker are shipped by its successor, not only by the next start.
        shipped = set(answers.ids)
        wait(lambda: shipped <= set(log_of(store_url)))
        family = workers(service)
        os.kill(service.process.pid, signal.SIGKILL)
        for worker in family:
            with suppress(psutil.NoSuchProcess):  # it ends without its supervisor
                worker.kill()
        service.process.wait()
        assert not still_running(family, 30)
    assert answers.statuses == {200}
    with command(built[0].tag, settings) as service:
        wait(lambda: set(answers.ids) <= set(log_of(store_url)))
        left = frozenset(log_of(store_url))
        check(answers, sorted(left), unseen=2 * CLIENTS)
        with load(service) as drained:
            wait(lambda: len(drained.ids) > 200)
            service.process.terminate()
            service.process.wait(30)
    assert drained.statuses == {200}
    check(drained, log_of(store_url, left))


def test_ctrl_c_at_the_command_ends_the_service(built: Built, settings: Settings, sqlite_url: str) -> None:
    """It finishes its requests, and leaves no process and no open port behind."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url)})
    with command(built[0].tag, settings) as service:
        assert httpx.post(f"{service.url}/predict", json={"data": EXAMPLE}).status_code == 200
        service.process.send_signal(signal.SIGINT)
    assert len(log_of(sqlite_url)) == 1


@dataclass
class Stack:
    """A service, and the database server that it ships to."""

    service: RunningService
    server: OwnServer
    between: Proxy
    """The proxy between the service and the server."""
    url: str
    """URL of the server, past the proxy."""
    outboxes: Path
    """Folder of the service's outboxes."""


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A database server that the tests may stop."""
    with own_server() as server:
        yield server


@contextmanager
def store(server: OwnServer) -> Iterator[URL]:
    """A migrated database on a server that tests may stop."""
    with database(server.url) as url:
        upgrade(url.render_as_string(hide_password=False), INSTANCE.migrations)
        yield url


@pytest.fixture(scope="module")
def stack(built: Built, server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One service for all faults of the database: it must survive one after the other."""
    home = tmp_path_factory.mktemp("stack")
    (home / "bentoml").symlink_to(built[1] / "bentoml")
    with store(server) as url, proxy(int(url.port or 0)) as between:
        text = url.set(port=between.port).render_as_string(hide_password=False)
        settings = pinned(home, port=free_port(), feature_store_url=SecretStr(text))
        with running(built[0].tag, settings) as service:
            yield Stack(service, server, between, url.render_as_string(hide_password=False), settings.outbox)


def more(answers: Answers, count: int) -> None:
    """Wait for `count` more answers."""
    before = len(answers.ids)
    wait(lambda: len(answers.ids) >= before + count)


def stopped(stack: Stack, answers: Answers) -> None:
    stack.server.stop()
    more(answers, 300)
    stack.server.start()


def restarted(stack: Stack, answers: Answers) -> None:
    for _ in range(2):
        stack.server.kill()
        stack.server.start()
        more(answers, 100)


def frozen(stack: Stack, answers: Answers) -> None:
    stack.server.process.send_signal(signal.SIGSTOP)
    try:
        more(answers, 300)
    finally:
        stack.server.process.send_signal(signal.SIGCONT)


def slow(stack: Stack, answers: Answers) -> None:
    stack.between.delay = 0.3
    more(answers, 300)
    stack.between.delay = 0.0


def broken_within_a_batch(stack: Stack, answers: Answers) -> None:
    before, stack.between.cut, stack.between.word = stack.between.cuts, Cut.WITHIN, b"INSERT"
    wait(lambda: stack.between.cuts >= before + 2)
    stack.between.word = b""
    more(answers, 100)


def broken_after_a_commit(stack: Stack, answers: Answers) -> None:
    rows, before = len(log_of(stack.url)), stack.between.cuts
    stack.between.cut, stack.between.word = Cut.BEFORE_ANSWER, b"COMMIT"
    wait(lambda: stack.between.cuts >= before + 2)
    assert len(log_of(stack.url)) > rows  # committed, which the sender cannot know: it sends them again
    stack.between.word = b""
    more(answers, 100)


def without_its_table(stack: Stack, answers: Answers) -> None:
    name = f"{make_url(stack.url).database}.{CONTRACT.predictions_table}"
    stack.server.execute(f"RENAME TABLE {name} TO {name}_gone")
    more(answers, 300)
    stack.server.execute(f"RENAME TABLE {name}_gone TO {name}")


def cut_off(stack: Stack, answers: Answers) -> None:
    for _ in range(20):
        stack.server.execute("KILL HARD USER tester")  # even in the middle of a statement
        more(answers, 20)


def shipping_killed(stack: Stack, answers: Answers) -> None:
    children = psutil.Process(stack.service.process.pid).children(recursive=True)
    [shipping] = [child for child in children if "ctcd.serving.prediction_log.shipping" in child.cmdline()]
    shipping.kill()
    more(answers, 300)


FAULTS = [
    stopped,
    restarted,
    frozen,
    slow,
    without_its_table,
    cut_off,
    broken_within_a_batch,
    broken_after_a_commit,
    shipping_killed,
]


@contextmanager
def watched(service: RunningService) -> Iterator[dict[str, list[int]]]:
    """Request the probes repeatedly while the block runs; yield the statuses of each, without repetitions."""
    seen: dict[str, list[int]] = {"/livez": [], "/readyz": []}
    stop = Event()

    def look() -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            while not stop.wait(0.05):
                for path, answers in seen.items():
                    status = client.get(path).status_code
                    if answers[-1:] != [status]:
                        answers.append(status)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield seen
        finally:
            stop.set()
        looking.result()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_the_way_to_the_database_under_load(stack: Stack, fault: Callable[[Stack, Answers], None]) -> None:
    """Clients and probes do not notice it, and in the end every answer is in the store, once."""
    before = frozenset(log_of(stack.url))
    with load(stack.service) as answers, watched(stack.service) as probes:
        more(answers, 100)
        fault(stack, answers)
        more(answers, 100)
    assert probes == {"/livez": [200], "/readyz": [200]}
    wait(lambda: 'ctcd_outbox_records{model="machine_condition"} 0.0' in httpx.get(f"{stack.service.url}/metrics").text)
    assert (answers.statuses, answers.broken) == ({200}, 0)
    check(answers, log_of(stack.url, before))


def overwrite(path: Path) -> None:
    """Overwrite all of a file."""
    with path.open("r+b") as file:
        file.write(b"x" * path.stat().st_size)


@pytest.mark.parametrize("kind", ["deleted", "log deleted", "overwritten"])
def test_a_service_whose_outbox_is_damaged_goes_on_with_another(stack: Stack, kind: str) -> None:
    """Under load, no request is refused, and every answer is in the log once; the damaged file is kept, and counted.

    What is overwritten is lost: that happens while nothing waits.
    """
    before, kept = frozenset(logged_ids(stack.url)), moved_aside(stack.outboxes)
    path = stack.outboxes / "1.outbox"
    with load(stack.service) as answers:
        more(answers, 100)
        if kind == "deleted":
            path.unlink()
        if kind == "log deleted":
            path.with_name(f"{path.name}-wal").unlink()
        more(answers, 200)
    wait(lambda: set(answers.ids) <= set(log_of(stack.url, before)))
    if kind == "overwritten":
        [worker] = workers(stack.service)
        worker.suspend()  # or it may open a new file between the two, and that would be overwritten
        for end in ("", "-wal"):
            overwrite(path.with_name(path.name + end))
        worker.resume()
        with load(stack.service) as later:
            more(later, 200)
        answers.ids.update(later.ids)
        answers.statuses |= later.statuses
    wait(lambda: set(answers.ids) <= set(log_of(stack.url, before)))
    assert (answers.statuses, answers.broken) == ({200}, 0)
    check(answers, log_of(stack.url, before))
    assert len(moved_aside(stack.outboxes)) == len(kept) + (kind != "deleted")
    files = f'ctcd_outbox_files_moved_aside{{model="machine_condition"}} {len(moved_aside(stack.outboxes))}.0'
    wait(lambda: files in httpx.get(f"{stack.service.url}/metrics").text)
    assert "records of it that can be read are taken over" in stack.service.log.read_text()


def limit(worker: psutil.Process, size: int) -> None:
    """Limit the size of the files that a process writes, which looks to it like a full disk."""
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_is_reported_and_recovered_from(built: Built, settings: Settings, store_url: str) -> None:
    """503 with Retry-After while the outbox cannot be written, 200 again when it can; not ready, but alive, meanwhile."""
    settings = settings.model_copy(
        update={"feature_store_url": SecretStr(store_url), "log_level": LogLevel.WARNING, "outbox_max_records": 10**6}
    )
    with running(built[0].tag, settings) as service:
        with load(service) as answers:
            more(answers, 100)
            [worker] = workers(service)
            limit(worker, 8_192)
            wait(lambda: 503 in answers.statuses)
            refused = httpx.post(f"{service.url}/predict", json={"data": EXAMPLE})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            states = [httpx.get(f"{service.url}{path}").status_code for path in ("/readyz", "/livez")]
            assert states == [503, 200]
            limit(worker, resource.RLIM_INFINITY)
            wait(lambda: httpx.get(f"{service.url}/readyz").status_code == 200)
            more(answers, 100)
        wait(lambda: 'ctcd_outbox_records{model="machine_condition"} 0.0' in httpx.get(f"{service.url}/metrics").text)
    assert (answers.statuses, answers.broken) == ({200, 503}, 0)
    check(answers, log_of(store_url))


def test_a_service_without_its_database_answers_until_its_outbox_is_full(
    built: Built, settings: Settings, server: OwnServer
) -> None:
    """It starts, is ready, and answers until the outbox is full, then with 503; all is shipped once the database is back."""
    with store(server) as url:
        text = url.render_as_string(hide_password=False)
        settings = settings.model_copy(update={"feature_store_url": SecretStr(text), "outbox_max_records": 150})
        server.stop()
        try:
            with running(built[0].tag, settings) as service, watched(service) as probes:
                with load(service) as answers:
                    wait(lambda: 503 in answers.statuses and 503 in probes["/readyz"])
                assert len(answers.ids) == 150
                server.start()
                wait(lambda: probes["/readyz"][-1] == 200)
                with load(service) as later:
                    more(later, 50)
        finally:
            if server.process.poll() is not None:
                server.start()
        assert (answers.statuses, later.statuses, answers.broken + later.broken) == ({200, 503}, {200}, 0)
        assert probes == {"/livez": [200], "/readyz": [200, 503, 200]}
        answers.ids.update(later.ids)
        check(answers, log_of(text))
