"""Fitting of a model's encoder on the training part."""

import pandas as pd

from ctcd.contract.spec import Contract, Kind, names
from ctcd.model.encoder import Encoder


def fit_encoder(train: pd.DataFrame, contract: Contract) -> Encoder:
    """Return an encoder fitted on the training part only.

    Numbers are centred at their median and scaled by their interquartile range (scikit-learn's `RobustScaler`).
    """
    from sklearn.preprocessing import RobustScaler

    numeric = names(column for column in contract.model_inputs if column.kind in (Kind.INTEGER, Kind.NUMBER))
    scaler = RobustScaler().fit(train[numeric].to_numpy(dtype="float64", na_value=float("nan"))) if numeric else None
    return Encoder(
        inputs=tuple(names(contract.model_inputs)),
        numeric=tuple(numeric),
        center=tuple(scaler.center_.tolist()) if scaler else (),
        scale=tuple(scaler.scale_.tolist()) if scaler else (),
        lists={column.name: column.list_of for column in contract.model_inputs if column.list_of is not None},
        categorical=tuple(names(column for column in contract.model_inputs if column.kind is Kind.CATEGORY)),
    )
