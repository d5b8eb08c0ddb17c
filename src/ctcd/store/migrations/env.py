"""Alembic's environment script; `ctcd.store.migrations` runs it."""

from collections.abc import Iterator
from typing import Any, Literal

from alembic import context
from alembic.autogenerate import render, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.rewriter import Rewriter
from alembic.operations import ops
from sqlalchemy import Connection, inspect

from ctcd.store.tables import UtcDateTime

_rewriter = Rewriter()


@_rewriter.rewrites(ops.CreateTableOp)
@_rewriter.rewrites(ops.CreateIndexOp)
def _repeatable(_context: object, _revision: object, op: Any) -> Any:
    # MariaDB commits after each DDL statement: an interrupted revision is run again from its beginning.
    op.if_not_exists = True
    return op


def _render(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    # A revision has to stay the same when our code changes: write plain SQLAlchemy types.
    if kind == "type" and isinstance(item, UtcDateTime):
        autogen.imports.add("from sqlalchemy.dialects import mysql")
        return "sa.DateTime().with_variant(mysql.DATETIME(fsp=6), 'mysql')"
    return False


@renderers.dispatch_for(ops.AddColumnOp, replace=True)
def _add_column(autogen: AutogenContext, op: ops.AddColumnOp) -> str:
    # Repeatable too; SQLite has no such option and needs none, as its DDL is part of the transaction.
    call = render._add_column(autogen, op)  # noqa: SLF001 -- the renderer that is replaced has no public name
    return f"{call.removesuffix(')')}, if_not_exists=op.get_context().dialect.name != 'sqlite')"


class ReplacePrimaryKey(ops.MigrateOperation):
    """Calls `ctcd.store.migrations.primary_key.replace_primary_key`; Alembic does not compare primary keys."""

    def __init__(self, table: str, columns: list[str]) -> None:
        self.table, self.columns = table, columns


@renderers.dispatch_for(ReplacePrimaryKey)
def _replace_primary_key(autogen: AutogenContext, op: ReplacePrimaryKey) -> str:
    autogen.imports.add("from ctcd.store.migrations.primary_key import replace_primary_key")
    return f"replace_primary_key({op.table!r}, {op.columns!r})"


def _changed_primary_keys(connection: Connection) -> Iterator[ReplacePrimaryKey]:
    found = inspect(connection)
    for table in context.config.attributes["metadata"].sorted_tables:
        columns = [column.name for column in table.primary_key]
        if found.has_table(table.name) and found.get_pk_constraint(table.name)["constrained_columns"] != columns:
            yield ReplacePrimaryKey(table.name, columns)


def _complete(migration: Any, revision: Any, directives: list[ops.MigrationScript]) -> None:
    _rewriter(migration, revision, directives)
    upgrades = directives[0].upgrade_ops
    if upgrades is not None:
        upgrades.ops.extend(_changed_primary_keys(migration.connection))
        if upgrades.is_empty():
            directives.clear()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_item=_render,
    render_as_batch=True,  # SQLite alters a column only by copying the table
    process_revision_directives=_complete,
)
with context.begin_transaction():
    context.run_migrations()
