"""Data for all tests of the training."""

import pandas as pd
import pytest
from support.frames import snapshot_frame
from support.instance import CONTRACT


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return snapshot_frame(CONTRACT, rows=3_000, seed=3)
