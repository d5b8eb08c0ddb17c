"""Sending that can wait runs at idle priority; sending that cannot wait does not."""

import os
import threading

import pytest

from ctcd.serving.prediction_log import idle
from ctcd.serving.prediction_log.idle import IdleSender


def warm(send: IdleSender) -> IdleSender:
    """Return a sender that has sent its first batch, which is never sent at idle priority."""
    send([b"warm"])
    return send


def policy() -> tuple[str, int]:
    return threading.current_thread().name, os.sched_getscheduler(0)


@pytest.mark.parametrize("urgent", [False, True])
def test_a_batch_is_sent_at_idle_priority_unless_it_is_urgent(urgent: bool) -> None:
    """Each is decided anew: an urgent one runs in the thread of the caller, and lowers nobody's priority."""
    here, seen = policy(), []
    answers = [urgent, not urgent]
    send = warm(IdleSender(lambda bodies: seen.append((bodies, policy())), urgent=answers.pop))
    send([b"first"])
    send([b"second"])
    (_, of_warm), (first, of_first), (second, of_second) = seen
    assert of_warm == here
    assert (first, second) == ([b"first"], [b"second"])
    idle, at_once = (of_first, of_second) if urgent else (of_second, of_first)
    assert at_once == here
    assert idle[0].startswith("idle")
    assert idle[1] == os.SCHED_IDLE
    assert policy() == here


@pytest.mark.parametrize("urgent", [False, True])
def test_an_error_reaches_the_caller(urgent: bool) -> None:
    """An error of the sender reaches the caller from either thread."""

    def send(bodies: list[bytes]) -> None:
        if bodies != [b"warm"]:
            raise ValueError(bodies)

    with pytest.raises(ValueError, match="body"):
        warm(IdleSender(send, urgent=lambda: urgent))([b"body"])


@pytest.mark.parametrize("there", [True, False])
def test_a_system_without_idle_priority_sends_too(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Where a thread may not lower its priority, or cannot, the batch is sent all the same."""

    def refused(*_: object) -> None:
        raise PermissionError

    if there:
        monkeypatch.setattr(os, "sched_setscheduler", refused)
    else:
        monkeypatch.delattr(os, "sched_setscheduler")
    done: list[list[bytes]] = []
    warm(IdleSender(done.append, urgent=lambda: False))([b"body"])
    assert done == [[b"warm"], [b"body"]]


@pytest.mark.parametrize("busy_seconds", [0, 60])
def test_a_batch_that_gets_no_processor_at_idle_priority_is_sent_by_the_caller(
    monkeypatch: pytest.MonkeyPatch, busy_seconds: float
) -> None:
    """After a while it is sent a second time, and the next ones do not wait; later the idle thread is tried again."""
    monkeypatch.setattr(idle, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(idle, "BUSY_SECONDS", busy_seconds)
    here, done, starved = policy(), [], threading.Event()

    def send(bodies: list[bytes]) -> None:
        if policy() != here:
            assert starved.wait(60)
        done.append((bodies, policy() == here))

    sender = warm(IdleSender(send, urgent=lambda: False))
    sender([b"first"])
    assert done == [([b"warm"], True), ([b"first"], True)]
    starved.set()
    monkeypatch.setattr(idle, "IDLE_SECONDS", 60)
    sender([b"second"])
    assert ([b"second"], busy_seconds == 60) in done
