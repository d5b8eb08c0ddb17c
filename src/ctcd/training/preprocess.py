"""Fitting of a model's encoder on the training part."""

import pandas as pd

from ctcd.contract.spec import Contract, Kind, names
from ctcd.model.encoder import Encoder, frame_numbers

_NUMERIC = (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE, Kind.TIME)


def fit_encoder(train: pd.DataFrame, contract: Contract) -> Encoder:
    """Return an encoder fitted on the training part only.

    Numbers, booleans and dates are centred at their median and scaled by their interquartile range (scikit-learn's
    `RobustScaler`).
    """
    numeric = names(column for column in contract.model_inputs if column.kind in _NUMERIC)
    dates = names(column for column in contract.model_inputs if column.kind in (Kind.DATE, Kind.TIME))
    scaler = None
    if numeric:
        from sklearn.preprocessing import RobustScaler

        scaler = RobustScaler().fit(frame_numbers(train, numeric, dates))
    return Encoder(
        inputs=tuple(names(contract.model_inputs)),
        numeric=tuple(numeric),
        center=tuple(scaler.center_.tolist()) if scaler else (),
        scale=tuple(scaler.scale_.tolist()) if scaler else (),
        lists={column.name: column.list_of for column in contract.model_inputs if column.list_of is not None},
        categorical=tuple(names(column for column in contract.model_inputs if column.kind is Kind.CATEGORY)),
        dates=tuple(dates),
    )
