"""The step of a revision that Alembic lacks."""

from alembic import op


def replace_primary_key(table: str, columns: list[str]) -> None:
    """Make `columns` the primary key of a table that has another one; rows are kept, and it can be repeated.

    MariaDB does it in one statement: the table is never without a primary key. SQLite copies the table.
    """
    dialect = op.get_context().dialect
    if dialect.name == "sqlite":
        with op.batch_alter_table(table, recreate="always") as batch:
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", columns)
    else:
        quote = dialect.identifier_preparer.quote
        op.execute(f"ALTER TABLE {quote(table)} DROP PRIMARY KEY, ADD PRIMARY KEY ({', '.join(map(quote, columns))})")
