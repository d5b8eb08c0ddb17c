"""Planted defects and the gates that must catch them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Area(StrEnum):
    """The part of the system that a defect breaks."""

    DATA = "data"
    CODE = "code"
    MODEL = "model"
    CONFIGURATION = "configuration"
    PAYLOAD = "payload"
    SERVICE = "service"
    WORKFLOW = "workflow"


class Stale(Exception):
    """A defect that can no longer be planted: the text that it changes is missing or not unique."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An exact replacement of text in one file of a scratch copy.

    Args:
        path: the file, relative to the root of the repository.
        old: text that occurs in the file exactly once.
        new: its replacement.
    """

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below `root`.

        Raises:
            Stale: the text does not occur exactly once.
        """
        file = root / self.path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        found = text.count(self.old)
        if found != 1:
            raise Stale(f"{self.path} holds {self.old.strip().splitlines()[0]!r} {found} times, not once")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


class Gate(Protocol):
    """Accepts or refuses a subject."""

    @property
    def name(self) -> str:
        """Name for the report."""

    @property
    def quick(self) -> bool:
        """Whether it takes at most a second or two, and starts no Python of its own."""

    def judge(self, plant: Any = None) -> str:
        """Return why the gate refuses the subject with the defect in it; empty if it accepts it.

        Without `plant` the subject is sound, and any refusal means that the gate itself is broken.

        Raises:
            Stale: the defect cannot be planted.
        """


@dataclass(frozen=True, kw_only=True)
class Check:
    """A gate in this process: makes a sound subject, plants the defect in it and judges the result.

    Args:
        name: name for the report.
        subject: makes a sound subject.
        refusal: returns why a subject is refused; empty if it is accepted.
        quick: whether it takes at most a second or two.
    """

    name: str
    subject: Callable[[], Any]
    refusal: Callable[[Any], str]
    quick: bool = True

    def judge(self, plant: Any = None) -> str:
        """See `Gate`."""
        subject = self.subject()
        return self.refusal(subject if plant is None else plant(subject))


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A defect and the gate that must catch it.

    Args:
        name: what is wrong, in a few words.
        area: the part of the system that it breaks.
        gate: the gate that must catch it.
        plant: for a `Check`, a function from a sound subject to a broken one; for other gates, the edits.
        expected: text that the refusal must contain, so that the defect is caught for the right reason.
    """

    name: str
    area: Area
    gate: Gate
    plant: Any
    expected: str = ""
