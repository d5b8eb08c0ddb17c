"""The pandera schemas of the data frames that stages exchange, derived from the contract."""

import pandera.pandas as pa

from ctcd.contract.spec import Contract, names


def snapshot_schema(contract: Contract) -> pa.DataFrameSchema:
    """Schema of a training snapshot: date, row keys, features and label, no personal data; one row per row key."""
    label = contract.labels.to_schema().columns[contract.label.name]
    event_date = contract.features.to_schema().columns[contract.event_date.name]
    schema = contract.features.to_schema().remove_columns([*names(contract.personal), contract.event_date.name])
    schema = schema.add_columns(
        {contract.label.name: label, contract.snapshot_date: pa.Column(event_date.dtype, description="snapshot date")}
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
    columns = contract.features.to_schema().columns
    inputs = {name: columns[name] for name in names(contract.model_inputs)}
    return pa.DataFrameSchema(inputs, strict="filter", coerce=True)
