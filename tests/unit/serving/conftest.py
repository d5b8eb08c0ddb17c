"""A served model, in process."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from starlette.testclient import TestClient
from support.serving import empty_store, pinned, save_model, served, small_scorer

from ctcd.model.scorer import Scorer
from ctcd.serving.prediction_log import outbox, shipper, shipping
from ctcd.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def _small_and_quick() -> Iterator[None]:
    """Tests wait for events instead of pauses, and write far less than what is reserved on disk."""
    with (
        patch.object(shipper, "POLL_SECONDS", 0.02),
        patch.object(shipping, "CHECK_SECONDS", 0.02),
        patch.object(outbox, "RESERVED_BYTES", 1 << 20),
        patch.object(outbox, "RESERVE_BYTES", 1 << 16),
    ):
        yield


@pytest.fixture(scope="session")
def scorer() -> Scorer:
    """A small real model."""
    return small_scorer()


@pytest.fixture(scope="session")
def model_folder(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the service loads the model from."""
    return save_model(scorer, tmp_path_factory.mktemp("model"))


@pytest.fixture
def settings(model_folder: Path, tmp_path: Path) -> Settings:
    """Embedded mode in a folder of the test's own, with an empty store."""
    return empty_store(pinned(tmp_path, model_folder, ship_in_process=False))


@pytest.fixture(scope="module")
def client(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of one service that the tests of a module share."""
    home = tmp_path_factory.mktemp("home")
    with served(empty_store(pinned(home, model_folder, ship_in_process=False, asynchronous=True))) as client:
        yield client
