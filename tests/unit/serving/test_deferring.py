"""What can wait gives way to everything else, and does not wait for ever."""

import os
import threading

import pytest

from ctcd.serving.prediction_log.deferring import Deferring


def policy() -> tuple[str, int]:
    return threading.current_thread().name, os.sched_getscheduler(0)


@pytest.mark.parametrize("hurry", [False, True])
def test_work_gives_way_unless_there_is_a_hurry(hurry: bool) -> None:
    """It runs where every other thread comes first; in a hurry, or once it is over, where the caller runs."""
    here, seen = policy(), []
    hurries = [hurry, not hurry]
    work = Deferring(lambda bodies: seen.append((bodies, policy())), hurry=hurries.pop)
    work([b"first"])
    work([b"second"])
    (first, of_first), (second, of_second) = seen
    assert (first, second) == ([b"first"], [b"second"])
    deferred, at_once = (of_first, of_second) if hurry else (of_second, of_first)
    assert at_once == here
    assert deferred[0].startswith("deferred")
    assert deferred[1] == os.SCHED_IDLE
    assert policy() == here


@pytest.mark.parametrize("hurry", [False, True])
def test_what_goes_wrong_is_told(hurry: bool) -> None:
    """An error of the work is the caller's, wherever it ran."""

    def work(bodies: list[bytes]) -> None:
        raise ValueError(bodies)

    with pytest.raises(ValueError, match="body"):
        Deferring(work, hurry=lambda: hurry)([b"body"])


def test_a_system_without_such_threads_does_the_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread cannot step back, the work is done all the same."""

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    done: list[list[bytes]] = []
    Deferring(done.append, hurry=lambda: False)([b"body"])
    assert done == [[b"body"]]
