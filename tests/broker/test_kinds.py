"""Messages of the other brokers are answered the same way, and the AsyncAPI document describes them.

Kafka and RabbitMQ are FastStream's own stand-ins here: Debian has no Kafka, and of RabbitMQ this is about the order in
which a message is answered and acknowledged, which no client of a real server sees (`test_rabbitmq.py` has one).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from aiokafka.errors import MessageSizeTooLargeError  # type: ignore[import-untyped] # it has no types
from faststream import AckPolicy
from faststream.kafka import TestKafkaBroker, testing
from faststream.rabbit import RabbitQueue, TestRabbitBroker
from jsonschema import Draft202012Validator
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.serving import empty_store, pinned, row_of

from ctcd.errors import NotFound
from ctcd.serving import broker
from ctcd.serving.broker import Consumer, names_of
from ctcd.serving.metrics import Metrics
from ctcd.serving.runtime import Runtime

pytestmark = pytest.mark.broker
NAMES = names_of(CONTRACT)
STAND_INS: dict[str, Any] = {"kafka": TestKafkaBroker, "amqp": TestRabbitBroker}
GOOD: dict[str, Any] = {"data": [row_of(1), row_of(2)]}
BAD: dict[str, Any] = {"data": [{}]}


@pytest.fixture
def runtime(model_folder: Path, tmp_path: Path) -> Iterator[Runtime]:
    """What a consumer answers with."""
    settings = empty_store(pinned(tmp_path, model_folder, asynchronous=True, ship_in_process=False))
    with patch("ctcd.serving.runtime.tune_interpreter"):
        found = Runtime(settings, INSTANCE, Metrics())
        found.start()
        yield found
        found.stop()


@pytest.mark.parametrize("scheme", STAND_INS)
def test_a_message_is_answered_and_poison_dead_lettered(runtime: Runtime, tmp_path: Path, scheme: str) -> None:
    """Both with the correlation id of the message, the answer with its variant; then each is acknowledged."""
    happened: list[tuple[str, Any, Any]] = []
    variants: list[str | None] = []

    async def run() -> None:
        kind = broker._kind(f"{scheme}://127.0.0.1:1", NAMES, 60)
        published = kind.broker.publish

        async def settle(message: Any) -> None:
            await message.ack()
            happened.append(("acknowledged", kind.identify(message), None))

        async def publish(body: bytes, **to: Any) -> None:
            if to["correlation_id"] in ("good", "bad") and to.get("headers"):
                happened.append((to[kind.target], to["correlation_id"], json.loads(body)))
                variants.append(to["headers"].get("x-variant"))
                return
            await published(body, **to)

        object.__setattr__(kind, "settle", settle)
        consumer = Consumer(kind, NAMES, runtime, pinned(tmp_path))
        async with STAND_INS[scheme](kind.broker):
            with patch.object(kind.broker, "publish", publish):
                for given, body in (("good", GOOD), ("bad", BAD)):
                    to = {kind.target: NAMES.requests, "correlation_id": given}
                    await published(json.dumps(body).encode(), **to)
            assert consumer.listens

    asyncio.run(run())
    assert [(what, given) for what, given, _ in happened] == [
        (NAMES.answers, "good"),
        ("acknowledged", "good"),
        (NAMES.dead_letters, "bad"),
        ("acknowledged", "bad"),
    ]
    PAYLOAD.batch_prediction.model_validate_json(json.dumps(happened[0][2]), strict=True)
    assert happened[2][2]["problem"]["status"] == 422
    assert variants == ["champion", None]
    took = "ctcd_request_seconds_count", {"model": CONTRACT.name, "route": broker.ROUTE, "variant": "champion"}
    assert runtime.metrics.labelled(CONTRACT.name).get_sample_value(*took) == 1


@pytest.mark.parametrize("scheme", broker.KINDS)
def test_a_message_waits_for_its_acknowledgement(tmp_path: Path, scheme: str) -> None:
    """None is acknowledged because it was received: it would be lost with the process."""
    policies: list[AckPolicy] = []

    def subscriber(ack_policy: AckPolicy) -> Callable[[Any], None]:
        policies.append(ack_policy)
        return lambda _: None

    kind = replace(broker._kind(f"{scheme}://127.0.0.1:1", NAMES, 60), sources=[partial(subscriber)])
    unused: Any = SimpleNamespace(answering=None)
    Consumer(kind, NAMES, unused, pinned(tmp_path))
    assert policies == [AckPolicy.MANUAL]


def test_what_a_broker_holds_outlives_its_restart() -> None:
    """RabbitMQ's queues and answers are on its disk."""
    kind = broker._kind("amqp://127.0.0.1:1", NAMES, 60)
    queues = [kind.sources[0].args[0]]

    async def declare(queue: RabbitQueue) -> None:
        queues.append(queue)

    async def prepare() -> None:
        await kind.prepare()

    with patch.object(kind.broker, "connect", AsyncMock()), patch.object(kind.broker, "declare_queue", declare):
        asyncio.run(prepare())
    assert {queue.name: queue.durable for queue in queues} == dict.fromkeys(
        (NAMES.requests, NAMES.answers, NAMES.dead_letters), True
    )
    assert kind.publish["persist"] is True


