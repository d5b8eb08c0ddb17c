"""A real browser, and a service."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr
from support.browser import INSTANCE, PROGRAMS
from support.load import Guarded
from support.network import free_port
from support.serving import model_info, pinned, save_model, small_scorer

from ctcd.deployment import bento
from ctcd.serving.launch import running
from ctcd.settings import Settings
from ctcd.store.migrations import upgrade

CONTRACT = INSTANCE.contract
KEY = "for-tests-6kD1bW9pQ3zH7sJ4"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service process with an API key; it serves a small model of the instance."""
    home = tmp_path_factory.mktemp("home")
    folder = save_model(
        small_scorer(contract=CONTRACT), tmp_path_factory.mktemp("model"), model_info(CONTRACT), CONTRACT
    )
    built = bento.build(model_info(CONTRACT), folder, Settings(home=home), INSTANCE)
    store = f"sqlite:///{home / 'store.db'}"
    upgrade(store, INSTANCE.migrations)
    settings = pinned(home, port=free_port(), feature_store_url=SecretStr(store), api_keys=SecretStr(KEY))
    with running(built.tag, settings) as process:
        yield Guarded(process, KEY, store)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine, as `scripts/ensure-chromium.sh` finds it."""
    program = next(found for name in PROGRAMS if (found := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()
