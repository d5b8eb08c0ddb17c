"""Repeat an action beside what is measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def repeating(action: Callable[[], None], *, pause: float) -> Iterator[None]:
    """Call `action` again and again in a thread, with a pause in seconds before each call, until the block ends."""
    stop = Event()

    def repeat() -> None:
        while not stop.wait(pause):
            action()

    thread = Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
