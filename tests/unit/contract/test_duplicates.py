import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from ctcd.contract.duplicates import SeenKeys


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=8), max_size=5))
def test_repeated_keys_are_those_a_set_knows(chunks: list[list[tuple[int, int]]]) -> None:
    """Within a chunk and over several, a key repeats exactly where a plain set has it already."""
    seen, reference = SeenKeys(), set()
    for chunk in chunks:
        expected = []
        for key in chunk:
            expected.append(key in reference)
            reference.add(key)
        keys = pd.DataFrame(chunk, columns=["reading", "group"], dtype="int64")
        assert seen.duplicated(keys).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=20).map(sorted), st.integers(1, 7))
def test_of_ordered_keys_the_last_one_says_enough(keys: list[int], size: int) -> None:
    """Keys that follow one another are told from each other with one of them in memory, whatever the chunks."""
    every, ordered = SeenKeys(), SeenKeys(ordered=True)
    for start in range(0, len(keys), size):
        chunk = pd.DataFrame({"reading": np.array(keys[start : start + size], dtype="int64")})
        assert ordered.duplicated(chunk).tolist() == every.duplicated(chunk).tolist()
        assert len(ordered._hashes) == 2  # with the sentinel
