"""The schema's history: bring a store up to date, and write the next revision.

A revision names columns, so revisions stand beside the contract, in `contracts/migrations/versions`. `ctcd contract
lock` writes the next one where the contract asks for other tables. Read what was written: a renamed column looks like a dropped and an added one. MariaDB commits after each statement,
so write every statement such that it may be run again (tables and indexes are created only where they are missing).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

from ctcd.contract.spec import Contract
from ctcd.errors import Unreachable, UsageError
from ctcd.store.engine import connect, reading, safe_url, transaction
from ctcd.store.tables import build_tables

_LOCK_SECONDS = 60


def upgrade(url: str, versions: Path) -> None:
    """Bring the schema of the store up to date; does nothing if it is.

    One process does it at a time; on MariaDB, where DDL commits as it goes, a killed run continues when it is repeated.

    Args:
        url: of the store.
        versions: folder of the revisions.

    Raises:
        Unreachable: the store does not answer, or another process is at it for longer than a minute.
        UsageError: the schema is newer than this installation knows.
    """
    engine = connect(url)
    try:
        with _alone(engine) as connection:
            command.upgrade(_config(versions, connection), "heads")
    except CommandError as error:
        raise UsageError(
            f"the schema cannot be brought up to date: {error}",
            where=safe_url(url),
            hint="install the version of ctcd that this store was last used with, or a newer one",
        ) from error
    finally:
        engine.dispose()


def pending(url: str, versions: Path) -> bool:
    """Return whether the schema of the store is behind (or unlike) this installation's.

    Raises:
        Unreachable: the store does not answer.
    """
    engine = connect(url)
    try:
        with reading(engine) as connection:
            current = MigrationContext.configure(connection).get_current_heads()
        return set(current) != set(ScriptDirectory.from_config(_config(versions)).get_heads())
    finally:
        engine.dispose()


def revision(url: str, message: str, contract: Contract, versions: Path) -> Path | None:
    """Write the revision that leads from the schema of a store, which has to be up to date, to the contract's tables.

    Args:
        url: a scratch store; it is brought up to date first and not changed otherwise.
        message: what changes, in a few words; becomes part of the file's name.
        contract: the contract as it is now.
        versions: folder of the revisions.

    Returns:
        The file written; None if the tables are as the contract says already.
    """
    upgrade(url, versions)
    engine = connect(url)
    try:
        with reading(engine) as connection:
            config = _config(versions, connection, contract)
            number = 1 + len(list(ScriptDirectory.from_config(config).walk_revisions()))
            written = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
    finally:
        engine.dispose()
    scripts = written if isinstance(written, list) else [written]
    return Path(scripts[0].path) if scripts and scripts[0] else None


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Give a connection that no other migrating process has at the same time."""
    with transaction(engine) as connection:
        if engine.dialect.name == "sqlite":  # holds the write lock already
            yield connection
            return
        lock = {"name": f"migrate {engine.url.database}"[:64], "seconds": _LOCK_SECONDS}
        if connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), lock) != 1:
            raise Unreachable(
                "another process is changing the schema",
                where=safe_url(engine.url),
                hint="wait for it, then run it again",
            )
        try:
            yield connection
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)


def _config(versions: Path, connection: Connection | None = None, contract: Contract | None = None) -> Config:
    config = Config(stdout=StringIO())  # what it says would stand in the way of a report
    for name, value in {
        "script_location": Path(__file__).parent,
        "version_locations": versions,
        "path_separator": "newline",
        "file_template": "v%(rev)s_%(slug)s",
    }.items():
        config.set_main_option(name, str(value).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = build_tables(contract).metadata if contract else None
    return config
