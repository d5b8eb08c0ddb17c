"""Migrations: upgrading the schema of a store, and generating the next revision with Alembic.

Revisions name columns, so they belong to the instance, in `contracts/migrations/versions`. `ctcd contract lock`
generates the next one if the contract or an update of the engine has changed the tables. There is one line of
revisions, so those of the two cannot collide. Dropping one column or table and adding another in one revision is
refused: it may be a rename, which only a person can tell. The engine itself therefore only ever adds columns and
tables. MariaDB commits after each DDL statement, so every statement has to be repeatable: tables and indexes are
created only if they do not exist.
"""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect

from ctcd.contract.spec import Contract
from ctcd.errors import UsageError
from ctcd.store.engine import alone, connect, reading
from ctcd.store.tables import build_tables
from ctcd.urls import masked


@contextmanager
def _connected(url: str) -> Iterator[Engine]:
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


def upgrade(url: str, versions: Path) -> None:
    """Upgrade the schema of a store to the newest revision of a folder, if it is older.

    Only one process migrates at a time. On MariaDB, which commits each DDL statement, a killed run can be repeated.

    Raises:
        Unreachable: the store does not answer, or another process has been migrating it for longer than a minute.
        UsageError: the schema is newer than the newest revision.
    """
    try:
        with _connected(url) as engine, alone(engine, "migrate") as connection:
            command.upgrade(_config(versions, connection), "heads")
    except CommandError as error:
        raise UsageError(
            f"the schema cannot be upgraded: {error}",
            where=masked(url),
            hint="install the version of ctcd that this store was last used with, or a newer one",
        ) from error


def restore(url: str, contract: Contract) -> tuple[str, ...]:
    """Create the tables of a contract that the newest schema has and the store has not, and return their names.

    Somebody has removed them: their rows are gone, but the store works again.

    Raises:
        Unreachable: the store does not answer, or another process has been migrating it for longer than a minute.
    """
    metadata = build_tables(contract).metadata
    with _connected(url) as engine, alone(engine, "migrate") as connection:
        there = inspect(connection).get_table_names()
        missing = [table for table in metadata.sorted_tables if table.name not in there]
        metadata.create_all(connection, tables=missing)
    return tuple(table.name for table in missing)


def pending(engine: Engine, versions: Path) -> bool:
    """Return whether the schema of a store is not at the newest revision.

    Raises:
        Unreachable: the store does not answer.
    """
    with reading(engine) as connection:
        current = MigrationContext.configure(connection).get_current_heads()
    return set(current) != set(ScriptDirectory.from_config(_config(versions)).get_heads())


def revision(url: str, message: str, contract: Contract, versions: Path) -> Path | None:
    """Generate the revision that changes the newest schema into the contract's tables.

    The URL is that of a scratch store, which is upgraded to the newest revision. The message becomes part of the
    file's name.

    Returns:
        The path of the new file; None if the newest schema has the contract's tables.

    Raises:
        UsageError: a table or column would be dropped and another added, which may be a rename.
    """
    upgrade(url, versions)
    with _connected(url) as engine, reading(engine) as connection:
        config = _config(versions, connection, contract)
        number = 1 + len(list(ScriptDirectory.from_config(config).walk_revisions()))
        written = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
    scripts = written if isinstance(written, list) else [written]
    if not (scripts and scripts[0]):
        return None
    path = Path(scripts[0].path)
    if find_spec("ruff"):  # a tool of developers: it lays the file out as `make lint` wants it
        for work in (("check", "--fix"), ("format",)):
            subprocess.run([sys.executable, "-m", "ruff", *work, "--quiet", str(path)], check=False)  # noqa: S603 - our own file
    return path


def _config(versions: Path, connection: Connection | None = None, contract: Contract | None = None) -> Config:
    # Alembic would write to standard output, which is for reports.
    config = Config(stdout=StringIO(), cmd_opts=Namespace(quiet=True))
    for name, value in {
        "script_location": Path(__file__).parent,
        "version_locations": versions,
        "path_separator": "newline",
        "file_template": "v%(rev)s_%(slug)s",
    }.items():
        config.set_main_option(name, str(value).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["tables"] = build_tables(contract) if contract else None
    return config
