"""The cache of answers in a real server: answers are shared, forgotten in time, and computed while it is away."""

import time
from dataclasses import replace

import pytest
from support.load import wait
from support.redis import RedisServer
from support.serving import INFO, row_of, small_scorer

from ctcd.model.scorer import Predictions, Scorer
from ctcd.model.served import Served
from ctcd.serving import cache
from ctcd.serving.cache import Server, cached
from ctcd.serving.metrics import Metrics

pytestmark = pytest.mark.broker
ROWS = [row_of(number) for number in range(5)]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a server may need longer than a request waits for it."""
    monkeypatch.setattr(cache, "WAIT_SECONDS", 5.0)


class Counting(Metrics):
    """Remembers how many rows were hits, and misses, in the last call."""

    last = (0, 0)

    def cached(self, hits: int, misses: int) -> None:
        """Remember them."""
        self.last = (hits, misses)


def worker(server: RedisServer, seconds: float = 60, version: str = "7") -> tuple[Scorer, Counting]:
    """Return the model of one worker, with a connection of its own."""
    metrics = Counting()
    plain = Served(scorer=small_scorer(), info=replace(INFO, version=version))
    return cached(plain, Server(server.url, seconds, metrics), metrics).scorer, metrics


def hits(scorer: Scorer, metrics: Counting) -> tuple[int, int]:
    assert given(scorer.predict(ROWS)) == given(small_scorer().predict(ROWS))
    return metrics.last


def given(found: Predictions) -> list[object]:
    return [found.classes, found.confidences, found.probabilities]


def test_workers_share_answers_of_one_version(broker: RedisServer) -> None:
    """What one has computed another gives, to the last bit; a worker with another version does not."""
    first, second, other = worker(broker), worker(broker), worker(broker, version="8")
    assert hits(*first) == (0, len(ROWS))
    wait(lambda: broker.client.dbsize() == len(ROWS))
    assert hits(*second) == (len(ROWS), 0)
    assert hits(*other) == (0, len(ROWS))


def test_no_row_is_stored_and_answers_are_forgotten(broker: RedisServer) -> None:
    """Keys are digests; each key has a time to live, after which its row is computed again."""
    short = worker(broker, seconds=0.2)
    hits(*short)
    wait(lambda: broker.client.dbsize() == len(ROWS))
    keys = [bytes(key) for key in broker.client.scan_iter("*")]
    assert all(key.startswith(b"ctcd:") and len(key) == len(b"ctcd:") + 32 for key in keys)
    assert all(-2 <= broker.client.pttl(key) <= 200 for key in keys)
    time.sleep(0.25)
    assert hits(*short) == (0, len(ROWS))


def test_garbage_in_the_server_is_computed_again(broker: RedisServer) -> None:
    """Whatever another program has stored under a key, also of another type, no answer comes from it."""
    scorer = worker(broker)
    hits(*scorer)
    wait(lambda: broker.client.dbsize() == len(ROWS))
    for number, key in enumerate(list(broker.client.scan_iter("*"))):
        broker.client.delete(key)
        if number % 2:
            broker.client.lpush(key, "a list")
        else:
            broker.client.set(key, b'["sound",[1,0,0]]')
    assert hits(*scorer) == (0, len(ROWS))


def test_a_server_that_goes_and_comes_back(broker: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away rows are computed; a while after it is back, it is used again."""
    monkeypatch.setattr(cache, "PAUSE_SECONDS", 0.1)
    scorer = worker(broker)
    hits(*scorer)
    broker.kill()
    assert hits(*scorer) == (0, len(ROWS))
    broker.start()
    wait(lambda: hits(*scorer) == (len(ROWS), 0))
