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
