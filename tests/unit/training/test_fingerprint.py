from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import pytest
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.spec import names
from ctcd.training.fingerprint import data_hash, fingerprint
from ctcd.training.grid import Profile, load_profile

GIVEN: dict[str, Any] = {
    "data": "abc",
    "contract": CONTRACT,
    "profile": load_profile("smoke", INSTANCE),
    "base_dt": date(2025, 8, 31),
    "seed": 1,
}


def test_order_and_dtypes_do_not_matter(frame: pd.DataFrame) -> None:
    """Shuffled rows, reversed columns, concatenated chunks and other dtypes of the same values have the same hash."""
    expected = data_hash(frame, CONTRACT)
    chunks = [frame.iloc[start : start + 700] for start in range(0, len(frame), 700)]
    for same in (
        frame.sample(frac=1, random_state=1),
        frame[frame.columns[::-1]],
        pd.concat(chunks[::-1]),
        frame.astype(object),
        frame.convert_dtypes(),
        frame.assign(anything_else=1),
    ):
        assert data_hash(same, CONTRACT) == expected


@pytest.mark.parametrize("name", names([*CONTRACT.row_keys, *CONTRACT.model_inputs, CONTRACT.label]))
def test_every_value_matters(frame: pd.DataFrame, name: str) -> None:
    """One changed value in any column, and two swapped values, change the hash."""
    expected = data_hash(frame, CONTRACT)
    one = frame[name].iloc[0]
    other = next(value for value in frame[name] if value != one and not pd.isna(value))
    changed = frame.copy()
    changed.loc[changed.index[0], name] = other
    assert data_hash(changed, CONTRACT) != expected
    place = changed.index[list(frame[name]).index(other)]
    changed.loc[place, name] = one
    assert data_hash(changed, CONTRACT) != expected


def test_rows_matter(frame: pd.DataFrame) -> None:
    """A missing and a repeated row change the hash."""
    for other in (frame.iloc[1:], pd.concat([frame, frame.iloc[:1]])):
        assert data_hash(other, CONTRACT) != data_hash(frame, CONTRACT)


def test_equal_trainings_have_equal_fingerprints() -> None:
    """The fingerprint depends on what it is given and on nothing else."""
    assert fingerprint(**GIVEN) == fingerprint(**GIVEN)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "abd"},
        {"contract": replace(CONTRACT, version="1.0.1")},
        {"profile": load_profile("fast", INSTANCE)},
        {"profile": load_profile("smoke", INSTANCE).model_copy(update={"grid": {"border_count": [32]}})},
        {"profile": GIVEN["profile"].model_copy(update={"code": "0" * 64})},
        {"base_dt": date(2025, 8, 30)},
        {"seed": 2},
    ],
    ids=["data", "contract", "profile", "grid", "code", "base_dt", "seed"],
)
def test_all_that_decides_the_result_matters(change: dict[str, Any]) -> None:
    """Other data, contract, profile, code of the estimator, date or seed give another fingerprint."""
    assert fingerprint(**{**GIVEN, **change}) != fingerprint(**GIVEN)


def test_the_estimator_matters() -> None:
    """Two estimators that are given the same parameters are two trainings."""
    shipped = ("logistic_regression", "hist_gradient_boosting")
    plans = [Profile(name="p", description="", estimator=name, fixed={"max_iter": 9}, grid={}) for name in shipped]
    assert len({fingerprint(**{**GIVEN, "profile": plan}) for plan in plans}) == 2
