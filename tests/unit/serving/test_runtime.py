"""The interpreter of a worker is tuned for serving."""

import gc
import sys
from collections.abc import Iterator

import pytest
from support.serving import served

from ctcd.serving import runtime
from ctcd.settings import Settings


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    """Begins with Python's own settings of the collector, and restores the settings of the interpreter."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(700, 10, 10)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("_as_it_was")
def test_garbage_is_collected_rarely_and_without_what_was_loaded_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The collector stays on, existing garbage is not frozen, and a waiting thread soon gets its turn."""
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    runtime.tune_interpreter()
    assert done == ["collect", "freeze"]
    assert gc.isenabled()
    assert gc.get_threshold()[0] > 10_000
    assert sys.getswitchinterval() < 0.005


def test_a_service_that_starts_tunes_its_interpreter(settings: Settings) -> None:
    """It does so once, when everything is loaded."""
    with served(settings):
        assert runtime.tune_interpreter.call_count == 1  # type: ignore[attr-defined] # a mock stands in its place
