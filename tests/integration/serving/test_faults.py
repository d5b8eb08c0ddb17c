"""No answer is lost and none is logged twice, whatever dies meanwhile."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest
from pydantic import SecretStr
from support.serving import EXAMPLE, logged

from credit_score.promotion.bento import BentoReport
from credit_score.serving.launch import RunningService, running
from credit_score.settings import Settings

pytestmark = pytest.mark.integration

Built = tuple[BentoReport, Path]
CLIENTS = 4


@dataclass
class Answers:
    """What the clients saw."""

    ids: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)


@contextmanager
def load(service: RunningService) -> Iterator[Answers]:
    """Ask without a pause from a few clients while the block runs; a connection that breaks is opened again."""
    answers, stop = Answers(), Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not stop.is_set():
                try:
                    response = client.post("/predict", json={"data": EXAMPLE})
                except httpx.TransportError:
                    stop.wait(0.01)
                    continue
                answers.statuses.add(response.status_code)
                if response.status_code == 200:
                    answers.ids.append(response.json()["request_id"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            yield answers
        finally:
            stop.set()
        for each in asking:
            each.result()


def wait(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def workers(service: RunningService) -> list[psutil.Process]:
    children = psutil.Process(service.process.pid).children(recursive=True)
    return [child for child in children if "_bentoml_impl.worker.service" in child.cmdline()]


def check(answers: Answers, url: str) -> None:
    """Every answer is in the log, and no row is there twice.

    A process killed between its commit and its answer may leave a row that nobody saw; as many as there were clients.
    """
    ids = [row["request_id"] for row in logged(url)]
    assert len(ids) == len(set(ids))
    assert set(answers.ids) <= set(ids)
    assert len(ids) - len(answers.ids) <= CLIENTS


def test_kill_9_of_a_worker_under_load(built: Built, settings: Settings, store_url: str) -> None:
    """Its successor answers and ships what it left."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    with running(built[0].tag, settings) as service, load(service) as answers:
        wait(lambda: len(answers.ids) > 200)
        workers(service)[0].kill()
        before = len(answers.ids)
        wait(lambda: len(answers.ids) > before + 200)
    assert answers.statuses == {200}
    check(answers, store_url)


def test_kill_9_of_the_whole_service_under_load(built: Built, settings: Settings, store_url: str) -> None:
    """What was answered is in the store after the next start."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    with running(built[0].tag, settings) as service, load(service) as answers:
        wait(lambda: len(answers.ids) > 200)
        family = workers(service)
        os.kill(service.process.pid, signal.SIGKILL)
        for worker in family:
            worker.kill()
        service.process.wait()
        assert not psutil.wait_procs(family, timeout=30)[1]
    with running(built[0].tag, settings):
        pass
    assert answers.statuses == {200}
    check(answers, store_url)


def test_sigterm_under_load_drains(built: Built, settings: Settings, store_url: str) -> None:
    """An orderly end leaves nothing behind: every answer is in the store when the process is gone."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url)})
    with running(built[0].tag, settings) as service, load(service) as answers:
        wait(lambda: len(answers.ids) > 200)
        service.process.terminate()
        service.process.wait(30)
    assert answers.statuses == {200}
    ids = [row["request_id"] for row in logged(store_url)]
    assert sorted(ids) == sorted(answers.ids)
