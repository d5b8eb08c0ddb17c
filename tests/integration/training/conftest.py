"""An MLflow store of its own for each test."""

import shutil
from pathlib import Path

import pytest

from ctcd.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, empty_mlflow: Path) -> Settings:
    """Settings of the embedded mode with an MLflow store that holds nothing."""
    (tmp_path / "home").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "home")
    return Settings(home=tmp_path / "home")
