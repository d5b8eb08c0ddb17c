"""The pandera schemas of the data frames that stages exchange, derived from the contract."""

from collections.abc import Iterable
from copy import copy
from typing import Any

import pandera.pandas as pa

from ctcd.contract.spec import Column, Contract, Kind, names


def table_schema(contract: Contract, *, labels: bool = False) -> pa.DataFrameSchema:
    """Schema of the rows of a raw table, typed, with the label as text: of the feature table or of the label table."""
    model = contract.labels if labels and contract.labels else contract.features
    schema = model.to_schema()
    label = contract.label
    if label.name in schema.columns and label.written is not Kind.TEXT:
        classes = pa.Check.isin(contract.classes)
        column: Any = pa.Column(str, classes, nullable=label.nullable)
        schema = schema.remove_columns([label.name]).add_columns({label.name: column})
    return schema


def snapshot_schema(contract: Contract) -> pa.DataFrameSchema:
    """Schema of a training snapshot: date, row keys, features, label and its date, no personal data; a row per row key.

    The label's date is missing in snapshots of earlier releases, which did not keep it.
    """
    schema = table_schema(contract)
    label = table_schema(contract, labels=True).columns[contract.label.name]
    dated = {each.name: copy(schema.columns[each.name]) for each in contract.dated}
    day = next((column.dtype for column in dated.values()), pa.DateTime)
    left_out = {*names(contract.personal), *dated, contract.label.name}
    schema = schema.remove_columns([name for name in schema.columns if name in left_out])
    filled = {key.name: pa.Column("int64", pa.Check.ge(1)) for key in contract.row_keys if key.filled}
    label = copy(label)  # the original belongs to the instance
    label.nullable = False
    for column in dated.values():
        column.nullable, column.required = True, False
    schema = schema.add_columns(
        {
            **filled,
            contract.label.name: label,
            **dated,
            contract.snapshot_date: pa.Column(day),
        }
    )
    return with_unique(schema, [contract.snapshot_date, *names(contract.row_keys)])


def with_unique(schema: pa.DataFrameSchema, keys: list[str]) -> pa.DataFrameSchema:
    """Return a strict schema whose rows have unique keys."""
    return pa.DataFrameSchema(
        schema.columns, checks=schema.checks, unique=keys, strict=True, coerce=True, name=schema.name
    )


def batch_schema(contract: Contract) -> pa.DataFrameSchema:
    """Schema of rows to be scored: the model inputs; other columns are dropped.

    It omits the rules over several columns, which a request for a prediction need not satisfy.
    """
    return rows_schema(contract, contract.model_inputs)


def rows_schema(contract: Contract, columns: Iterable[Column]) -> pa.DataFrameSchema:
    """Schema of rows with some columns of the feature table; see `batch_schema`."""
    every = table_schema(contract).columns
    return pa.DataFrameSchema({name: every[name] for name in names(columns)}, strict="filter", coerce=True)
