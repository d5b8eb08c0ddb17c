"""Hypothesis strategies for requests as clients of the tests' instance send them."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

CLIENT_RANGES: dict[str, tuple[float, float]] = {
    "power": (1, 1_000),
    "output": (1, 1_000),
    "vibration": (0, 100),
    "stops": (0, 100),
    "wear": (0, 100),
    "humidity": (0, 100),
}
CLIENT_ROWS: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: st.floats(*bounds) | st.integers(*map(int, bounds)) for name, bounds in CLIENT_RANGES.items()}
    | {
        "hours": st.integers(1, 20_000),
        "num_parts": st.integers(0, 20),
        "parts": st.sampled_from(["Fan Belt", "Fan Belt,Oil Pump", "fan belt", "None"]),
        "grade": st.sampled_from(["High", "Fair", "Low"]),
        "shift": st.none() | st.sampled_from(["early_short", "night"]),
    }
)
"""Values that clients send. They write whole numbers for floats, spell lists in title case, and send values that
contradict each other, such as a number of parts that is not the length of the list."""