def test_a_first_consumer_reads_what_was_sent_before() -> None:
    """Kafka's group begins with the oldest message; otherwise those of before the first start would be lost."""
    [source] = broker._kind("kafka://127.0.0.1:1", NAMES, 60).sources
    assert (source.keywords["group_id"], source.keywords["auto_offset_reset"]) == (NAMES.group, "earliest")


def test_the_end_of_a_group_is_told_without_the_password(runtime: Runtime, tmp_path: Path) -> None:
    """Whoever reads the message need not be allowed to read the stream."""

    class Ended:
        """Ends at once, as the subscribers do if their group is deleted."""

        def __init__(self, *_: object, on_shutdown: list[Callable[[], Awaitable[None]]], **_named: object) -> None:
            self._ended = on_shutdown

        async def run(self) -> None:
            for each in self._ended:
                await each()

    url = "amqp://tester:mkPassword8Qz4Xw2@127.0.0.1:1"  # pragma: allowlist secret
    with (
        patch.object(broker, "FastStream", Ended),
        patch.object(Consumer, "listens", new=False),
        pytest.raises(NotFound, match="the consumer group does not exist") as refused,
    ):
        asyncio.run(broker._consume(url, runtime, pinned(tmp_path), INSTANCE))
    assert "mkPassword8Qz4Xw2" not in str(refused.value)


@pytest.mark.parametrize(("rows", "buried"), [(GOOD, 413), ({"data": [{}], "more": "x" * 2_000}, 422)])
def test_what_is_too_large_for_kafka_holds_up_nothing(
    runtime: Runtime, tmp_path: Path, rows: dict[str, Any], buried: int
) -> None:
    """It is dead-lettered, without the message if even that is too large; headers of any kind do not matter."""
    letters: list[Any] = []

    async def run() -> None:
        kind = broker._kind("kafka://127.0.0.1:1", NAMES, 60)
        published, build = kind.broker.publish, testing.build_message

        async def publish(body: bytes, **to: Any) -> None:
            if to["topic"] == NAMES.requests:
                await published(body, **to)
            elif to["topic"] == NAMES.answers or len(body) > 1_500:
                # What aiokafka and Kafka do above 1 MiB; the stand-in has no limit.
                raise MessageSizeTooLargeError
            else:
                letters.append((to["topic"], to["correlation_id"], json.loads(body)))

        async def with_headers(*given: Any, **more: Any) -> Any:
            record = await build(*given, **more)
            record.headers += [("null", None), ("bytes", b"\xff")]
            return record

        consumer = Consumer(kind, NAMES, runtime, pinned(tmp_path))
        async with TestKafkaBroker(kind.broker):
            with patch.object(kind.broker, "publish", publish), patch.object(testing, "build_message", with_headers):
                await publish(json.dumps(rows).encode(), topic=NAMES.requests, correlation_id="large")
            assert consumer.listens

    asyncio.run(run())
    [(topic, given, letter)] = letters
    assert (topic, given, letter["problem"]["status"]) == (NAMES.dead_letters, "large", buried)
    assert json.loads(letter["body"] or "{}") == (rows if buried == 413 else {})
    counted = "ctcd_requests_total", {"model": CONTRACT.name, "route": broker.ROUTE, "status": str(buried)}
    assert runtime.metrics.labelled(CONTRACT.name).get_sample_value(*counted) == 1


def test_the_document_describes_the_messages() -> None:
    """Each stream by its name, with schemas that its messages satisfy and others do not; the lock has it, too."""
    document = broker.document(CONTRACT, PAYLOAD)
    assert document == json.loads((INSTANCE.lock / "asyncapi.json").read_text())
    assert document["asyncapi"].startswith("3.")
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}
    assert addresses == {"requests": NAMES.requests, "answers": NAMES.answers, "dead-letters": NAMES.dead_letters}
    assert {name: each["action"] for name, each in document["operations"].items()} == {
        "requests": "receive", "answers": "send", "dead-letters": "send",
    }  # fmt: skip
    [message] = [each for name, each in document["components"]["messages"].items() if name.startswith("requests")]
    assert message["correlationId"] == {"location": "$message.header#/correlation_id"}
    schema = {**message["payload"], "components": document["components"]}
    Draft202012Validator(schema).validate(GOOD)
    assert list(Draft202012Validator(schema).iter_errors(BAD))
