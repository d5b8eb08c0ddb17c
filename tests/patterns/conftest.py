"""Small models for the compositions."""

from pathlib import Path

import pytest
from support.patterns import models

from ctcd.model.scorer import Scorer


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Scorer, Scorer]]:
    """Folder, first and second model of each composition."""
    return models(tmp_path_factory.mktemp("models"))
