import numpy as np
import pandas as pd
from support.instance import CONTRACT

from ctcd.contract.spec import Kind, names
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import split_by_group


def test_encoder_is_fitted_on_the_training_part_only(frame: pd.DataFrame) -> None:
    """What the rows of validation and holdout hold has no influence on the encoder."""
    numeric = names(column for column in CONTRACT.model_inputs if column.kind is Kind.NUMBER)
    split = split_by_group(frame, CONTRACT, seed=1)
    shifted = frame.copy()
    unseen = ~shifted[CONTRACT.group.name].isin(split.train[CONTRACT.group.name])
    assert unseen.sum() > 100
    shifted.loc[unseen, numeric] *= 1000
    again = split_by_group(shifted, CONTRACT, seed=1)
    assert fit_encoder(again.train, CONTRACT) == fit_encoder(split.train, CONTRACT)
    assert fit_encoder(shifted, CONTRACT) != fit_encoder(split.train, CONTRACT)


def test_numbers_are_scaled_by_median_and_quartiles(frame: pd.DataFrame) -> None:
    """Centre and scale are the median and the interquartile range, nulls left out."""
    name = CONTRACT.model_inputs[0].name
    data = frame.astype({name: "Float64"})
    data.loc[data.index[::10], name] = pd.NA
    encoder = fit_encoder(data, CONTRACT)
    values = data[name].dropna().to_numpy(dtype=float)
    index = encoder.numeric.index(name)
    assert encoder.center[index] == np.median(values)
    assert encoder.scale[index] == np.subtract(*np.percentile(values, [75, 25]))


def test_a_constant_column_can_be_scaled(frame: pd.DataFrame) -> None:
    """A column without spread is divided by 1, not by 0."""
    name = CONTRACT.model_inputs[0].name
    encoder = fit_encoder(frame.assign(**{name: 40}), CONTRACT)
    assert encoder.scale[encoder.numeric.index(name)] == 1.0


def test_every_input_has_its_place(frame: pd.DataFrame) -> None:
    """Each model input is a number, a list or a category, and is one of them only."""
    encoder = fit_encoder(frame, CONTRACT)
    assert encoder.inputs == tuple(names(CONTRACT.model_inputs))
    assert sorted([*encoder.numeric, *encoder.lists, *encoder.categorical]) == sorted(encoder.inputs)
