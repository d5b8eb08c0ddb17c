from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.promotion.policy import Slices, load_policy
from ctcd.promotion.slices import MISSING, cut


@pytest.mark.parametrize("kind", ["float64", "Float64", "object"])
def test_bands_begin_at_their_edges(kind: Any) -> None:
    """A number at an edge belongs to the band that begins there; a missing one belongs to no band.

    Columns of the prediction log are of type object, in which a missing number is None.
    """
    frame = pd.DataFrame({"x": pd.Series([24.9, 25.0, 34.9, 35.0, 99.0, None], dtype=kind)})
    found = cut(frame, {"x": [25, 35]})[0]
    assert found.column == "x"
    assert found.names == ("below 25", "25 to below 35", "35 and above", MISSING)
    assert [found.names[place] for place in found.place] == [
        "below 25",
        "25 to below 35",
        "25 to below 35",
        "35 and above",
        "35 and above",
        MISSING,
    ]


def test_each_value_is_a_slice() -> None:
    """Values are slices in their order, whatever the order of the rows; a missing one is a slice of its own."""
    frame = pd.DataFrame({"x": pd.Series(["b", "a", None, "b"], dtype="str")})
    found = cut(frame, {"x": "each value"})[0]
    assert found.names == ("a", "b", MISSING)
    assert found.place.tolist() == [1, 0, 2, 1]


def test_a_date_has_the_same_name_in_a_snapshot_and_in_the_log() -> None:
    """A snapshot holds dates, the prediction log the text of the request; a time of day is kept."""
    dates = pd.Series(["2024-02-29", "2024-03-01", None])
    for values in (dates, pd.to_datetime(dates), pd.to_datetime(dates).dt.date):
        found = cut(pd.DataFrame({"x": values}, dtype=object), {"x": "each value"})[0]
        assert found.names == ("2024-02-29", "2024-03-01", MISSING)
        assert found.place.tolist() == [0, 1, 2]
    moments = pd.DataFrame({"x": pd.to_datetime(["2024-02-29T12:30:00"])})
    assert cut(moments, {"x": "each value"})[0].names == ("2024-02-29T12:30:00", MISSING)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.floats(-1e6, 1e6), min_size=1, unique=True))
def test_every_number_is_in_the_band_that_holds_it(values: list[float], edges: list[float]) -> None:
    """The bands cover every number once."""
    ordered = sorted(edges)
    found = cut(pd.DataFrame({"x": values}), {"x": ordered})[0]
    for value, place in zip(values, found.place.tolist(), strict=True):
        assert place == sum(edge <= value for edge in ordered)


def test_shipped_slices_cut_the_example() -> None:
    """Each column of the policy gives several slices that together are all rows."""
    frame = snapshot_frame(CONTRACT, rows=400)
    rules = load_policy(INSTANCE).slices
    assert isinstance(rules, Slices)
    found = cut(frame, rules.by)
    assert [slicing.column for slicing in found] == list(rules.by)
    for slicing in found:
        assert len(slicing.place) == len(frame)
        assert len(set(slicing.place.tolist())) > 2
        assert slicing.names[-1] == MISSING
        assert not (slicing.place == len(slicing.names) - 1).any()
