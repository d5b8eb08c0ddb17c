"""Typed frames of valid synthetic data, as stages exchange them."""

from datetime import date
from functools import cache

import pandas as pd
import pyarrow as pa
from support.schemas import features_schema, labels_schema

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import Contract, names
from ctcd.derived import synthetic
from ctcd.drafts.check import synthetic_frame
from ctcd.store.conversion import convert, trim


def typed(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return a synthetic table with the types of the contract, as ingest makes them; an empty text is a missing value.

    What cannot be converted stays text, for a schema to find.
    """
    found = {column.name: column for column in (*contract.feature_columns, *contract.label_columns)}
    columns = [found[str(name)] for name in frame]
    result, failures = convert(trim(pa.Table.from_pandas(frame, preserve_index=False)), columns)
    result.index = frame.index
    for name in {failure.column for failure in failures}:
        result[name] = frame[name].where(frame[name] != "")
    return result


def clean_tables(
    contract: Contract, *, rows: int, seed: int = 0, end: date = date(2025, 8, 31), months: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return valid, typed features and labels."""
    features, labels, _ = synthetic.generate(contract, rows=rows, seed=seed, end=end, months=months, error_rate=0.0)
    return (
        features_schema(contract).validate(typed(features, contract)),
        labels_schema(contract).validate(typed(labels, contract)),
    )


def snapshot_frame(
    contract: Contract, *, rows: int, seed: int = 0, base_dt: date = date(2025, 8, 31), months: int = 8
) -> pd.DataFrame:
    """Return what a training snapshot of synthetic data holds; what was made once is copied."""
    return _made(contract, rows, seed, base_dt, months).copy()


@cache
def _made(contract: Contract, rows: int, seed: int, base_dt: date, months: int) -> pd.DataFrame:
    if contract.labels is None:
        return _snapshot(synthetic_frame(contract, rows=rows, seed=seed), contract, base_dt)
    features, labels = clean_tables(contract, rows=rows, seed=seed, end=base_dt, months=months)
    joined = features.drop(columns=names(contract.personal)).merge(labels, on=names(contract.keys))
    if contract.event_date.filled:
        joined = joined.drop(columns=contract.event_date.name, errors="ignore")
    return _snapshot(joined, contract, base_dt)


def _snapshot(joined: pd.DataFrame, contract: Contract, base_dt: date) -> pd.DataFrame:
    joined[contract.snapshot_date] = pd.Timestamp(base_dt)
    schema = snapshot_schema(contract)
    return schema.validate(joined[[name for name in schema.columns if name in joined]])
