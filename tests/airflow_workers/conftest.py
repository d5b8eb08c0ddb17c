"""A store with data for Airflow's workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mariadb import server
from support.workers import working

from ctcd.settings import Settings


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Settings]:
    """The settings of whoever starts the workers, whose connection is to a MariaDB store with raw tables."""
    with server() as url, working(url, tmp_path / "home") as settings:
        yield settings
