"""What every suite shares."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from coverage import Coverage
from hypothesis import Phase, settings
from support.mariadb import SERVER_URL
from support.measured import is_measured

from ctcd.settings import bypass_proxies_for_loopback

STORE_URL = "FEATURE_STORE_URL"
URLS = (STORE_URL, "MLFLOW_TRACKING_URI")
PREFIX = "CTCD_"
REAL_DATA = "TESTS_REAL_DATA"

# What imports create stays: to look through it again and again takes a sixth of the time until the first test.
gc.disable()

# A test says itself which settings it means: those of the person who runs it are not for it. The server is, to make
# databases of the tests' own on; which one it is reaches the processes that run tests side by side, too.
for name in [name for name in os.environ if name.startswith(PREFIX) or name in URLS]:
    value = os.environ.pop(name)
    if name == STORE_URL:
        os.environ[SERVER_URL] = value

# Servers of the tests are on this machine, whatever proxy the person who runs them is behind.
bypass_proxies_for_loopback()

# The engine is tested on an instance of the tests' own, whatever stands in contracts/.
os.environ[f"{PREFIX}CONTRACTS"] = str(Path(__file__).parent / "instance")
# CatBoost's threads wait for each other on a machine that other tests share.
os.environ[f"{PREFIX}THREADS"] = "1"

# No deadlines: machines are noisy. --hypothesis-profile quick is for a fast run.
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=5)
# Where a failure is all that is asked for, and nobody reads the smallest example: planted defects and mutants.
settings.register_profile(
    "unshrunk",
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
settings.load_profile("thorough")


def pytest_collection_finish() -> None:
    """Exclude the objects that imports have created from garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the coverage of some files only; what their processes run, too, is measured if they are."""
    stopped = []
    # A process of pytest-xdist has two: its own, and one of pytest-cov that goes on when the other one stops.
    while (measuring := Coverage.current()) is not None and not is_measured(item.path):
        measuring.stop()
        stopped.append(measuring)
    try:
        return (yield)
    finally:
        for measuring in reversed(stopped):
            measuring.start()


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """Folder of real raw tables named by TESTS_REAL_DATA, or None: the project ships none."""
    folder = os.environ.get(REAL_DATA)
    return Path(folder) if folder else None


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database: MLflow takes seconds to make one, a copy takes none."""
    from ctcd.registry import tracking  # with MLflow, which most tests need not import
    from ctcd.settings import Settings

    settings = Settings(home=tmp_path_factory.mktemp("template"))
    tracking.connect(settings)
    return settings.home / "mlflow.db"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A SQLite store of the tests' instance with tables and no rows, as bytes."""
    from support.instance import INSTANCE

    from ctcd.store.migrations import upgrade  # with Alembic, which most tests need not import

    path = tmp_path_factory.mktemp("store") / "store.db"
    upgrade(f"sqlite:///{path}", INSTANCE.migrations)
    return path.read_bytes()


@pytest.fixture(scope="session", autouse=True)
def _the_wheel_is_what_is_tested() -> None:
    """Where the caller promised that the built wheel is imported, it is."""
    expected = os.environ.get("EXPECT_WHEEL")
    if expected:
        import ctcd

        assert Path(str(ctcd.__file__)).is_relative_to(Path(expected).resolve())
