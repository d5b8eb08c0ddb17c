"""The bins of what a model was trained on."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.frames import snapshot_frame
from support.instance import CONTRACT
from support.rows import plain_rows
from support.serving import small_scorer

from ctcd.model.reference import BINS, CONFIDENCE, LEAST_SHARE, PREDICTION, Binned, Reference, make_reference

FRAME = snapshot_frame(CONTRACT, rows=2_000)
GROUP = CONTRACT.group.name


def reference() -> Reference:
    holdout = FRAME.iloc[:500]
    return make_reference(
        small_scorer().encoder,
        [FRAME.iloc[:50], FRAME.iloc[50:]],
        holdout,
        small_scorer().predict(holdout),
        group=GROUP,
    )


def binned(values: list[Any], groups: list[int] | None = None) -> Binned:
    kind = object if any(isinstance(value, str) for value in values) else np.float64
    return Binned.of(np.array(values, dtype=kind), np.array(groups or list(range(len(values)))))


def test_a_reference_counts_its_own_rows_as_it_did() -> None:
    """The snapshot falls into the bins as it did when they were made, as a frame, as rows of the log, and read from JSON."""
    made = reference()
    again = Reference.from_json(made.to_json())
    assert again == made
    expected = {name: (each.counts.bins, each.counts.missing) for name, each in made.columns.items()}
    for rows in (FRAME, plain_rows(FRAME, CONTRACT)):
        found = again.count(rows)
        assert {name: (counts.bins, counts.missing) for name, counts in found.items()} == expected
        assert all(counts.unseen == 0 for counts in found.values())
    assert set(expected) == set(small_scorer().encoder.number_names) | set(small_scorer().encoder.categorical)
    assert set(made.answers) == {PREDICTION, CONFIDENCE}
    assert sum(made.answers[PREDICTION].counts.bins) == sum(made.answers[CONFIDENCE].counts.bins) == 500


@given(st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=300))
def test_every_number_is_in_a_bin_that_is_not_too_small(values: list[float]) -> None:
    """Nothing is lost, also not beyond the lowest and highest value; only beside a value that nearly all have are small ones."""
    made = binned(values)
    assert sum(made.counts.bins) == len(values)
    assert list(made.edges) == sorted(set(made.edges))
    small = [count for count in made.counts.bins if count < LEAST_SHARE * len(values)]
    assert not small or (len(made.counts.bins) == 3 and max(made.counts.bins) > 0.9 * len(values))
    beyond = made.count(np.array([-1e300, 1e300, np.nan]))
    assert (sum(beyond.bins), beyond.bins[0] >= 1, beyond.bins[-1] >= 1, beyond.missing) == (2, True, True, 1)


def test_a_frequent_number_has_a_bin_of_its_own() -> None:
    """Nine in ten values are 0: those that are not are told from them, although all inner deciles are 0."""
    made = binned([0.0] * 900 + list(range(1, 101)))
    assert made.counts.bins == (900, 100)
    smooth = binned(list(np.linspace(0, 1, 1_000)))
    assert len(smooth.counts.bins) == BINS
    assert max(smooth.counts.bins) - min(smooth.counts.bins) <= 2


def test_a_value_that_nearly_all_rows_have_is_told_from_all_others() -> None:
    """Whatever else there is may be as rare as it likes, or not occur at all: a number has a bin below and one above."""
    for others, bins in (([], (0, 1_000, 0)), ([1.0] * 20, (0, 1_000, 20)), ([-9.0, 7.0], (1, 1_000, 1))):
        assert binned([0.0] * 1_000 + others).counts.bins == bins
    assert binned(["ok"] * 1_000 + ["fraud"] * 20).counts.bins == (1_000, 20)
    known = Binned.of(np.array(["ok"] * 9, dtype=object), np.arange(9), known=("fraud", "ok"))
    assert known.counts.bins == (9, 0)


def test_rare_categories_share_a_bin_and_unseen_ones_have_none() -> None:
    """Categories in few rows are counted together; what the reference does not have is unseen, and a null is missing."""
    made = binned(["a"] * 70 + ["b"] * 26 + ["c", "d", "e"] + ["f"])
    assert made.categories == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 2, "f": 2}
    found = made.count(np.array(["b", "f", "new", None, "new"], dtype=object))
    assert (found.bins, found.unseen, found.missing) == ((0, 1, 1), 2, 1)


def test_categories_of_one_group_tell_how_many_unseen_ones_to_expect() -> None:
    """One that only a single group has would be unseen without it, however many rows the group has; a known class never is."""
    values = np.array(["a"] * 6 + ["b"] * 3 + ["c"], dtype=object)
    groups = np.array([1, 2, 3, 4, 5, 6, 7, 7, 7, 8])
    assert Binned.of(values, groups).counts.unseen == 4
    assert Binned.of(values, groups, known=("a", "b", "c", "d")).counts.unseen == 0
    assert Binned.of(values, groups, known=("a", "b", "c", "d")).count(np.array(["d"], dtype=object)).unseen == 0
    assert Binned.of(values, groups).effective == pytest.approx(100 / (7 + 9))


def test_a_column_of_nulls_has_a_reference() -> None:
    """All rows are missing, and there is one bin."""
    empty = Binned.of(np.full(10, np.nan), np.arange(10))
    assert (empty.edges, empty.counts.missing) == ((), 10)
    texts = Binned.of(np.full(10, None, dtype=object), np.arange(10))
    assert (texts.categories, texts.counts.missing) == ({}, 10)
    assert texts.count(np.array(["a"], dtype=object)).unseen == 1


def test_another_document_is_refused() -> None:
    """A file with other content is no reference."""
    document = json.loads(reference().to_json())
    del document["columns"]
    with pytest.raises(ValidationError):
        Reference.from_json(json.dumps(document).encode())
