"""How long work says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called while work goes on; cheap enough to be called often."""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `task` are through; `total` is None while it is not known."""


def silent(task: str, done: int, total: int | None) -> None:
    """Report nothing."""
