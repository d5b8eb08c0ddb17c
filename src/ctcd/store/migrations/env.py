"""Alembic's environment script; `ctcd.store.migrations` runs it."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.rewriter import Rewriter
from alembic.operations import ops

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


def _drop_empty(migration: object, revision: Any, directives: list[ops.MigrationScript]) -> None:
    _rewriter(migration, revision, directives)  # type: ignore[arg-type]  # Alembic's own callback type
    upgrades = directives[0].upgrade_ops
    if upgrades is not None and upgrades.is_empty():
        directives.clear()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_item=_render,
    render_as_batch=True,  # SQLite alters a column only by copying the table
    process_revision_directives=_drop_empty,
)
with context.begin_transaction():
    context.run_migrations()
