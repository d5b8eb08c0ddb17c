"""An embedded store for unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.instance import INSTANCE

from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A SQLite store with tables and no rows, as bytes."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    upgrade(f"sqlite:///{path}", INSTANCE.migrations)
    return path.read_bytes()


@pytest.fixture
def store(migrated_file: bytes, tmp_path: Path) -> Iterator[Engine]:
    """A SQLite store with tables and no rows, of this test's own."""
    path = tmp_path / "store.db"
    path.write_bytes(migrated_file)
    engine = connect(f"sqlite:///{path}")
    yield engine
    engine.dispose()
