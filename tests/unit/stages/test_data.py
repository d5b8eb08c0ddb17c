from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.instance import CONTRACT

from ctcd.contract.duplicates import SeenKeys
from ctcd.derived import synthetic
from ctcd.settings import Settings, load_settings
from ctcd.stages import data

DAY = date(2025, 8, 31)


@pytest.fixture
def settings(tmp_path: Path, migrated_file: bytes, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a home whose store has a snapshot of 40 rows, which are read 10 at a time."""
    (tmp_path / "store.db").write_bytes(migrated_file)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path))
    settings = load_settings()
    synthetic.write(CONTRACT, tmp_path / "raw", rows=40, seed=7, end=DAY, error_rate=0.0)
    data.ingest(settings, tmp_path / "raw")
    data.snapshot(settings, DAY, months=9)
    monkeypatch.setattr("ctcd.store.snapshot.CHUNK_ROWS", 10)
    return settings


def test_validation_remembers_one_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory does not grow with the rows: they come ordered by their keys, of which the last one says enough."""
    kept: list[int] = []

    class Counted(SeenKeys):
        def duplicated(self, keys: pd.DataFrame) -> NDArray[np.bool_]:
            found = super().duplicated(keys)
            kept.append(self.kept)
            return found

    monkeypatch.setattr("ctcd.contract.validation.SeenKeys", Counted)
    assert data.validate_snapshot(settings, None).rows == 40
    assert kept == [1, 1, 1, 1]
