"""The schemas of the raw tables, which the store's own code checks in parts."""

import pandera.pandas as pa

from ctcd.contract.schemas import table_schema, with_unique
from ctcd.contract.spec import Contract, names


def features_schema(contract: Contract) -> pa.DataFrameSchema:
    """Schema of the feature table: keys, personal columns and features; one row per key."""
    return with_unique(table_schema(contract), names(contract.keys))


def labels_schema(contract: Contract) -> pa.DataFrameSchema:
    """Schema of the label table: keys and the label; one row per key."""
    return with_unique(table_schema(contract, labels=True), names(contract.keys))
