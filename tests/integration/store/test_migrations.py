"""Migrations on real databases."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, event, inspect, make_url, select, text
from support.instance import CONTRACT, INSTANCE
from support.small_contracts import Small, write_instance

from ctcd.errors import UsageError
from ctcd.store.engine import connect, transaction
from ctcd.store.migrations import pending, upgrade
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration


def differences(engine: Engine, metadata: MetaData) -> list[object]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def primary_keys(engine: Engine) -> dict[str, list[str]]:
    """Return the columns of each primary key, which Alembic does not compare."""
    found = inspect(engine)
    return {
        name: found.get_pk_constraint(name)["constrained_columns"]
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def test_migrated_tables_are_those_of_the_contract(each_store_url: str) -> None:
    """An empty store that is brought up to date differs in nothing from the contract's tables."""
    assert not pending(connect(each_store_url), INSTANCE.migrations)
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


def test_tables_of_long_and_of_many_texts_can_be_made(empty_store_url: str, tmp_path: Path) -> None:
    """Texts that MariaDB cannot hold within a row are stored outside it, and need no migration afterwards."""
    lengths = [20_000, *[300] * 60, *[20] * 130]
    texts = {f"x{place}": ("str", f'max_length={length}, example="a"') for place, length in enumerate(lengths)}
    label = ("str", 'role=Role.LABEL, categories=("no", "yes"), example="no"')
    instance = write_instance(
        Small(name="texts", columns={**texts, "y": label}, classes=("no", "yes")), tmp_path / "it"
    )
    upgrade(empty_store_url, instance.migrations)
    engine, tables = connect(empty_store_url), build_tables(instance.contract)
    assert differences(engine, tables.metadata) == []
    long = "é" * 20_000
    with transaction(engine) as connection:
        values = {name: long[:length] for name, length in zip(texts, lengths, strict=True)}
        connection.execute(tables.features.insert(), {"row_number": 1, "ingested_on": date(2025, 8, 31), **values})
        assert connection.execute(select(tables.features.c.x0)).scalar_one() == long


def test_a_run_cut_short_is_completed(empty_store_url: str) -> None:
    """Where a killed run left some tables and no version, the next run ends with all of them."""
    engine = connect(empty_store_url)
    tables = build_tables(CONTRACT)
    tables.metadata.create_all(engine, tables=[tables.predictions, tables.labels])
    assert pending(connect(empty_store_url), INSTANCE.migrations)
    upgrade(empty_store_url, INSTANCE.migrations)
    assert not pending(connect(empty_store_url), INSTANCE.migrations)
    assert differences(engine, tables.metadata) == []


def test_rows_from_before_runs_were_recorded_are_kept(empty_store_url: str, tmp_path: Path) -> None:
    """They name no run afterwards, what a service of that time still writes neither, and the run is part of the keys.

    A run that was killed after any of its statements is completed.
    """
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(INSTANCE.migrations / "v0001_contract_1_0_0.py", first)
    upgrade(empty_store_url, first)
    engine, tables = connect(empty_store_url), build_tables(CONTRACT)
    old = MetaData()
    old.reflect(engine)
    logged = {"machine": 1, "features": "{}", "prediction": "sound", "confidence": 0.5, "elapsed_ms": 1.0}
    logged |= {"created_at": datetime(2025, 8, 31), "model_version": "1"}  # noqa: DTZ001 -- as it is in the database
    scored = {"reading": 1, "machine": 2, "day": date(2025, 8, 31), "prediction": "sound", "confidence": 0.5}
    scored |= {"scored_at": datetime(2025, 9, 1), "model_version": "1"}  # noqa: DTZ001 -- likewise
    with transaction(engine) as connection:
        connection.execute(old.tables[tables.predictions.name].insert(), logged | {"request_id": "before"})
        connection.execute(old.tables[tables.scores.name].insert(), scored)
    upgrade(empty_store_url, INSTANCE.migrations)
    if engine.dialect.name != "sqlite":  # there a revision is one transaction
        with transaction(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        upgrade(empty_store_url, INSTANCE.migrations)
    assert differences(engine, tables.metadata) == []
    assert primary_keys(engine) == {
        each.name: [c.name for c in each.primary_key] for each in tables.metadata.sorted_tables
    }
    with transaction(engine) as connection:
        connection.execute(old.tables[tables.predictions.name].insert(), logged | {"request_id": "after"})
    with engine.connect() as connection:
        found = connection.execute(select(tables.predictions.c.request_id, tables.predictions.c.run_id)).all()
        assert {tuple(row) for row in found} == {("before", ""), ("after", "")}
        unknown = (tables.predictions.c[name] for name in ("probabilities", "contract_version", "served_by", "variant"))
        assert connection.execute(select(*unknown)).all() == [(None,) * 4] * 2
        assert connection.execute(select(tables.scores.c.prediction, tables.scores.c.run_id)).all() == [("sound", "")]


def test_two_processes_upgrade_at_once(empty_store_url: str) -> None:
    """Two processes that start on one empty store both end well."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(upgrade, [empty_store_url] * 2, [INSTANCE.migrations] * 2)) == [None, None]
    assert not pending(connect(empty_store_url), INSTANCE.migrations)


def test_the_migration_lock_is_held_until_the_version_is_committed(store_url: str) -> None:
    """Who gets the lock next reads the version that was written under it, not the one before."""
    free: list[int] = []
    lock = text("SELECT IS_FREE_LOCK(:name)").bindparams(name=f"migrate {make_url(store_url).database}")
    others = connect(store_url)

    def look(_: Connection) -> None:
        with others.connect() as connection:
            free.append(connection.scalar(lock))

    event.listen(Engine, "commit", look)
    try:
        upgrade(store_url, INSTANCE.migrations)
    finally:
        event.remove(Engine, "commit", look)
    with others.connect() as connection:
        assert (free, connection.scalar(lock)) == ([0], 1)


def test_a_newer_schema_is_refused(each_store_url: str) -> None:
    """A store that a newer release has migrated is named, with what to do, and not changed."""
    with transaction(connect(each_store_url)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert pending(connect(each_store_url), INSTANCE.migrations)
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
