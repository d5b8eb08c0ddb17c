"""A real broker, and a model to answer with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis import RedisServer, own_server
from support.serving import save_model, small_scorer


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis server of the tests' own."""
    with own_server() as server:
        yield server


@pytest.fixture
def broker(redis: RedisServer) -> RedisServer:
    """The server, with nothing in it."""
    redis.client.flushall()
    return redis


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small model."""
    return save_model(small_scorer(), tmp_path_factory.mktemp("model"))
