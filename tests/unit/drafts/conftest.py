"""A table as a stranger may bring it: odd names, malformed values, and columns that should make one think."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROWS = 600


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a label, `Outcome`, that some of the columns predict, as a CSV file."""
    random = np.random.default_rng(3)
    score = random.standard_normal(ROWS)
    outcome = np.where(score + 0.4 * random.standard_normal(ROWS) > 0.3, "kept (new)", "sent back")
    parts = random.integers(0, 4, ROWS)
    kilograms = np.round(50 + 10 * score + 5 * random.standard_normal(ROWS), 2)
    strange = pd.DataFrame(
        {
            "": np.arange(ROWS),
            "Größe [cm]": np.round(170 + 8 * score, 1),
            "class": np.where(score > 0, "1. a+b|c", "2. (other)"),
            "index": random.integers(1, 5, ROWS),
            "weight kg": kilograms,
            "weight lb": np.round(kilograms * 2.2046, 4),
            "2nd reading": [str(value) if value else "?" for value in random.integers(0, 50, ROWS)],
            "E-Mail": [f"person{number}@example.org" for number in range(ROWS)],
            "parts": [";".join(["Bolt", "nut", "Cog (small)"][:count]) or "none" for count in parts],
            "part_count": parts,
            "insured": np.where(random.random(ROWS) < 0.4, "True", "False"),
            "day": pd.Series(
                pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300, ROWS), "D")
            ).dt.strftime("%Y-%m-%d"),
            "seen at": pd.Series(
                pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300 * 86_400, ROWS), "s")
            ).dt.strftime("%Y-%m-%d %H:%M:%S"),
            "registered as": random.integers(1_010_001, 899_999_999, ROWS),
            "site": "north",
            "note": np.where(random.random(ROWS) < 0.9, "", "x"),
            "empty": "",
            "verdict": np.where(outcome == "sent back", 3, 7),
            "Outcome": outcome,
        }
    )
    path = tmp_path_factory.mktemp("data") / "Returned Goods.csv"
    strange.to_csv(path, index=False)
    return path
