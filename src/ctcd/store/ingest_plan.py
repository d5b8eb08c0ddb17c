"""Planning an ingest: how the columns of a file map to tables, decided before any row is read."""

from dataclasses import dataclass

import pandera.pandas as pa
from sqlalchemy import Table

from ctcd.contract.schemas import table_schema
from ctcd.contract.spec import Column, Contract, names
from ctcd.errors import DataRefused, UsageError
from ctcd.store.sources import Source
from ctcd.store.tables import SOURCE_LENGTH, build_tables


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the rows of one file are loaded.

    Args:
        writes: the tables to write to, each with the names of its columns; of personal data and of labels, which may be
            in the same file, only rows that have any.
    """

    source: Source
    columns: tuple[Column, ...]
    personal: tuple[Column, ...]
    schema: pa.DataFrameSchema
    writes: tuple[tuple[Table, list[str]], ...]


def make_plan(source: Source, contract: Contract) -> Plan:
    """Return how to load a file, after checking its columns against the contract.

    Raises:
        DataRefused: columns are missing, unknown or repeated; names all of them.
        UsageError: the path is too long for the quarantine table.
    """
    if len(str(source.path)) > SOURCE_LENGTH:
        raise UsageError(f"the path is longer than {SOURCE_LENGTH} characters", where=str(source.path), hint="move it")
    tables = build_tables(contract)
    of_labels = source.table == contract.labels_table
    rules = table_schema(contract, labels=of_labels)
    if of_labels:
        wanted = contract.declared_labels
    elif source.table == contract.features_table:
        wanted = contract.declared
    else:
        wanted = (*(key for key in contract.keys if not key.filled), *contract.personal)
    given = source.columns
    if not set(given) & set(names(wanted)):
        # The first line may be a row with personal data: do not repeat it.
        raise DataRefused(
            "the first line contains no column name of the table",
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
    present = names((*contract.filled, *columns))
    personal = [column for column in columns if column in contract.personal]
    writes: list[tuple[Table, list[str]]] = []
    if source.table == contract.features_table:
        kept = [name for name in names(contract.feature_columns) if name in present and name not in names(personal)]
        writes.append((tables.features, kept))
    if contract.label in columns:
        writes.append((tables.labels, names(contract.label_columns)))
    if personal and tables.personal is not None:
        writes.append((tables.personal, names((*contract.keys, *personal))))
    return Plan(
        source=source,
        columns=columns,
        personal=tuple(personal),
        schema=pa.DataFrameSchema(
            {column.name: rules.columns[column.name] for column in columns},
            checks=rules.checks if source.table == contract.features_table else None,
            coerce=True,
        ),
        writes=tuple(writes),
    )
