"""The cache of answers: the same answers, each logged, never another version's, and no request waits for it or fails."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.network import free_port
from support.serving import EXAMPLE, INFO, answering_the_less_probable, logged, row_of, served, small_scorer

from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy
from ctcd.errors import UsageError, shown
from ctcd.model.estimator import Estimator
from ctcd.model.scorer import Predictions, Scorer
from ctcd.model.served import Served
from ctcd.serving import cache, runtime
from ctcd.serving.cache import Cache, CachedScorer, Memory, Server
from ctcd.serving.champion.challenger import Running
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.predictor import Answer, Predictor
from ctcd.serving.traffic import Models, Split
from ctcd.settings import IN_MEMORY, Settings

ROWS = [row_of(number) for number in range(6)]


@dataclass
class Kept:
    """A cache whose content a test can change."""

    answers: dict[bytes, Any] = field(default_factory=dict)

    def read(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.answers.get(key) for key in keys]

    def write(self, answers: dict[bytes, bytes]) -> None:
        self.answers |= answers


class Counting:
    """Counts the rows that an estimator computes."""

    def __init__(self, estimator: Estimator) -> None:
        self.rows = 0
        self._estimator = estimator

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> Any:
        self.rows += len(rows)
        return self._estimator.encode_rows(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)


def counted(scorer: Scorer) -> tuple[Scorer, Counting]:
    counting = Counting(scorer.estimator)
    return replace(scorer, estimator=counting), counting  # type: ignore[arg-type] # it has all that a scorer uses


def with_cache(scorer: Scorer, kept: Cache, metrics: Metrics | None = None, **info: Any) -> Served:
    return cache.cached(Served(scorer=scorer, info=replace(INFO, **info)), kept, metrics or Metrics())


def value(page: str, name: str, **labels: str) -> float:
    samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
    (found,) = (each.value for each in samples if each.name == name and labels.items() <= each.labels.items())
    return float(found)


def same(found: Predictions, wanted: Predictions) -> bool:
    return [found.classes, found.confidences, found.probabilities, found.class_order] == [
        wanted.classes,
        wanted.confidences,
        wanted.probabilities,
        wanted.class_order,
    ]


@pytest.mark.parametrize("kept", [Memory(1_000, 60), Kept()], ids=["memory", "server"])
def test_answers_are_those_of_the_model_to_the_last_bit(scorer: Scorer, kept: Cache) -> None:
    """Whatever part of some rows is in the cache, in whatever order; only the others are computed."""
    plain, counting = counted(scorer)
    cached = with_cache(plain, kept).scorer
    assert same(cached.predict(ROWS[:3]), scorer.predict(ROWS[:3]))
    mixed = [ROWS[4], ROWS[1], ROWS[5], ROWS[0], ROWS[1]]
    assert same(cached.predict(mixed), scorer.predict(mixed))
    assert counting.rows == 3 + 2
    assert same(cached.predict([]), scorer.predict([]))


def test_the_confidence_of_a_kept_answer_is_that_of_its_class(scorer: Scorer) -> None:
    """Also where another class is more probable."""
    cached = with_cache(scorer, Memory(1_000, 60)).scorer
    with answering_the_less_probable():
        assert same(cached.predict(ROWS), wanted := scorer.predict(ROWS))
        assert same(cached.predict(ROWS), wanted)
    assert wanted.confidences != [max(row) for row in wanted.probabilities]


def test_a_frame_is_computed(scorer: Scorer) -> None:
    """Frames are of batch scoring and of the probes, which verify the model and not what is kept of it."""
    kept = Kept()
    rows = snapshot_frame(CONTRACT, rows=20)
    assert same(with_cache(scorer, kept).scorer.predict(rows), scorer.predict(rows))
    assert kept.answers == {}


def test_only_what_the_model_reads_is_in_the_key(scorer: Scorer) -> None:
    """Rows of two machines that are alike share an answer; a change of any input has another one."""
    plain, counting = counted(scorer)
    cached = with_cache(plain, Kept()).scorer
    cached.predict([EXAMPLE, EXAMPLE | {CONTRACT.group.name: 5}])
    cached.predict([EXAMPLE | {CONTRACT.group.name: 6}])
    assert counting.rows == 2
    other = {"humidity": None, "shift": None, "maker": "Borealis", "vibration": 4.3}
    cached.predict([EXAMPLE | {name: changed} for name, changed in other.items()])
    assert counting.rows == 2 + len(other)


@pytest.mark.parametrize("changed", [{"version": "8"}, {"run_id": "another run"}, {"model_name": "other"}])
def test_another_version_never_gives_this_ones_answer(scorer: Scorer, changed: dict[str, Any]) -> None:
    """Not even a version of the same number, which a registry that begins anew has too."""
    kept, other = Kept(), small_scorer(iterations=30)
    with_cache(scorer, kept).scorer.predict(ROWS)
    assert same(with_cache(other, kept, **changed).scorer.predict(ROWS), other.predict(ROWS))
    assert not same(scorer.predict(ROWS), other.predict(ROWS))


def test_another_version_of_the_contract_never_gives_this_ones_answer(scorer: Scorer) -> None:
    """A value may mean something else in it."""
    kept = Kept()
    other = replace(small_scorer(iterations=30), contract_version="2.0.0")
    with_cache(scorer, kept).scorer.predict(ROWS)
    assert same(with_cache(other, kept).scorer.predict(ROWS), other.predict(ROWS))


def test_what_was_not_stored_under_its_key_is_computed(scorer: Scorer) -> None:
    """Random bytes, a changed digit, the answer to another row, and objects of another kind are misses."""
    kept = Kept()
    cached = with_cache(scorer, kept).scorer
    cached.predict(ROWS)
    stored = dict(kept.answers)
    keys = list(stored)
    garbage: list[Any] = [b"", b"x", b"[]", os.urandom(200), "text", 5, b'["sound",[1.0,0.0,0.0]]', [b"x"]]
    garbage += [value[:-1] for value in stored.values()] + [value.replace(b"0.", b"1.", 1) for value in stored.values()]
    for wrong in garbage:
        kept.answers = dict.fromkeys(keys, wrong)
        assert same(cached.predict(ROWS), scorer.predict(ROWS)), wrong
    kept.answers = dict(zip(keys, [*list(stored.values())[1:], stored[keys[0]]], strict=True))
    assert same(cached.predict(ROWS), scorer.predict(ROWS))


def test_every_hit_is_logged_as_an_answer_of_its_own(scorer: Scorer, tmp_path: Path) -> None:
    """A row that comes again has another request id, its own record, and the version that answers; also after a swap."""
    kept, other = Kept(), small_scorer(iterations=30)
    outbox = Outbox.claim(tmp_path, max_records=1_000)
    plain, counting = counted(scorer)
    predictor = Predictor(with_cache(plain, kept), outbox, CONTRACT, on_batch=lambda _: None)

    async def ask(request_id: str) -> Answer:
        return await predictor.predict(EXAMPLE, request_id=request_id, started=time.perf_counter())

    async def check() -> None:
        answers = [await ask("first"), await ask("second")]
        assert counting.rows == 1
        predictor.models = Models(with_cache(other, kept, version="8"))
        answers.append(await ask("third"))
        found = [each for _, body in outbox.oldest(9) for each in records.decode(body)]
        assert [each.request_id for each in found] == ["first", "second", "third"]
        assert [each.model_version for each in found] == ["7", "7", "8"]
        assert [each.probabilities for each in found] == [answer.probabilities for answer in answers]
        assert [list(answer.probabilities.values()) for answer in answers] == [
            each.predict([EXAMPLE]).probabilities[0] for each in (scorer, scorer, other)
        ]

    asyncio.run(check())
    predictor.close()
    outbox.close()


def test_memory_is_bounded_and_forgets() -> None:
    """The least recently used answer is dropped first, and each after its time."""
    memory = Memory(2, 60)
    memory.write({b"a": b"1", b"b": b"2"})
    memory.read([b"a"])
    memory.write({b"c": b"3"})
    assert memory.read([b"a", b"b", b"c"]) == [b"1", None, b"3"]
    short = Memory(2, 0.02)
    short.write({b"a": b"1"})
    time.sleep(0.03)
    assert short.read([b"a"]) == [None]


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_waited_for_once(silent: int, scorer: Scorer) -> None:
    """The rows are computed; it is not asked again for a while, nor are answers sent to it, and the failure is counted."""
    metrics = Metrics()
    server = Server(f"redis://127.0.0.1:{silent}/0", 60, metrics)
    cached = with_cache(scorer, server, metrics).scorer
    began = time.perf_counter()
    for _ in range(100):
        assert same(cached.predict(ROWS), scorer.predict(ROWS))
    # A hundred waits would take five seconds of waiting alone.
    assert time.perf_counter() - began < 100 * cache.WAIT_SECONDS
    page = metrics.page("m").decode()
    assert value(page, "ctcd_cache_failures_total") == 1
    assert value(page, "ctcd_cache_rows_total", outcome="miss") == 100 * len(ROWS)


def test_a_server_that_is_away_costs_no_answer(scorer: Scorer, caplog: pytest.LogCaptureFixture) -> None:
    """Its rows are misses; the warning shows no password."""
    secret = "dK3vWq9pL2xZ7sT4"
    cached = with_cache(scorer, Server(f"redis://:{secret}@127.0.0.1:{free_port()}/0", 60, Metrics())).scorer
    assert same(cached.predict(ROWS), scorer.predict(ROWS))
    assert "the cache server failed" in caplog.text
    assert secret not in caplog.text


def test_a_server_that_answers_something_else_is_one_that_fails() -> None:
    """Nothing is taken from a reply that does not have one value for each row."""
    server = Server("redis://127.0.0.1:1/0", 60, Metrics())
    for reply in ([b"too", b"few"], b"", 7, None):
        server._client = type("Client", (), {"mget": lambda _self, _keys, reply=reply: reply})()
        server._resume = 0.0
        assert server.read([b"a", b"b", b"c"]) == [None, None, None]


@dataclass
class Slow:
    """A client of a server whose calls wait for the test."""

    going: Event = field(default_factory=Event)
    kept: dict[bytes, bytes] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def mget(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.kept.get(key) for key in keys]

    @contextmanager
    def pipeline(self, **_how: bool) -> Iterator["Slow"]:
        self.sizes.append(0)
        yield self

    def set(self, key: bytes, answer: bytes, **_how: int) -> None:
        self.sizes[-1] += 1
        self.kept[key] = answer

    def execute(self) -> None:
        assert self.going.wait(20)


@pytest.fixture
def slow() -> Iterator[tuple[Server, Slow]]:
    """A server whose writes wait."""
    server, client = Server("redis://127.0.0.1:1/0", 60, Metrics()), Slow()
    server._client = client  # type: ignore[assignment] # it has all that a server uses
    yield server, client
    client.going.set()
    server._writer.shutdown()


def test_a_read_does_not_wait_for_writes(slow: tuple[Server, Slow]) -> None:
    """However large they are: each call has a bounded number of answers. The server is not left alone for that."""
    server, client = slow
    many = {b"%d" % number: b"answer" for number in range(250)}
    server.write(many)
    server.write({b"later": b"answer"})
    for _ in range(2_000):
        if client.sizes == [100]:
            break
        time.sleep(0.01)
    assert server.read([b"5", b"missing"]) == [b"answer", None]
    client.going.set()
    server._writer.shutdown()
    assert client.sizes == [100, 100, 50, 1]
    assert server.read([b"249", b"later"]) == [b"answer", b"answer"]


def test_writes_that_wait_are_bounded(slow: tuple[Server, Slow]) -> None:
    """What is computed while a server is too slow for them is not kept."""
    server, client = slow
    for number in range(cache.MAX_WRITES + 5):
        server.write({b"%d" % number: b"answer"})
    client.going.set()
    server._writer.shutdown()
    assert len(client.kept) == cache.MAX_WRITES


def test_a_read_that_has_not_begun_says_nothing_about_the_server(slow: tuple[Server, Slow]) -> None:
    """It is a miss; whether the server is left alone is up to the one before it."""
    server, client = slow
    server._reader.submit(client.going.wait, 20)
    assert server.read([b"a"]) == [None]
    client.going.set()
    assert server._resume == 0.0


@pytest.mark.parametrize(
    "options", ["redis://h/0?socket_timeout=s3cr3t", "redis://h/0?s3cr3t=1", "rediss://h?db=s3cr3t"]
)
def test_a_url_with_an_option_that_cannot_be_is_refused(options: str) -> None:
    """The setting is named, its value is not."""
    with pytest.raises(UsageError, match="CTCD_CACHE_URL: the URL cannot be used") as caught:
        Server(options, 60, Metrics())
    assert "s3cr3t" not in shown(caught.value)


def test_without_the_setting_a_model_answers_by_itself(settings: Settings, scorer: Scorer) -> None:
    """Nothing is put between a request and the model."""
    plain = Served(scorer=scorer, info=INFO)
    assert runtime._prepared(settings, Metrics())(plain) is plain
    on = settings.model_copy(update={"cache_url": SecretStr(IN_MEMORY)})
    assert isinstance(runtime._prepared(on, Metrics())(plain).scorer, CachedScorer)


def test_each_model_that_comes_later_has_the_cache_too(settings: Settings, scorer: Scorer) -> None:
    """A new champion, and a challenger beside it."""
    found = runtime.Runtime(settings.model_copy(update={"cache_url": SecretStr(IN_MEMORY)}), INSTANCE, Metrics())
    other = Served(scorer=scorer, info=replace(INFO, version="8"))
    now = datetime.now(UTC).isoformat()
    canary = Experiment(id="1", version="8", mode=Mode.CANARY, share=0.5, started=now, effective=now)
    found._swap(other)
    found._split(TrafficPolicy.model_validate({"shadow": {"share": 1.0}}), CONTRACT, Running(canary, other))
    models = found.predictor.models
    found.stop()
    assert isinstance(models, Split)
    for served_by, version in ((models.champion, "8"), (models.challenger, "8")):
        assert (served_by.version, type(served_by.scorer)) == (version, CachedScorer)


@pytest.mark.slow
def test_a_service_with_a_cache_answers_logs_and_counts(settings: Settings) -> None:
    """Single requests and batches share the cache, and the log has each of their answers."""
    settings = settings.model_copy(update={"cache_url": SecretStr(IN_MEMORY)})
    with served(settings) as client:
        answers = [client.post("/predict", json={"data": EXAMPLE}).json() for _ in range(3)]
        rows = client.post("/predict_batch", json={"data": [EXAMPLE, row_of(1)]}).json()["predictions"]
        page = client.get("/metrics").text
    assert value(page, "ctcd_cache_rows_total", outcome="hit") == 3
    assert value(page, "ctcd_cache_rows_total", outcome="miss") == 2
    assert rows[0]["probabilities"] == answers[0]["probabilities"] == answers[2]["probabilities"]
    given = sorted(each["request_id"].replace("-", "") for each in [*answers, *rows])
    assert sorted(row["request_id"].replace("-", "") for row in logged(settings.store_url)) == given


@pytest.mark.parametrize("url", ["memory", "http://host", "redis://", "redis://host:99999"])
def test_a_url_that_is_no_cache_is_refused(url: str) -> None:
    """Before anything starts; the message does not repeat it, as it may hold a password."""
    with pytest.raises(ValidationError, match="neither memory:// nor a URL such as") as caught:
        Settings(cache_url=SecretStr(url))
    assert url not in str(caught.value).replace("memory://", "").replace("redis://host:6379/0", "")
