"""One small scorer for all tests of the model."""

import pandas as pd
import pytest
from support.frames import snapshot_frame
from support.instance import CONTRACT
from support.serving import small_scorer

from ctcd.model.scorer import Scorer


@pytest.fixture(scope="session")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """1,000 valid rows that the scorer never saw."""
    return snapshot_frame(CONTRACT, rows=1_000, seed=7)
