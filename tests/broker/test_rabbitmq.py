"""`ctcd consume` with a real RabbitMQ: each message is answered, logged once and acknowledged, whatever happens."""

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from pydantic import SecretStr
from support.consuming import consuming, started
from support.instance import CONTRACT, PAYLOAD
from support.load import wait
from support.rabbitmq import RabbitServer, own_server
from support.serving import empty_store, logged_ids, pinned, row_of

from ctcd.serving.broker import names_of
from ctcd.settings import Settings

pytestmark = pytest.mark.broker
NAMES = names_of(CONTRACT)


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    """A RabbitMQ server of the tests' own."""
    with own_server() as found:
        yield found


class Queues:
    """The queues of the contract, as any client of RabbitMQ sees them."""

    def __init__(self, server: RabbitServer) -> None:
        self.server = server
        self._taken: dict[str, list[tuple[str, Any]]] = {}

    def send(self, ids: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Send messages with these rows that survive a restart of the server."""

        async def send() -> None:
            async with await aio_pika.connect(self.server.url) as connection:
                channel = await connection.channel()
                await channel.declare_queue(NAMES.requests, durable=True)
                for given in ids:
                    message = aio_pika.Message(
                        json.dumps({"data": rows}).encode(),
                        correlation_id=given,
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    )
                    await channel.default_exchange.publish(message, NAMES.requests)

        asyncio.run(send())

    def taken(self, name: str) -> list[tuple[str, Any]]:
        """Take what is in a queue; return the correlation ids and bodies of all that was taken of it."""
        found = self._taken.setdefault(name, [])

        async def take() -> None:
            async with await aio_pika.connect(self.server.url) as connection:
                queue = await (await connection.channel()).declare_queue(name, durable=True)
                while (message := await queue.get(fail=False)) is not None:
                    found.append((message.correlation_id or "", json.loads(message.body)))
                    await message.ack()

        asyncio.run(take())
        return found

    def answered(self) -> set[str]:
        return {given for given, _ in self.taken(NAMES.answers)}

    def has_answered(self, least: int) -> bool:
        return len(self.answered()) >= least


@pytest.fixture
def queues(server: RabbitServer) -> Queues:
    found = Queues(server)
    for name in (NAMES.requests, NAMES.answers, NAMES.dead_letters):
        found.taken(name)
    return Queues(server)


@pytest.fixture
def settings(server: RabbitServer, model_folder: Path, tmp_path: Path) -> Settings:
    return empty_store(pinned(tmp_path, model_folder, broker_url=SecretStr(server.url)))


def test_messages_are_answered_logged_once_and_acknowledged(queues: Queues, settings: Settings) -> None:
    """Also those from before anybody listened; one that breaks the contract is dead-lettered with its problem."""
    ids = [f"order-{number}" for number in range(10)]
    queues.send(ids[:5], [row_of(1), row_of(2)])
    with consuming(settings):
        queues.send(["poison"], [{}])
        queues.send(ids[5:], [row_of(1), row_of(2)])
        wait(partial(queues.has_answered, 10))
        wait(lambda: queues.taken(NAMES.dead_letters))
        wait(lambda: len(logged_ids(settings.store_url)) >= 20)
    answers = queues.taken(NAMES.answers)
    assert sorted(given for given, _ in answers) == sorted(ids)
    told: list[Any] = [
        PAYLOAD.batch_prediction.model_validate_json(json.dumps(body), strict=True) for _, body in answers
    ]
    in_log = sorted(logged_ids(settings.store_url))
    assert sorted(each.request_id for found in told for each in found.predictions) == in_log
    [(given, letter)] = queues.taken(NAMES.dead_letters)
    assert (given, letter["problem"]["status"]) == ("poison", 422)
    assert queues.taken(NAMES.requests) == []


def test_a_message_of_a_killed_process_is_answered_by_another_and_logged_once(
    queues: Queues, settings: Settings
) -> None:
    """Two are killed at any moment; the server delivers again what they had not acknowledged."""
    ids = [str(uuid4()) for _ in range(60)]
    queues.send(ids, [row_of(1), row_of(2)])
    for least in (1, 30):
        with started(settings) as process:
            wait(partial(queues.has_answered, least))
            process.end(signal.SIGKILL)
    # The one before may have answered everything: without a message of its own, the third could be ended while it starts.
    ids.append(str(uuid4()))
    queues.send(ids[-1:], [row_of(1), row_of(2)])
    with consuming(settings):
        wait(lambda: queues.answered() == set(ids))
        wait(lambda: len(logged_ids(settings.store_url)) >= 2 * len(ids))
    in_log = logged_ids(settings.store_url)
    assert len(in_log) == len(set(in_log)) == 2 * len(ids)
    told = {each["request_id"] for _, found in queues.taken(NAMES.answers) for each in found["predictions"]}
    assert told == set(in_log)
    assert queues.taken(NAMES.requests) == []


def test_a_server_that_is_away_for_a_while_loses_nothing(queues: Queues, settings: Settings) -> None:
    """It is killed while it has an answer; the process connects to it again, and says nothing of its password."""
    with started(settings) as process:
        queues.send(["before"], [row_of(1)])
        wait(lambda: len(logged_ids(settings.store_url)) == 1)
        queues.server.kill()
        queues.server.start()
        queues.send(["after"], [row_of(2)])
        wait(lambda: queues.answered() == {"before", "after"})
        wait(lambda: len(logged_ids(settings.store_url)) == 2)
        process.end(signal.SIGTERM)
        code, errors = process.ended()
    assert code == 0
    assert str(urlsplit(queues.server.url).password) not in errors
    assert queues.taken(NAMES.requests) == []
