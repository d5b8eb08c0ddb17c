"""Answers the requests that a message broker delivers: Redis Streams, Kafka or RabbitMQ, by the URL of the broker."""

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from faststream import AckPolicy, FastStream
from faststream.specification import AsyncAPI
from prometheus_client import start_http_server
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json

from ctcd import urls
from ctcd.contract.instance import Instance
from ctcd.contract.payload import Payload
from ctcd.contract.spec import Contract
from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError, shown
from ctcd.git import git_revision
from ctcd.serving.http.problems import Problem, ProblemDetails
from ctcd.serving.metrics import Metrics
from ctcd.serving.requests.answering import Answering
from ctcd.serving.requests.queue import QueueFull, Result
from ctcd.serving.runtime import Runtime
from ctcd.settings import Settings

logger = logging.getLogger(__name__)

WORKERS = 8
"""Messages processed concurrently; with Kafka one, because an acknowledgement covers all earlier messages."""
RETRY_SECONDS = 1.0
"""Pause before a failed write to the queue or the broker is retried."""
MAX_LOOK_SECONDS = 0.1
"""Longest pause between two checks for an answer."""
MAX_ID_LENGTH = 255
"""Maximum length of a correlation id, as in RabbitMQ."""
ROUTE = "broker"
"""Label of messages in the metrics of requests."""
ENCODING = {"content-type": "application/json"}


class DeadLetterMessage(BaseModel, frozen=True):
    """A message that cannot be answered, and why."""

    problem: ProblemDetails = Field(description="what the HTTP API would have answered")
    body: str = Field(
        description="the message as it was, bytes that are not UTF-8 as escapes; empty if the broker does not accept it so"
    )


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of the streams, topics or queues of a contract, and of its consumer group."""

    requests: str
    answers: str
    dead_letters: str
    group: str


def names_of(contract: Contract) -> Names:
    """Return the names of a contract's streams."""
    name = contract.name
    return Names(
        requests=f"{name}.requests", answers=f"{name}.answers", dead_letters=f"{name}.dead-letters", group=name
    )


async def _nothing() -> None:
    """Do nothing: the operator of the broker makes what has to exist."""


