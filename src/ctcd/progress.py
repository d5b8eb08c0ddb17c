"""Progress reports of long-running work."""

from typing import Protocol


class Progress(Protocol):
    """Callback for progress; cheap enough to be called often."""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `task` are finished; `total` is None while it is unknown."""


def silent(task: str, done: int, total: int | None) -> None:
    """Report nothing."""
