"""`ctcd consume`: each message of a real broker is answered, logged once and acknowledged, whatever happens to the processes."""

import json
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from support.consuming import consuming, started
from support.instance import CONTRACT, PAYLOAD
from support.load import wait
from support.network import free_port
from support.redis import RedisServer
from support.serving import empty_store, logged, logged_ids, pinned, row_of

from ctcd.serving.broker import names_of
from ctcd.settings import ModelSource, Settings

pytestmark = pytest.mark.broker
NAMES = names_of(CONTRACT)
LEASE = 1.0


@dataclass
class Channel:
    """The streams of the contract."""

    server: RedisServer

    def send(self, body: bytes, given: str = "") -> None:
        """Send a message as any client of Redis can; `given` is its correlation id."""
        if not given:
            self.server.client.xadd(NAMES.requests, {"__data__": body})
            return
        envelope = {"data": body.decode(), "headers": {"correlation_id": given}}
        self.server.client.xadd(NAMES.requests, {"__data__": json.dumps(envelope)})

    def request(self, number: int, given: str = "", rows: int = 2) -> None:
        data = [row_of(number + index) | {"machine": number + 1} for index in range(rows)]
        self.send(json.dumps({"data": data}).encode(), given)

    def found(self, name: str) -> list[tuple[str, Any]]:
        """Return the correlation ids and bodies of a stream, as FastStream writes them."""
        from faststream.redis.parser import BinaryMessageFormatV1

        entries: Any = self.server.client.xrange(name)
        parsed = [BinaryMessageFormatV1.parse(entry[b"__data__"]) for _, entry in entries]
        return [(headers["correlation_id"], json.loads(body)) for body, headers in parsed]

    def answers(self) -> list[tuple[str, Any]]:
        return self.found(NAMES.answers)

    def has_answered(self, least: int) -> bool:
        return len(self.answers()) >= least

    def pending(self) -> int:
        groups: Any = (
            self.server.client.xinfo_groups(NAMES.requests) if self.server.client.exists(NAMES.requests) else []
        )
        return sum(group["pending"] for group in groups)


@pytest.fixture
def channel(broker: RedisServer) -> Channel:
    return Channel(broker)


@pytest.fixture
def settings(broker: RedisServer, model_folder: Path, tmp_path: Path) -> Settings:
    url = SecretStr(broker.url)
    return empty_store(
        pinned(tmp_path, model_folder, broker_url=url, requests_lease_seconds=LEASE, revision="revision-of-the-tests")
    )


def test_messages_are_answered_logged_once_and_removed(channel: Channel, settings: Settings) -> None:
    """Also those that were sent before anybody listened; an answer has the correlation id of its request, and its rows.

    The metrics page counts them, what failed, and what has reached the store.
    """
    settings = settings.model_copy(update={"consumer_metrics_port": free_port()})
    ids = [f"order-{number}" for number in range(20)]
    for number, given in enumerate(ids[:5]):
        channel.request(number, given)
    with consuming(settings):
        wait(lambda: len(channel.answers()) == 5)
        for number, given in enumerate(ids[5:], 5):
            channel.request(number, given)
        wait(lambda: len(channel.answers()) == 20)
        wait(lambda: not channel.server.client.xlen(NAMES.requests))
        assert channel.pending() == 0
        channel.send(b"[]", "poison")
        wait(lambda: channel.found(NAMES.dead_letters))
        page = f"http://127.0.0.1:{settings.consumer_metrics_port}/metrics"
        samples = {
            'ctcd_requests_total{model="machine_condition",route="broker",status="200"} 20.0',
            'ctcd_requests_total{model="machine_condition",route="broker",status="422"} 1.0',
            'ctcd_outbox_shipped_total{model="machine_condition"} 40.0',
        }
        wait(lambda: samples <= set(httpx.get(page).text.splitlines()))
    answers = dict(channel.answers())
    assert sorted(answers) == sorted(ids)
    for number, given in enumerate(ids):
        answer: Any = PAYLOAD.batch_prediction.model_validate_json(json.dumps(answers[given]), strict=True)
        assert {each.machine for each in answer.predictions} == {number + 1}
    assert {row["served_by"] for row in logged(settings.store_url)} == {"revision-of-the-tests"}
    ids_logged = logged_ids(settings.store_url)
    assert sorted(ids_logged) == sorted(
        each["request_id"] for found in answers.values() for each in found["predictions"]
    )