async def _acknowledge(message: Any) -> None:
    await message.ack()


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between brokers.

    Args:
        broker: FastStream's broker.
        sources: its `subscriber`, with all arguments except `ack_policy`.
        target: argument of its `publish` that names the destination.
        publish: further arguments of `publish`.
        too_large: exceptions of `publish` for a message that exceeds the broker's size limit.
        identify: returns the id of a message, which stays the same when it is redelivered; empty if it has none.
            Senders choose it, so it may be anything.
        prepare: creates what has to exist before the broker starts.
        settle: acknowledges a message.
    """

    broker: Any
    sources: "list[partial[Any]]"
    target: str
    identify: Callable[[Any], Any]
    publish: dict[str, Any] = field(default_factory=dict)
    too_large: tuple[type[Exception], ...] = ()
    prepare: Callable[[], Awaitable[None]] = _nothing
    settle: Callable[[Any], Awaitable[None]] = _acknowledge


async def _itself(message: Any) -> Any:
    """Pass the message on undecoded: its body is parsed like that of an HTTP request."""
    return message


_theirs = logging.getLogger(f"{__name__}.faststream")
_theirs.setLevel(logging.WARNING)
_COMMON: Mapping[str, Any] = {"apply_types": False, "decoder": _itself, "logger": _theirs}


def _redis(url: str, names: Names, lease_seconds: float) -> _Kind:
    from faststream.redis import RedisBroker, StreamSub
    from redis.exceptions import ResponseError

    async def parse(message: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return await original(message)
        except Exception:  # noqa: BLE001 - its bytes may be anything, and an unanswered message would be redelivered for ever
            return await original(message | {"data": {b"__data__": repr(message["data"]).encode()}})

    broker = RedisBroker(url, parser=parse, **_COMMON)
    # A name for each process, so that messages of another one are taken over only after the lease.
    consumer = f"{socket.gethostname()}-{os.getpid()}"
    mine: Any = {"group": names.group, "consumer": consumer}

    async def prepare() -> None:
        client: Any = await broker.connect()
        try:
            # From the first message on; the group that FastStream creates would start with new messages only.
            await client.xgroup_create(names.requests, names.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def settle(message: Any) -> None:
        # At once, because nothing would delete what is only acknowledged. No other group reads this stream, which would
        # grow without limit.
        client: Any = await broker.connect()
        ids = message.raw_message["message_ids"]
        await client.pipeline().xack(names.requests, names.group, *ids).xdel(names.requests, *ids).execute()

    fresh = StreamSub(names.requests, max_records=WORKERS, **mine)
    left = StreamSub(names.requests, min_idle_time=round(lease_seconds * 1_000), **mine)
    return _Kind(
        broker=broker,
        sources=[
            partial(broker.subscriber, stream=fresh, max_workers=WORKERS),
            partial(broker.subscriber, stream=left),
        ],
        target="stream",
        identify=lambda message: (
            message.headers.get("correlation_id") or message.raw_message["message_ids"][0].decode()
        ),
        prepare=prepare,
        settle=settle,
    )


def _kafka(url: str, names: Names, _lease_seconds: float) -> _Kind:
    from aiokafka.errors import MessageSizeTooLargeError  # type: ignore[import-untyped] # it has no types
    from faststream.kafka import KafkaBroker

    async def parse(message: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
        # Headers may be anything, and a message that cannot be parsed would be skipped instead of dead-lettered.
        message.headers = [each for each in message.headers if _is_text(each[1])]
        return await original(message)

    def identify(message: Any) -> str:
        raw = message.raw_message
        given: str = message.headers.get("correlation_id", "")
        return given or f"{raw.topic}/{raw.partition}/{raw.offset}"

    broker = KafkaBroker(urlsplit(url).netloc.split(","), parser=parse, **_COMMON)
    return _Kind(
        broker=broker,
        sources=[partial(broker.subscriber, names.requests, group_id=names.group, auto_offset_reset="earliest")],
        target="topic",
        too_large=(MessageSizeTooLargeError,),
        identify=identify,
    )


def _is_text(value: bytes | None) -> bool:
    try:
        return value is not None and bool(value.decode())
    except UnicodeDecodeError:
        return False


def _rabbit(url: str, names: Names, _lease_seconds: float) -> _Kind:
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=WORKERS), **_COMMON)

    async def prepare() -> None:
        await broker.connect()
        # Otherwise messages published before the first consumer connects are lost.
        for each in (names.answers, names.dead_letters):
            await broker.declare_queue(RabbitQueue(each, durable=True))

    return _Kind(
        broker=broker,
        sources=[partial(broker.subscriber, RabbitQueue(names.requests, durable=True))],
        target="queue",
        publish={"persist": True, "content_type": ENCODING["content-type"]},
        identify=lambda message: message.raw_message.correlation_id or message.raw_message.message_id or "",
        prepare=prepare,
    )


KINDS: Mapping[str, Callable[[str, Names, float], _Kind]] = {
    "redis": _redis,
    "rediss": _redis,
    "kafka": _kafka,
    "amqp": _rabbit,
    "amqps": _rabbit,
}


def _kind(url: str, names: Names, lease_seconds: float) -> _Kind:
    try:
        return KINDS[urlsplit(url).scheme](url, names, lease_seconds)
    except ValueError as error:  # its text may contain a part of a password
        raise UsageError(
            "the URL cannot be used", where="CTCD_BROKER_URL", hint="check its port and what follows a question mark"
        ) from error


class Consumer:
    """Answers each message like `POST /predictions` and `GET /predictions/{request_id}`, then acknowledges it.

    A message is committed to the queue of requests, answered, and acknowledged once its answer is published. A message
    that is redelivered, because this process was killed meanwhile, has the same request id and is in the prediction log
    once. A message that cannot be answered becomes a dead letter, so that it does not block others.
    """

    def __init__(self, kind: _Kind, names: Names, runtime: Runtime, settings: Settings) -> None:
        self._kind, self._names, self._runtime, self._settings = kind, names, runtime, settings
        self._answering = cast("Answering", runtime.answering)  # as the setting `asynchronous` says
        self._subscribers = [subscriber(ack_policy=AckPolicy.MANUAL) for subscriber in kind.sources]
        for subscriber in self._subscribers:
            subscriber(self.answer)

    @property
    def listens(self) -> bool:
        """Whether the subscribers are running; they stop if the consumer group is deleted."""
        return all(each.running for each in self._subscribers)

    async def answer(self, message: Any) -> None:
        """Answer a message; one that is not acknowledged is redelivered."""
        given = _sendable(self._kind.identify(message))
        body: bytes = message.body
        began = time.monotonic()
        try:
            result = await self._result(given, body)
            if result.status == 200 and not await self._publish(
                self._names.answers, result.body, given, {"x-variant": result.variant}
            ):
                refused = Problem(413, "its answer is larger than the broker accepts; send fewer rows per message")
                result = Result(status=refused.status, body=refused.body())
            if result.status != 200:
                await self._bury(result.body, body, given)
            await self._kind.settle(message)
            self._runtime.metrics.request(ROUTE, result.status, time.monotonic() - began, result.variant)
            if given:
                await asyncio.to_thread(self._answering.queue.forget, request_id(given, body))
        except (Exception, asyncio.CancelledError) as error:
            logger.warning("a message is not acknowledged, and will be delivered again: %s", shown(error))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _result(self, given: str, body: bytes) -> Result:
        """Return the answer to a body; it goes through the queue unless it is refused at once."""
        try:
            await self._require_valid(given, body)
        except Problem as problem:
            return Result(status=problem.status, body=problem.body())
        queue, identifier = self._answering.queue, request_id(given, body)
        pause = 0.002
        while True:
            try:
                result = await asyncio.to_thread(queue.result, identifier)
                if result is None:
                    await asyncio.to_thread(self._answering.add, identifier, body)
                elif result.status:
                    return result
            except QueueFull as error:
                logger.warning("a message has to wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_LOOK_SECONDS)

    async def _require_valid(self, given: str, body: bytes) -> None:
        if not given:
            raise Problem(
                422,
                "the message needs a correlation id or a message id, so that it is logged only once; an id has at most"
                f" {MAX_ID_LENGTH} characters, all of them ASCII",
            )
        if len(body) > self._settings.batch_max_bytes:
            raise Problem(413, f"the body may have at most {self._settings.batch_max_bytes} bytes")
        await self._runtime.batches.check(body, seconds=float("inf"))

    async def _bury(self, why: bytes, body: bytes, given: str) -> None:
        problem = from_json(why)
        logger.error("a message is dead-lettered: %s", problem["detail"])
        text = body[: self._settings.batch_max_bytes].decode(errors="backslashreplace")
        # Escaped in JSON, it may be larger than the message that the broker accepted.
        for each in (text, ""):
            if await self._publish(self._names.dead_letters, to_json({"problem": problem, "body": each}), given):
                return

    async def _publish(self, name: str, body: bytes, given: str, headers: Mapping[str, str] | None = None) -> bool:
        """Publish, retrying until the broker accepts; return False if the message is too large for it."""
        to = {self._kind.target: name, "correlation_id": given or None, "headers": {**ENCODING, **(headers or {})}}
        while True:
            try:
                await self._kind.broker.publish(body, **to, **self._kind.publish)
            except self._kind.too_large:
                return False
            except Exception as error:  # noqa: BLE001 - whatever it is, it is retried before the message is acknowledged
                logger.warning("the broker does not accept an answer, will retry: %s", shown(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return True


def _sendable(given: Any) -> str:
    """Return the id of a message, or "" if it cannot be the correlation id of an answer with every broker."""
    return given if isinstance(given, str) and given.isascii() and len(given) <= MAX_ID_LENGTH else ""


def request_id(given: str, body: bytes) -> str:
    """Return the request id of a message, derived from its own id and its body.

    Senders may reuse an id, for example by counting from 1 again, and must not get the answer to another message.
    """
    return str(uuid5(NAMESPACE_URL, f"{given} {sha256(body).hexdigest()}"))


def consume(settings: Settings, instance: Instance) -> None:
    """Answer the requests of the broker until this process is stopped (Ctrl-C, SIGTERM).

    Raises:
        UsageError: there is no broker in the settings, or its URL or the port of the metrics cannot be used.
        NotFound: there is no model, or the consumer group was deleted.
        Unreachable: the broker does not answer at the start.
    """
    url = settings.broker_url.get_secret_value()
    if not url:
        raise UsageError("no broker is configured", where="CTCD_BROKER_URL", hint="set it, such as redis://host:6379/0")
    asyncio.run(_require_answer(url, instance, settings))  # first, because the start may wait long for a model
    # Messages go through the queue; and there is no Bento whose tag could be logged as `served_by`.
    changed: dict[str, Any] = {"asynchronous": True, "served_by": settings.served_by or git_revision(settings)}
    metrics = Metrics()
    if settings.consumer_metrics_port is not None:
        changed["ship_in_process"] = False  # the page has what this process counts
        _show(metrics, instance.contract.name, settings.host, settings.consumer_metrics_port)
    runtime = Runtime(settings.model_copy(update=changed), instance, metrics)
    runtime.start()
    try:
        asyncio.run(_consume(url, runtime, settings, instance))
    finally:
        runtime.stop()


def _show(metrics: Metrics, model: str, host: str, port: int) -> None:
    """Serve the metrics from a thread until this process ends."""
    try:
        start_http_server(port, host, metrics.labelled(model))
    except OSError as error:
        raise UsageError(
            f"the port cannot be used: {error.strerror}",
            where=f"CTCD_CONSUMER_METRICS_PORT={port}",
            hint="choose another one; each process needs its own",
        ) from error


async def _require_answer(url: str, instance: Instance, settings: Settings) -> None:
    kind = _kind(url, names_of(instance.contract), settings.requests_lease_seconds)
    with _answering_at(url):
        async with kind.broker:
            await kind.prepare()


@contextmanager
def _answering_at(url: str) -> Iterator[None]:
    try:
        yield
    except CtcdError:
        raise
    except Exception as error:
        raise Unreachable(f"the broker does not answer: {type(error).__name__}", where=urls.masked(url)) from error


async def _consume(url: str, runtime: Runtime, settings: Settings, instance: Instance) -> None:
    names = names_of(instance.contract)
    kind = _kind(url, names, settings.requests_lease_seconds)
    consumer = Consumer(kind, names, runtime, settings)
    listened: list[bool] = []

    async def note() -> None:
        listened.append(consumer.listens)

    app = FastStream(kind.broker, logger=_theirs, on_startup=[kind.prepare], on_shutdown=[note])
    with _answering_at(url):
        await app.run()
    if not all(listened):
        raise NotFound(
            "the consumer group does not exist any more: was the stream deleted?",
            where=urls.masked(url),
            hint="start this again",
        )


def document(contract: Contract, payload: Payload) -> dict[str, Any]:
    """Return the AsyncAPI 3 document of a contract's messages, as FastStream makes it for Redis."""
    from faststream.redis import RedisBroker, StreamSub

    names = names_of(contract)
    broker = RedisBroker("redis://localhost:6379")

    async def answer(body: Any) -> None:
        """Never called: it stands in for `Consumer.answer`, with the type of the message."""

    answer.__annotations__ = {"body": payload.batch_request}
    broker.subscriber(
        stream=StreamSub(names.requests, group=names.group, consumer="one for each process"),
        title="requests",
        description="Rows to be scored, in JSON. The same rows with the same correlation id are logged once.",
    )(answer)
    described = (
        (
            names.answers,
            payload.batch_prediction,
            "Logged predictions; the correlation id is the request's, and the header `x-variant` says who predicted.",
        ),
        (names.dead_letters, DeadLetterMessage, "Messages that cannot be answered, and why."),
    )
    for name, schema, description in described:
        broker.publisher(stream=name, schema=schema, title=name.partition(".")[2], description=description)
    specification = AsyncAPI(broker, title=contract.name, version=contract.version).to_specification()
    # FastStream keeps publishers in a set, so the order would differ between processes.
    found: dict[str, Any] = json.loads(json.dumps(from_json(specification.to_json()), sort_keys=True))
    return found
