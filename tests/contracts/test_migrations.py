"""The instance's migrations lead to the contract's tables."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.engine import URL
from support.mariadb import database, server
from support.tested_instance import CONTRACT, INSTANCE

from ctcd.store.engine import connect
from ctcd.store.migrations import pending, upgrade
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration
REVISIONS = sorted(INSTANCE.migrations.glob("v*.py"))


@pytest.fixture(scope="module")
def mariadb() -> Iterator[URL]:
    """A MariaDB server."""
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    with database(request.getfixturevalue("mariadb")) as made:
        yield made.render_as_string(hide_password=False)


@pytest.mark.parametrize("revision", range(len(REVISIONS)))
def test_every_older_schema_is_migrated_to_the_tables_of_the_contract(url: str, revision: int, tmp_path: Path) -> None:
    """An empty store, and one at each older revision, ends with the contract's tables."""
    older = tmp_path / "older"
    older.mkdir()
    for file in REVISIONS[:revision]:
        shutil.copy(file, older)
    if revision:
        upgrade(url, older)
    assert pending(connect(url), INSTANCE.migrations)
    upgrade(url, INSTANCE.migrations)
    assert not pending(connect(url), INSTANCE.migrations)
    engine, tables = connect(url), build_tables(CONTRACT).metadata.sorted_tables
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), build_tables(CONTRACT).metadata)
        keys = {each.name: inspect(connection).get_pk_constraint(each.name) for each in tables}
    engine.dispose()
    assert list(found) == []
    assert {name: key["constrained_columns"] for name, key in keys.items()} == {
        each.name: [column.name for column in each.primary_key] for each in tables
    }
