"""Typed frames of valid synthetic data, as stages exchange them."""

from datetime import date
from functools import cache

import pandas as pd
from support.schemas import features_schema, labels_schema

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import Contract, Kind, names
from ctcd.derived import synthetic
from ctcd.drafts.check import synthetic_frame


def typed(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return a clean synthetic table with the types of the contract; an empty text becomes a missing value."""
    columns = {column.name: column for column in (*contract.feature_columns, *contract.label_columns)}
    result = frame.copy()
    for name in frame:
        cells = frame[name].where(frame[name] != "")
        match columns[str(name)].kind:
            case Kind.INTEGER:
                result[name] = cells.astype("int64")
            case Kind.NUMBER:
                result[name] = cells.astype("float64")
            case Kind.DATE:
                result[name] = pd.to_datetime(cells, format="%Y-%m-%d")
            case _:
                result[name] = cells
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
    joined = joined.drop(columns=contract.event_date.name)
    return _snapshot(joined, contract, base_dt)


def _snapshot(joined: pd.DataFrame, contract: Contract, base_dt: date) -> pd.DataFrame:
    joined[contract.snapshot_date] = pd.Timestamp(base_dt)
    schema = snapshot_schema(contract)
    return schema.validate(joined[list(schema.columns)])
