"""Slices of a holdout that are evaluated separately, so that none is sacrificed for the overall score."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.spec import Contract, Kind
from ctcd.errors import UsageError

EACH_VALUE: Literal["each value"] = "each value"
"""Divides a column into one slice for each value."""
MISSING = "missing"

Cut = Literal["each value"] | Sequence[float]
"""How a column is sliced: by value, or for numbers by the ascending lower edges of all bands but the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Slicing:
    """A holdout sliced by one column.

    Args:
        place: index in `names` of each row's slice, shape (rows,).
    """

    column: str
    names: tuple[str, ...]
    place: NDArray[np.intp]


def cut(holdout: pd.DataFrame, by: Mapping[str, Cut]) -> tuple[Slicing, ...]:
    """Slice a holdout by each column; missing values are a slice of their own."""
    return tuple(_cut(holdout[column], how) for column, how in by.items())


def _cut(values: "pd.Series[Any]", how: Cut) -> Slicing:
    if how == EACH_VALUE:
        place, names = pd.factorize(values.astype(object), sort=True)
        slices = [_text(name) for name in names]
    else:
        edges = [float(edge) for edge in how]
        numbers = values.to_numpy(dtype=np.float64)
        place = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
        between = [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(edges)]
        slices = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and above"]
    return Slicing(
        column=str(values.name), names=(*slices, MISSING), place=np.where(place < 0, len(slices), place).astype(np.intp)
    )


def _text(value: object) -> str:
    """Return the name of a value's slice: a date is written as in a request."""
    return value.isoformat().removesuffix("T00:00:00") if isinstance(value, date) else str(value)


def require_cuttable(by: Mapping[str, Cut], contract: Contract) -> None:
    """Check that every column is an input of the model, and is sliced in a way that suits its kind.

    Raises:
        UsageError: names the columns for which this is not so.
    """
    columns = {column.name: column for column in contract.model_inputs}
    problems = []
    for name, how in by.items():
        if name not in columns:
            problems.append(f"{name} is not an input of the model")
            continue
        number = columns[name].kind in (Kind.INTEGER, Kind.NUMBER)
        if number and how == EACH_VALUE:
            problems.append(f"{name} is a number: give the edges of its bands")
        elif not number and how != EACH_VALUE:
            problems.append(f'{name} is not a number: cut it by "{EACH_VALUE}"')
    if problems:
        raise UsageError("; ".join(problems), where="promotion policy, slices.by")
