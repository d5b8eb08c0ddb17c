"""Real stores for integration tests."""

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy.engine import URL
from support.instance import INSTANCE
from support.mariadb import database, server
from support.shortcuts import shortcuts
from support.warm_commands import Program, command_server

from ctcd.store.migrations import upgrade

FOLDER = Path(__file__).parent
HANGING = 900
"""Seconds after which a test is taken to hang; the longest take 40 on an idle machine, with what they start from."""
LONGEST = (
    "dags/test_stack.py",
    "serving/test_outbox_recovery.py",
    "cli/test_commands.py",
    "promotion/test_registry.py",
    "serving/test_swap.py",
    "serving/test_faults.py",
    "cli/test_marks.py",
    "cli/test_real_defaults.py",
    "cli/test_contract_change.py",
    "dags/test_deployment_dag.py",
    "monitoring/test_data_monitor.py",
    "dags/test_training_dag.py",
    "training/test_train.py",
    "cli/test_personal_data.py",
    "monitoring/test_agreement.py",
)
"""They begin first, so that at the end no process waits for another one's long file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and give tests of processes time on a busy machine before they count as hanging."""
    files = {str(FOLDER / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: files.get(str(item.path), len(files)))
    for item in items:
        if item.path.is_relative_to(FOLDER) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HANGING))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Take shortcuts in the tests of this folder with their fixtures, and in no other test of this process."""
    with shortcuts() if item.path.is_relative_to(FOLDER) else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[URL]:
    """URL, without a database, of a MariaDB server: that of FEATURE_STORE_URL or a private one."""
    with server() as url:
        yield url


@pytest.fixture(scope="session")
def warm_program() -> Iterator[Program]:
    """What runs commands in forks of one process, which saves the imports of each."""
    with command_server() as program:
        yield program


@pytest.fixture
def empty_store_url(mariadb: URL) -> Iterator[str]:
    """URL of a MariaDB database of this test's own, without tables."""
    with database(mariadb) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def store_url(empty_store_url: str) -> str:
    """URL of a MariaDB database of this test's own, with tables and no rows."""
    upgrade(empty_store_url, INSTANCE.migrations)
    return empty_store_url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite store of this test's own, with tables and no rows."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, INSTANCE.migrations)
    return url


@pytest.fixture(params=["sqlite", "mariadb"])
def each_store_url(request: pytest.FixtureRequest) -> str:
    """URL of a store with tables and no rows, on SQLite and on MariaDB."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "store_url"))
