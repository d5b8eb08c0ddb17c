"""Clients that send requests to a running service, one after the other, and the answers that they got."""

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event
from typing import TypeVar
from urllib.parse import urlsplit

from support.serving import row_of

from ctcd.serving.launch import RunningService

T = TypeVar("T")

CLIENTS = 4
PATIENCE = float(os.environ.get("TEST_PATIENCE", "180"))
"""Seconds that a busy machine may need for what a test waits for; `make prove` gives less, as it waits in vain."""
PAUSE_SECONDS = 0.005
"""Between an answer and a client's next request: without it, they would take the processor from what is tested."""
BODIES = [json.dumps({"data": row_of(number)}) for number in range(1_000)]
"""Requests, one after the other: what is answered to one of them is not what is answered to the next."""


@dataclass
class Guarded:
    """A running service with an API key, and the URL of the store that it ships to."""

    service: RunningService
    key: str
    store: str


@dataclass
class Answers:
    """The answers that the clients got."""

    ids: dict[str, str] = field(default_factory=dict)
    """Version of the model by request id, for each answer with status 200."""
    versions: Counter[str] = field(default_factory=Counter)
    statuses: set[int] = field(default_factory=set)
    refused: int = 0
    """Number of answers with another status."""
    broken: int = 0
    """Number of requests without an answer."""
    sent: Iterator[int] = field(default_factory=itertools.count)
    """Numbers of the requests, which the clients share."""


def _ask(url: str, answers: Answers, stop: Event, pause: float) -> None:
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=60)
    while not stop.is_set():
        try:
            body = BODIES[next(answers.sent) % len(BODIES)]
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            connection.close()
            answers.broken += 1
            stop.wait(0.02)
            continue
        answers.statuses.add(response.status)
        if response.status == 200:
            answer = json.loads(content)
            assert response.headers["x-model-version"] == answer["model_version"]
            answers.versions[answer["model_version"]] += 1
            answers.ids[answer["request_id"]] = answer["model_version"]
            stop.wait(pause)
        else:
            answers.refused += 1
            stop.wait(0.02)
    connection.close()


@contextmanager
def load(service: RunningService, clients: int = CLIENTS, *, pause: float = PAUSE_SECONDS) -> Iterator[Answers]:
    """Send requests from a few clients while the block runs; a broken connection is opened again.

    `pause` is the time between an answer and the client's next request, seconds.
    """
    answers, stop = Answers(), Event()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(_ask, service.url, answers, stop, pause) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for each in running:
            each.result()


def wait(look: Callable[[], T], seconds: float | None = None) -> T:
    """Call `look` until its result is true, and return that; fail after `seconds`, or after `PATIENCE` if not given."""
    deadline = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while True:
        began = time.monotonic()
        if found := look():
            return found
        looked = time.monotonic()
        assert looked < deadline, "it was not reached in time"
        # To look may cost much, such as a whole table: it must not take all of a processor's time.
        time.sleep(max(0.02, 2 * (looked - began)))
