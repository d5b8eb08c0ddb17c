"""An embedded store for unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ctcd.store.engine import connect


@pytest.fixture
def store(migrated_file: bytes, tmp_path: Path) -> Iterator[Engine]:
    """A SQLite store with tables and no rows, of this test's own."""
    path = tmp_path / "store.db"
    path.write_bytes(migrated_file)
    engine = connect(f"sqlite:///{path}")
    yield engine
    engine.dispose()
