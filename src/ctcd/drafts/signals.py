"""How strongly each column of a table correlates with its label, to generate similar synthetic data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.columns import Role
from ctcd.contract.spec import Kind
from ctcd.drafts.columns import Found

LABEL = 0.98
"""Signal of the label; many classes are told apart by one score only if it is exact."""
EXACT, MANY = 0.999, 4
LIMIT = 0.97
"""Largest signal of a feature."""

MADE_UP = {"text 1": 0.5, "text 2": 0.5}
"""Shares of the texts of an open set in synthetic data."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """How synthetic data fills a column.

    Args:
        value: correlation, -1 to 1, with the hidden score that the label follows.
        shares: share of each category, from the lowest to the highest score; empty for a number. An open set has those
            of made-up texts: its own may be of persons, and many.
    """

    value: float
    shares: dict[str, float]


def measure(columns: Iterable[Found], label: Found) -> dict[str, Signal]:
    """Return the signal of each feature and of the label, by name.

    The classes are ordered along the direction in which the means of the features differ most. The score of a row is
    the middle of its class's share of a normal distribution.
    """
    features = [each for each in columns if each.role is Role.FEATURE]
    known = label.values.notna().to_numpy()
    truth = label.values[known].astype(str).to_numpy(dtype=object)
    classes, place = np.unique(truth, return_inverse=True)
    scores = {each.name: _normal(each, known) for each in features if each.number}
    onehot = [
        (each.values[known].to_numpy(dtype=object) == category).astype(float)
        for each in features
        for category in each.categories or ()
        if not each.number
    ]
    table = np.array([*scores.values(), *onehot]).reshape(-1, len(truth))
    means = np.array([[row[place == index].mean() for row in table] for index in range(len(classes))])
    direction = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[0][:, 0] if means.size else np.zeros(1)
    order = np.argsort(direction, kind="stable") if means.size else np.arange(len(classes))
    shares = np.bincount(place, minlength=len(classes))[order] / len(truth)
    middle = np.cumsum(shares) - shares / 2
    of_class = np.empty(len(classes))
    of_class[order] = [NormalDist().inv_cdf(float(rank)) for rank in middle]
    latent = of_class[place]
    spread = float(latent.std()) or 1.0
    result = {
        label.name: Signal(
            value=LABEL if len(classes) <= MANY else EXACT,
            shares={str(classes[index]): float(share) for index, share in zip(order, shares, strict=True)},
        )
    }
    for each in features:
        result[each.name] = _measured(each, scores.get(each.name), known, latent, spread)
    return result


def stronger(signals: dict[str, Signal], label: str, factor: float) -> dict[str, Signal]:
    """Return signals that tell the classes apart more clearly, if the factor is above 1; one without any stays as it is."""
    return {
        name: each if name == label else replace(each, value=_limited(float(np.tanh(factor * np.arctanh(each.value)))))
        for name, each in signals.items()
    }


def _measured(found: Found, score: Floats | None, known: NDArray[np.bool_], latent: Floats, spread: float) -> Signal:
    shares: dict[str, float] = {}
    if score is None:
        if found.kind in (Kind.LIST, Kind.DATE, Kind.TIME):
            return Signal(value=0.0, shares={})
        values = pd.Series(found.values[known].to_numpy(dtype=object))
        groups = pd.Series(latent).groupby(values).mean().sort_values()
        counted = values.value_counts(normalize=True)
        closed = found.categories is not None or found.kind is Kind.BOOLEAN
        shares = {str(name): float(counted[name]) for name in groups.index} if closed else dict(MADE_UP)
        score = _ranked(values.map(dict(zip(groups.index, range(len(groups)), strict=True))).astype("float64"))
    if not score.std():
        return Signal(value=0.0, shares=shares)
    return Signal(value=_limited(float(np.corrcoef(score, latent)[0, 1]) / spread), shares=shares)


def _limited(value: float) -> float:
    return round(min(max(value, -LIMIT), LIMIT), 2)


def _normal(found: Found, known: NDArray[np.bool_]) -> Floats:
    return _ranked(found.values[known].astype("float64").reset_index(drop=True))


def _ranked(values: "pd.Series[Any]") -> Floats:
    """Return the ranks of values as quantiles of a normal distribution; 0 for one that is missing."""
    count = values.notna().sum()
    ranks = ((values.rank() - 0.5) / max(count, 1)).fillna(0.5).to_numpy(dtype=np.float64)
    normal = NormalDist()
    distinct, place = np.unique(ranks, return_inverse=True)
    return np.array([normal.inv_cdf(float(rank)) for rank in distinct])[place]
