"""A served model, in process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.serving import empty_store, pinned, save_model, served, small_scorer

from credit_score.model.scorer import Scorer
from credit_score.serving import shipper, shipping
from credit_score.settings import Settings


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pauses are for is waited for by events; their length would only be waited out."""
    monkeypatch.setattr(shipper, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(shipping, "LOOK_SECONDS", 0.02)


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
    with served(empty_store(pinned(home, model_folder, ship_in_process=False))) as client:
        yield client