def test_a_message_of_a_killed_process_is_answered_by_another_and_logged_once(
    channel: Channel, settings: Settings
) -> None:
    """Three are killed at any moment; each request is answered, by the same id however often, and in the log once."""
    ids = [str(uuid4()) for _ in range(120)]
    for number, given in enumerate(ids):
        channel.request(number, given)
    for answered in (1, 40, 80):
        with started(settings) as process:
            wait(partial(channel.has_answered, answered))
            process.end(signal.SIGKILL)
    # The one before may have answered everything: without a message of its own, the fourth could be ended while it starts.
    ids.append(str(uuid4()))
    channel.request(len(ids) - 1, ids[-1])
    with consuming(settings):
        wait(lambda: {given for given, _ in channel.answers()} == set(ids))
        wait(lambda: channel.pending() == 0)
        wait(lambda: len(logged_ids(settings.store_url)) >= 2 * len(ids))
    in_log = logged_ids(settings.store_url)
    assert len(in_log) == len(set(in_log)) == 2 * len(ids)
    assert {each["request_id"] for _, found in channel.answers() for each in found["predictions"]} == set(in_log)
    assert len({(given, found["request_id"]) for given, found in channel.answers()}) == len(ids)


def test_a_message_that_is_sent_twice_is_logged_once(channel: Channel, settings: Settings) -> None:
    """A sender that was not sure repeats it: both are answered alike."""
    with consuming(settings):
        for _ in range(2):
            channel.request(1, "twice")
            wait(
                lambda: channel.server.client.exists(NAMES.requests) and not channel.server.client.xlen(NAMES.requests)
            )
    first, second = channel.answers()
    assert first == second
    assert len(logged_ids(settings.store_url)) == 2


def test_no_message_gets_the_answer_of_another_one(channel: Channel, settings: Settings) -> None:
    """Not even if their senders give them the same id, be it a UUID: each has the answer to its rows, which is logged."""
    given = str(uuid4())
    for number in range(3):
        channel.request(number, given, rows=1)
    with consuming(settings):
        wait(lambda: len(channel.answers()) == 3)
        channel.request(3, given, rows=1)
        wait(lambda: len(channel.answers()) == 4)
    found = [each for _, answer in channel.answers() for each in answer["predictions"]]
    assert {each["machine"] for each in found} == {1, 2, 3, 4}
    assert sorted(each["request_id"] for each in found) == sorted(logged_ids(settings.store_url))


def test_poison_is_dead_lettered_and_holds_up_nothing(channel: Channel, settings: Settings) -> None:
    """With the problem that the HTTP API has, and the message; bytes that no parser takes, and ids that no answer can have, too."""
    unanswerable = [
        b"{nope",
        b"\xff\xfe",
        b"",
        b'{"data": []}',
        json.dumps({"data": [row_of(1) | {"hours": -1}]}).encode(),
        b'{"data": "' + b"x" * 2_000_000 + b'"}',
    ]
    limited = settings.model_copy(update={"batch_max_bytes": 1_000_000})
    with consuming(limited):
        for body in unanswerable:
            channel.send(body)
        channel.server.client.xadd(NAMES.requests, {b"\xff": b"\xfe"})
        for unsendable in (5, ["x"], "\ud800", "größer", "x" * 70_000):
            envelope = {"data": json.dumps({"data": [row_of(1)]}), "headers": {"correlation_id": unsendable}}
            channel.server.client.xadd(NAMES.requests, {"__data__": json.dumps(envelope)})
        channel.request(1, "good")
        wait(lambda: len(channel.answers()) == 1 and len(channel.found(NAMES.dead_letters)) == 12)
        wait(lambda: channel.pending() == 0)
    letters = [letter for _, letter in channel.found(NAMES.dead_letters)]
    assert sorted(letter["problem"]["status"] for letter in letters) == [400] * 3 + [413] + [422] * 8
    [hours] = [letter for letter in letters if letter["problem"]["errors"][:1] and "hours" in letter["body"]]
    assert hours["problem"]["errors"][0]["field"] == "data.0.hours"
    assert hours["body"].encode() == unanswerable[4]
    assert len(logged_ids(settings.store_url)) == 2


def test_a_message_is_acknowledged_only_when_its_prediction_is_on_disk(channel: Channel, settings: Settings) -> None:
    """While the queue cannot be written it stays with the broker; after that it is answered."""
    settings.requests.mkdir(parents=True)  # a folder in its place
    with consuming(settings):
        channel.request(1, "waits")
        wait(lambda: channel.pending() == 1)
        time.sleep(2 * LEASE)
        assert channel.pending() == 1
        assert channel.answers() == []
        settings.requests.rmdir()
        wait(channel.answers)
        wait(lambda: channel.pending() == 0)
    assert len(logged_ids(settings.store_url)) == 2


