"""Migrations on real databases."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table, inspect, text
from support.instance import CONTRACT, INSTANCE

from ctcd.errors import UsageError
from ctcd.store.engine import connect, transaction
from ctcd.store.migrations import pending, upgrade
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration


def differences(engine: Engine, metadata: MetaData) -> list[object]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_migrated_tables_are_those_of_the_contract(each_store_url: str) -> None:
    """An empty store that is brought up to date differs in nothing from the contract's tables."""
    assert not pending(each_store_url, INSTANCE.migrations)
    assert differences(connect(each_store_url), build_tables(CONTRACT).metadata) == []


def test_an_extra_column_is_noticed(each_store_url: str) -> None:
    """The comparison finds a column that no revision has made."""
    changed = MetaData()
    for table in build_tables(CONTRACT).metadata.sorted_tables:
        table.to_metadata(changed)
    Table(CONTRACT.labels_table, changed, Column("extra", Integer()), extend_existing=True)
    [found] = differences(connect(each_store_url), changed)
    assert isinstance(found, tuple)
    assert found[0] == "add_column"
    assert found[3].name == "extra"


def test_upgrade_twice_changes_nothing(each_store_url: str) -> None:
    """A store that is up to date stays as it is."""
    before = inspect(connect(each_store_url)).get_table_names()
    upgrade(each_store_url, INSTANCE.migrations)
    assert inspect(connect(each_store_url)).get_table_names() == before


def test_a_run_cut_short_is_completed(empty_store_url: str) -> None:
    """Where a killed run left some tables and no version, the next run ends with all of them."""
    engine = connect(empty_store_url)
    tables = build_tables(CONTRACT)
    tables.metadata.create_all(engine, tables=[tables.predictions, tables.labels])
    assert pending(empty_store_url, INSTANCE.migrations)
    upgrade(empty_store_url, INSTANCE.migrations)
    assert not pending(empty_store_url, INSTANCE.migrations)
    assert differences(engine, tables.metadata) == []


def test_two_processes_upgrade_at_once(empty_store_url: str) -> None:
    """Two processes that start on one empty store both end well."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(upgrade, [empty_store_url] * 2, [INSTANCE.migrations] * 2)) == [None, None]
    assert not pending(empty_store_url, INSTANCE.migrations)


def test_a_newer_schema_is_refused(each_store_url: str) -> None:
    """A store that a newer release has migrated is named, with what to do, and not changed."""
    with transaction(connect(each_store_url)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert pending(each_store_url, INSTANCE.migrations)
    with pytest.raises(UsageError, match=r"9999.*install the version"):
        upgrade(each_store_url, INSTANCE.migrations)


def test_text_compares_by_its_bytes(store_url: str) -> None:
    """On MariaDB upper and lower case are two values, and a number comes back to the last bit."""
    engine = connect(store_url)
    quarantine = build_tables(CONTRACT).quarantine
    with transaction(engine) as connection:
        for source in ("a", "A"):
            connection.execute(
                quarantine.insert(),
                {"table_name": "t", "source": source, "line": 1, "reasons": [], "record": {"ü": "😀"}},
            )
        assert connection.scalar(text("SELECT @@session.time_zone")) == "+00:00"
        assert "STRICT_ALL_TABLES" in str(connection.scalar(text("SELECT @@session.sql_mode")))
    with engine.connect() as connection:
        assert connection.scalar(quarantine.select().with_only_columns(quarantine.c.record)) == {"ü": "😀"}
