"""A Bento of a small real model, and a service of it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.instance import INSTANCE
from support.load import Guarded
from support.network import free_port
from support.serving import INFO, pinned, save_model, small_scorer

from ctcd.deployment import bento
from ctcd.deployment.bento import BentoReport
from ctcd.model.scorer import Scorer
from ctcd.serving.launch import running
from ctcd.settings import Settings
from ctcd.store.migrations import upgrade

KEY = "for-tests-6kD1bW9pQ3zH7sJ4"


@pytest.fixture(scope="session")
def scorer() -> Scorer:
    """The model to serve."""
    return small_scorer()


@pytest.fixture(scope="session")
def built(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> tuple[BentoReport, Path]:
    """A Bento, and the home folder that it was built in."""
    home = tmp_path_factory.mktemp("home")
    folder = save_model(scorer, tmp_path_factory.mktemp("model"))
    return bento.build(INFO, folder, Settings(home=home), INSTANCE, revision="abc123"), home


@pytest.fixture
def settings(built: tuple[BentoReport, Path], tmp_path: Path) -> Settings:
    """Settings with a home folder of the test's own that contains the Bento."""
    (tmp_path / "bentoml").symlink_to(built[1] / "bentoml")
    return pinned(tmp_path, port=free_port())


@pytest.fixture(scope="session")
def guarded(built: tuple[BentoReport, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service for tests that only send requests; its log has every import of its processes."""
    home = tmp_path_factory.mktemp("guarded")
    (home / "bentoml").symlink_to(built[1] / "bentoml")
    store = f"sqlite:///{home / 'store.db'}"
    upgrade(store, INSTANCE.migrations)
    settings = pinned(home, port=free_port(), feature_store_url=SecretStr(store), api_keys=SecretStr(KEY))
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # of this service, and of no process that a later test starts
            service = stack.enter_context(running(built[0].tag, settings))
        yield Guarded(service, KEY, store)