def test_a_message_is_acknowledged_only_when_its_answer_is_with_the_broker(
    channel: Channel, settings: Settings
) -> None:
    """While the broker does not take the answer, the message stays; it is not answered anew."""
    channel.server.client.set(NAMES.answers, "no stream")
    with consuming(settings):
        channel.request(1, "waits")
        wait(lambda: len(logged_ids(settings.store_url)) == 2)
        time.sleep(LEASE)
        assert channel.pending() == 1
        channel.server.client.delete(NAMES.answers)
        wait(channel.answers)
        wait(lambda: channel.pending() == 0)
    assert len(logged_ids(settings.store_url)) == 2


def test_a_message_is_acknowledged_only_together_with_its_deletion(channel: Channel, settings: Settings) -> None:
    """While it cannot be deleted, it stays pending; one that is only acknowledged would stay in the stream for ever."""
    channel.server.client.acl_setuser("default", enabled=True, commands=["-xdel"])
    with consuming(settings):
        channel.request(1, "stays")
        wait(channel.answers)
        time.sleep(LEASE)
        assert channel.pending() == 1
        channel.server.client.acl_setuser("default", enabled=True, commands=["+xdel"])
        wait(lambda: not channel.server.client.xlen(NAMES.requests))
        assert channel.pending() == 0
    assert len(logged_ids(settings.store_url)) == 2


def test_a_broker_that_is_away_for_a_while_loses_nothing(channel: Channel, settings: Settings) -> None:
    """What was not acknowledged is delivered again; what comes later is answered too."""
    with consuming(settings):
        channel.request(1, "before")
        wait(channel.answers)
        channel.server.kill()
        time.sleep(1)
        channel.server.start()
        channel.request(2, "after")
        wait(lambda: {given for given, _ in channel.answers()} == {"before", "after"})
    assert len(logged_ids(settings.store_url)) == 4


def test_it_ends_with_an_exit_code_that_says_why(channel: Channel, settings: Settings) -> None:
    """6 if the broker does not answer at the start, 2 without a broker, 5 if its group is deleted; one line each, no secret."""
    away = settings.model_copy(
        update={"broker_url": SecretStr("redis://:a-secret-of-ours@127.0.0.1:1/0")}
    )  # pragma: allowlist secret
    for given, code, said in (
        (away, 6, "127.0.0.1:1/0: the broker does not answer: ConnectionError"),
        (settings.model_copy(update={"broker_url": SecretStr("")}), 2, "CTCD_BROKER_URL: no broker is configured"),
        (
            settings.model_copy(update={"broker_url": SecretStr(f"{channel.server.url}?socket_timeout=a-secret")}),
            2,
            "CTCD_BROKER_URL: the URL cannot be used",
        ),
        (
            settings.model_copy(update={"consumer_metrics_port": urlsplit(channel.server.url).port}),
            2,
            "the port cannot be used: Address already in use",
        ),
    ):
        with started(given) as process:
            assert process.ended()[0] == code
            errors = process.ended()[1]
        assert errors.count("\n") == 1
        assert said in errors
        assert "a-secret" not in errors
    with started(settings) as process:
        channel.request(1, "first")
        wait(channel.answers)
        channel.server.client.flushall()
        assert process.ended()[0] == 5
        errors = process.ended()[1]
    assert errors.count("\n") == 1
    assert "the consumer group does not exist any more" in errors


def test_what_is_missing_at_the_start_is_said_at_once(settings: Settings, tmp_path: Path) -> None:
    """A broker that is away is not hidden by a model that is waited for; the log says for what it waits, and how long."""
    without = settings.model_copy(
        update={"scorer_folder": None, "model_source": ModelSource.REGISTRY, "home": tmp_path / "none"}
    )
    without.home.mkdir()
    away = without.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0"), "start_seconds": 3_600})
    with started(away) as process:
        assert process.ended()[0] == 6
    assert process.ended()[1].count("\n") == 1
    with started(without.model_copy(update={"start_seconds": 3})) as process:
        assert process.ended()[0] == 5
    assert process.ended()[1].count("\n") == 1
    assert "no model to serve" in process.ended()[1]
    log = (without.home / "log.txt").read_text(encoding="utf-8").splitlines()
    assert "waiting up to 3 s for the registry's champion" in log[0]


def test_an_interrupt_ends_it_in_an_orderly_way(channel: Channel, settings: Settings) -> None:
    """As with `ctcd serve`."""
    with started(settings) as process:
        channel.request(1, "first")
        wait(channel.answers)
        process.end(signal.SIGINT)
        assert process.ended() == (0, "")
    assert len(logged_ids(settings.store_url)) == 2
