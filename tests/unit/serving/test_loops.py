"""Threads that must live go on, whatever their work does."""

from threading import Event

import pytest

from ctcd.serving import loops
from ctcd.serving.loops import Loop


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RESTART_SECONDS", 0.01)


@pytest.mark.parametrize("fault", [ValueError("secret"), MemoryError(), SystemExit(1), KeyboardInterrupt(), None])
def test_whatever_ends_the_work_starts_it_again(fault: BaseException | None, caplog: pytest.LogCaptureFixture) -> None:
    """It is called again after any exception, and after it returned by itself; each time is counted and logged."""
    ended: list[str] = []
    went_on = Event()

    def work(stop: Event) -> None:
        if len(ended) < 3:
            if fault is not None:
                raise fault
            return
        went_on.set()
        stop.wait()

    loop = Loop("example", work, ended=ended.append)
    loop.start()
    assert went_on.wait(20)
    assert loop.stop(20)
    assert ended == ["example"] * 3
    assert [record.getMessage() for record in caplog.records if "the thread example" in record.getMessage()] == [
        f"the thread example {'ended' if fault is None else 'failed'} and will be restarted"
    ] * 3


def test_a_metric_that_fails_does_not_end_the_work() -> None:
    """Work goes on although it cannot be counted, as on a full disk."""
    calls: list[int] = []
    went_on = Event()

    def work(_stop: Event) -> None:
        calls.append(1)
        if len(calls) == 3:
            went_on.set()
        raise OSError

    def ended(_name: str) -> None:
        raise ValueError

    loop = Loop("example", work, ended=ended)
    loop.start()
    assert went_on.wait(20)
    assert loop.stop(20)


def test_work_that_is_stopped_is_not_called_again() -> None:
    """Neither if it returns, nor if it fails while it ends; one that hangs is not waited for."""
    ended: list[str] = []
    hung = Event()
    calls: list[str] = []

    def fails(stop: Event) -> None:
        calls.append("fails")
        stop.wait()
        raise ValueError

    def hangs(_stop: Event) -> None:
        hung.wait()

    for work, stopped in ((lambda stop: stop.wait(), True), (fails, True), (hangs, False)):
        loop = Loop("example", work, ended=ended.append)
        loop.start()
        assert loop.stop(20 if stopped else 0.05) is stopped
    hung.set()
    assert calls == ["fails"]


def test_a_loop_that_never_started_can_be_stopped() -> None:
    """A service that cannot start stops what it made."""
    ended: list[str] = []
    assert Loop("example", Event.clear, ended=ended.append).stop()
    assert ended == []
