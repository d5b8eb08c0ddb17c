"""Alembic's environment script; `ctcd.store.migrations` runs it."""

from collections.abc import Iterator
from typing import Any, Literal

from alembic import context
from alembic.autogenerate import render, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.rewriter import Rewriter
from alembic.operations import ops
from sqlalchemy import Connection, inspect

from ctcd.errors import UsageError
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
    for table in context.config.attributes["tables"].metadata.sorted_tables:
        columns = [column.name for column in table.primary_key]
        if found.has_table(table.name) and found.get_pk_constraint(table.name)["constrained_columns"] != columns:
            yield ReplacePrimaryKey(table.name, columns)


class EmptyColumn(ops.MigrateOperation):
    """Removes the values of a column."""

    def __init__(self, table: str, column: str) -> None:
        self.table, self.column = table, column


@renderers.dispatch_for(EmptyColumn)
def _empty_column(_autogen: AutogenContext, op: EmptyColumn) -> str:
    return f"op.execute(sa.table({op.table!r}, sa.column({op.column!r})).update().values({{{op.column!r}: None}}))"


def _became_personal(connection: Connection) -> Iterator[EmptyColumn]:
    """Yield the columns of features that the contract calls personal now: their values must not stay with the features."""
    tables, found = context.config.attributes["tables"], inspect(connection)
    if tables is None or tables.personal is None or not found.has_table(tables.features.name):
        return
    before = {each["name"] for each in found.get_columns(tables.features.name)}
    if found.has_table(tables.personal.name):
        before -= {each["name"] for each in found.get_columns(tables.personal.name)}
    for column in tables.personal.columns:
        if column.name in before and not column.primary_key:
            yield EmptyColumn(tables.features.name, column.name)


def _refuse_renames(upgrades: ops.UpgradeOps) -> None:
    """Refuse what may be a rename: what is dropped loses its values, and what is added has none.

    Raises:
        UsageError: names what would be dropped and what would be added in its place.
    """
    tables = [
        [op.table_name for op in upgrades.ops if isinstance(op, kind)] for kind in (ops.DropTableOp, ops.CreateTableOp)
    ]
    _require_apart("table", "store", tables[0], tables[1], "op.rename_table(OLD, NEW)")
    for changes in upgrades.ops:
        if isinstance(changes, ops.ModifyTableOps):
            dropped = [op.column_name for op in changes.ops if isinstance(op, ops.DropColumnOp)]
            added = [op.column.name for op in changes.ops if isinstance(op, ops.AddColumnOp)]
            _require_apart(
                "column", changes.table_name, dropped, added, "op.alter_column(TABLE, OLD, new_column_name=NEW)"
            )


def _require_apart(what: str, where: str, dropped: list[str], added: list[str], how: str) -> None:
    if dropped and added:
        raise UsageError(
            f"{what} {', '.join(dropped)} would be dropped with its values, and {', '.join(added)} added without any",
            where=f"migration of {where}",
            hint=f"for a rename write the migration yourself, with {how}; for another {what}, lock the contract without the"
            " old one before you add the new one",
        )


def _complete(migration: Any, revision: Any, directives: list[ops.MigrationScript]) -> None:
    _rewriter(migration, revision, directives)
    upgrades = directives[0].upgrade_ops
    if upgrades is not None:
        _refuse_renames(upgrades)
        upgrades.ops.extend(_changed_primary_keys(migration.connection))
        upgrades.ops.extend(_became_personal(migration.connection))
        if upgrades.is_empty():
            directives.clear()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["tables"] and context.config.attributes["tables"].metadata,
    render_item=_render,
    render_as_batch=True,  # SQLite alters a column only by copying the table
    process_revision_directives=_complete,
)
with context.begin_transaction():
    context.run_migrations()
