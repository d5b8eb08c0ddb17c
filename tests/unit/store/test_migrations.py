import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from instance.features import ReadingFeatures
from pandera.typing import Series
from pydantic import SecretStr
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, inspect, select
from support.frames import clean_tables
from support.instance import CONTRACT, INSTANCE
from support.stores import TABLES

from ctcd.contract.columns import Role, column
from ctcd.contract.spec import names
from ctcd.errors import UsageError
from ctcd.settings import Settings
from ctcd.stages import data
from ctcd.store.engine import connect, transaction
from ctcd.store.migrations import pending, revision, upgrade
from ctcd.store.upsert import upsert

ROOT = Path(__file__).parents[3]


def differences(engine: Engine, metadata: MetaData) -> list[object]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_revisions_make_the_tables_of_the_contract(store: Engine) -> None:
    """A store that is up to date differs in nothing from the contract's tables."""
    assert differences(store, TABLES.metadata) == []


def test_an_extra_column_is_noticed(store: Engine) -> None:
    """The comparison finds a column that no revision has made."""
    changed = MetaData()
    for table in TABLES.metadata.sorted_tables:
        table.to_metadata(changed)
    Table(CONTRACT.labels_table, changed, Column("extra", Integer()), extend_existing=True)
    assert len(differences(store, changed)) == 1


def test_upgrade_is_repeatable(tmp_path: Path) -> None:
    """A new file has a pending schema; after one upgrade, and after two, it has none."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    assert pending(connect(url), INSTANCE.migrations)
    upgrade(url, INSTANCE.migrations)
    assert not pending(connect(url), INSTANCE.migrations)
    upgrade(url, INSTANCE.migrations)
    assert not pending(connect(url), INSTANCE.migrations)


def test_a_table_that_is_gone_is_created_again(store: Engine, tmp_path: Path) -> None:
    """`ctcd migrate` makes it as the revisions do, and names it; it does not call a store complete that is not."""
    settings = Settings(contracts=INSTANCE.folder, home=tmp_path, feature_store_url=SecretStr(str(store.url)))
    assert data.migrate(settings) == ()
    TABLES.predictions.drop(store)
    TABLES.findings.drop(store)
    assert sorted(data.migrate(settings)) == sorted([TABLES.predictions.name, TABLES.findings.name])
    assert differences(store, TABLES.metadata) == []
    assert data.migrate(settings) == ()


def test_no_change_needs_no_revision(tmp_path: Path) -> None:
    """If the tables are those of the contract, no file is written."""
    folder = tmp_path / "versions"
    folder.mkdir()
    for file in INSTANCE.migrations.glob("v*.py"):
        (folder / file.name).write_text(file.read_text())
    before = sorted(folder.glob("*.py"))
    assert revision(f"sqlite:///{tmp_path / 'scratch.db'}", "nothing", CONTRACT, folder) is None
    assert sorted(folder.glob("*.py")) == before


@pytest.mark.slow
def test_a_changed_primary_key_gets_a_revision_that_applies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The generated revision gives the tables the contract's primary keys, which Alembic by itself does not compare."""
    folder = tmp_path / "versions"
    folder.mkdir()
    first = INSTANCE.migrations / "v0001_contract_1_0_0.py"
    (folder / first.name).write_text(first.read_text())
    assert revision(f"sqlite:///{tmp_path / 'scratch.db'}", "runs", CONTRACT, folder) is not None
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, folder)
    for table in (TABLES.scores, TABLES.performance):
        found = inspect(connect(url)).get_pk_constraint(table.name)["constrained_columns"]
        assert found == [column.name for column in table.primary_key]
        assert found[-1] == "run_id"
    assert revision(f"sqlite:///{tmp_path / 'again.db'}", "nothing", CONTRACT, folder) is None
    capsys.readouterr()


