"""An MLflow store of its own for each test."""

import shutil
from pathlib import Path

import pytest

from ctcd.registry import tracking
from ctcd.settings import Settings


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database: MLflow takes seconds to make one, a copy takes none."""
    settings = Settings(home=tmp_path_factory.mktemp("template"))
    tracking.connect(settings)
    return settings.home / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, empty_store: Path) -> Settings:
    """Settings of the embedded mode with an MLflow store that holds nothing."""
    (tmp_path / "home").mkdir()
    shutil.copy(empty_store, tmp_path / "home")
    return Settings(home=tmp_path / "home")
