"""Progress reports of long-running work."""

from typing import Protocol


class Progress(Protocol):
    """Callback for progress; cheap enough to be called often."""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `task` are finished; `total` is None while it is unknown."""


def silent(task: str, done: int, total: int | None) -> None:
    """Report nothing."""


def report_wait(progress: Progress, task: str, waited: float, most: float, *, done: bool = False) -> None:
    """Report a wait of `waited` seconds out of the `most` that it may take; it is usually done earlier."""
    total = max(1, int(most))
    progress(f"{task} (at most {total} s)", total if done else min(int(waited), total - 1), total)