@pytest.mark.slow
def test_a_change_of_the_engine_becomes_the_next_revision_of_the_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the team's own revisions; a store with rows is upgraded, and its rows have the new column's default."""
    folder = tmp_path / "versions"
    folder.mkdir()
    first = INSTANCE.migrations / "v0001_contract_1_0_0.py"  # from before the engine's tables had a column run_id
    (folder / first.name).write_text(first.read_text())
    own = 'revision, down_revision = "0002", "0001"\n\n\ndef upgrade() -> None:\n    """Do nothing."""\n'
    (folder / "v0002_ours.py").write_text(own)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, folder)
    log = TABLES.predictions
    row = {
        "id": 1,
        "features": {},
        "prediction": "x",
        "confidence": 1,
        "elapsed_ms": 1,
        "request_id": "r",
        "machine": 1,
    }
    row |= {"created_at": datetime(2025, 1, 1, tzinfo=UTC), "model_version": "1"}
    with connect(url).begin() as connection:
        connection.execute(insert(log).values(row))

    written = revision(f"sqlite:///{tmp_path / 'scratch.db'}", "engine", CONTRACT, folder)

    assert written is not None
    assert written.name == "v0003_engine.py"
    assert (folder / "v0002_ours.py").read_text() == own
    upgrade(url, folder)
    with connect(url).connect() as connection:
        assert connection.execute(select(log.c.request_id, log.c.run_id)).all() == [("r", "")]
    capsys.readouterr()


@pytest.mark.slow
def test_a_changed_contract_gets_a_revision_that_applies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column added to the contract is written as a revision, and a store with the older schema gets the column."""

    class MoreFeatures(ReadingFeatures):
        extra: Series[float] = column(meaning="a new number", unit="1", nullable=True)

    folder = tmp_path / "versions"
    folder.mkdir()
    for file in INSTANCE.migrations.glob("v*.py"):
        (folder / file.name).write_text(file.read_text())
    old = f"sqlite:///{tmp_path / 'old.db'}"
    upgrade(old, INSTANCE.migrations)

    changed = replace(CONTRACT, features=MoreFeatures)
    written = revision(f"sqlite:///{tmp_path / 'scratch.db'}", "add a number", changed, folder)

    assert written is not None
    assert written.name == f"v{len(list(folder.glob('v*.py'))):04d}_add_a_number.py"
    assert pending(connect(old), folder)
    upgrade(old, folder)
    assert not pending(connect(old), folder)
    assert "extra" in {each["name"] for each in inspect(connect(old)).get_columns(CONTRACT.features_table)}
    capsys.readouterr()


@pytest.mark.slow
def test_a_feature_that_turns_out_to_be_personal_leaves_no_value_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The revision empties its column in the feature table, and drops it from the snapshots; the rows stay."""

    class Corrected(ReadingFeatures):
        grade: Series[str] = column(
            meaning="an inspector's grade", unit="1", role=Role.PERSONAL, max_length=9, nullable=True
        )

    folder = tmp_path / "versions"
    folder.mkdir()
    for file in INSTANCE.migrations.glob("v*.py"):
        (folder / file.name).write_text(file.read_text())
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, folder)
    engine = connect(url)
    features, _ = clean_tables(CONTRACT, rows=3)
    with transaction(engine) as connection:
        rows: Any = features[names(CONTRACT.model_inputs + CONTRACT.keys)].to_dict("records")
        upsert(connection, TABLES.features, rows)

    assert revision(f"sqlite:///{tmp_path / 'scratch.db'}", "correct", replace(CONTRACT, features=Corrected), folder)
    upgrade(url, folder)

    with engine.connect() as connection:
        kept = connection.execute(select(TABLES.features.c.grade, TABLES.features.c.maker)).all()
    assert [(grade, maker is not None) for grade, maker in kept] == [(None, True)] * 3
    assert "grade" not in {each["name"] for each in inspect(engine).get_columns(CONTRACT.snapshot_table)}
    assert (
        revision(f"sqlite:///{tmp_path / 'again.db'}", "nothing", replace(CONTRACT, features=Corrected), folder) is None
    )
    capsys.readouterr()


@pytest.mark.slow
def test_a_rename_is_refused_before_it_loses_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A renamed table or column would be dropped with its values: no revision is written, and the line says what to do."""

    class Renamed(ReadingFeatures):
        grade: Series[str] = column(meaning="an inspector's grade", unit="1", max_length=9, alias="rank")

    folder = tmp_path / "versions"
    folder.mkdir()
    for file in INSTANCE.migrations.glob("v*.py"):
        (folder / file.name).write_text(file.read_text())
    before = sorted(folder.glob("*.py"))
    for number, (changed, said) in enumerate(
        {
            replace(
                CONTRACT, labels_table="renamed"
            ): "table machine_conditions would be dropped with its values, and renamed",
            replace(CONTRACT, features=Renamed): "column grade would be dropped with its values, and rank added",
        }.items()
    ):
        with pytest.raises(UsageError, match=said):
            revision(f"sqlite:///{tmp_path / f'scratch{number}.db'}", "renamed", changed, folder)
    assert sorted(folder.glob("*.py")) == before
    capsys.readouterr()


@pytest.mark.slow
def test_a_generated_revision_passes_the_linter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `contract lock` writes needs no correction by hand, whatever the contract changes."""

    class MoreFeatures(ReadingFeatures):
        extra: Series[float] = column(meaning="a number with a long meaning", unit="1", nullable=True)

    folder = tmp_path / "contracts" / "migrations" / "versions"
    folder.mkdir(parents=True)
    copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    revision(f"sqlite:///{tmp_path / 'first.db'}", "first", CONTRACT, folder)
    revision(f"sqlite:///{tmp_path / 'next.db'}", "add a number", replace(CONTRACT, features=MoreFeatures), folder)
    written = sorted(folder.glob("v*.py"))
    assert len(written) == 2
    ruff = [sys.executable, "-m", "ruff"]
    for file in written:
        for check in ("check", "format --check"):
            given = [*check.split(), "--stdin-filename", "contracts/migrations/versions/v0001_x.py", "-"]
            result = subprocess.run(  # noqa: S603 - fixed arguments
                [*ruff, *given], input=file.read_text(), cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stdout + result.stderr
    capsys.readouterr()
