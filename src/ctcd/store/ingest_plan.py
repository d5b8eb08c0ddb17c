"""Planning an ingest: how the columns of a file map to tables, decided before any row is read."""

from dataclasses import dataclass

import pandera.pandas as pa
from sqlalchemy import Table

from ctcd.contract.spec import Column, Contract, names
from ctcd.errors import DataRefused, UsageError
from ctcd.store.sources import Source
from ctcd.store.tables import SOURCE_LENGTH, build_tables


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the rows of one file are loaded.

    Args:
        source: the file.
        columns: columns of the file, in the contract's order.
        personal: the personal ones among them; they are written to the table of personal data.
        schema: schema of the typed rows.
        table: table for the other columns; None for a file of personal data.
    """

    source: Source
    columns: tuple[Column, ...]
    personal: tuple[Column, ...]
    schema: pa.DataFrameSchema
    table: Table | None


def make_plan(source: Source, contract: Contract) -> Plan:
    """Return how to load a file, after checking its columns against the contract.

    Raises:
        DataRefused: columns are missing, unknown or repeated; names all of them.
        UsageError: the path is too long for the quarantine table.
    """
    if len(str(source.path)) > SOURCE_LENGTH:
        raise UsageError(f"the path is longer than {SOURCE_LENGTH} characters", where=str(source.path), hint="move it")
    tables = build_tables(contract)
    rules = contract.features.to_schema()
    table: Table | None = None
    if source.table == contract.labels_table:
        table, wanted, rules = tables.labels, contract.label_columns, contract.labels.to_schema()
    elif source.table == contract.features_table:
        table, wanted = tables.features, contract.feature_columns
    else:
        wanted = (*contract.keys, *contract.personal)
    given = source.columns
    if not set(given) & set(names(wanted)):
        # The first line may be a row with personal data: do not repeat it.
        raise DataRefused(
            "the first line names no column of the table",
            where=str(source.path),
            hint=f"add a header: {', '.join(names(wanted))}",
        )
    # The feature file may omit personal columns, because they are not stored with the features.
    optional = names(contract.personal) if source.table == contract.features_table else []
    problems = {
        "missing columns": [name for name in names(wanted) if name not in given and name not in optional],
        "unknown columns": [name for name in given if name not in names(wanted)],
        "repeated columns": sorted({name for name in given if given.count(name) > 1}),
    }
    message = "; ".join(f"{what}: {', '.join(those)}" for what, those in problems.items() if those)
    if message:
        raise DataRefused(message, where=str(source.path), hint=f"the columns are {', '.join(names(wanted))}")
    columns = tuple(column for column in wanted if column.name in given)
    return Plan(
        source=source,
        columns=columns,
        personal=tuple(column for column in columns if column in contract.personal),
        schema=pa.DataFrameSchema(
            {column.name: rules.columns[column.name] for column in columns},
            checks=rules.checks if table is tables.features else None,
            coerce=True,
        ),
        table=table,
    )
