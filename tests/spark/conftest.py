"""A cluster of two executors on this machine, as processes of their own, and a model to score with."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.instance import INSTANCE
from support.mariadb import database, server
from support.serving import save_model, small_scorer

from ctcd.store.migrations import upgrade

MASTER = "--master local-cluster[2,1,1024] pyspark-shell"
"""Two executors with a core and 1 GiB each."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let Spark start its cluster here, as its own configuration would name another one."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = MASTER
    os.environ["SPARK_WORKER_DIR"] = str(tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small model."""
    return save_model(small_scorer(), tmp_path_factory.mktemp("model"))


@pytest.fixture
def store_url() -> Iterator[str]:
    """URL of a MariaDB database of this test's own, with tables and no rows."""
    with server() as url, database(url) as own:
        text = own.render_as_string(hide_password=False)
        upgrade(text, INSTANCE.migrations)
        yield text
