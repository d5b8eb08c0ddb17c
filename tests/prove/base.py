"""What a planted defect and a gate are."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Area(StrEnum):
    """What a defect sabotages."""

    DATA = "data"
    CODE = "code"
    MODEL = "model"
    CONFIGURATION = "configuration"
    PAYLOAD = "payload"
    SERVICE = "service"
    WORKFLOW = "workflow"


class Stale(Exception):
    """A defect that cannot be planted any more: what it changes is not there, or is there twice."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An exact replacement of text in one file of the scratch copy.

    Args:
        path: the file, from the root of the checkout.
        old: text that stands in it exactly once.
        new: what to put in its place.
    """

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file.

        Raises:
            Stale: the text is not there exactly once.
        """
        file = root / self.path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        found = text.count(self.old)
        if found != 1:
            raise Stale(f"{self.path} holds {self.old.strip().splitlines()[0]!r} {found} times, not once")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


class Gate(Protocol):
    """Judges what it is given."""

    @property
    def name(self) -> str:
        """How a person calls it."""

    @property
    def quick(self) -> bool:
        """Whether it needs neither a process of its own nor seconds."""

    def judge(self, plant: Any = None) -> str:
        """Return why it refuses the subject with the defect in it; empty if it lets it through.

        Without a plant the subject is sound, and anything but an empty text means that the gate itself is broken.

        Raises:
            Stale: the defect cannot be planted.
        """


@dataclass(frozen=True, kw_only=True)
class Check:
    """A gate in this process: makes a sound subject, lets the defect change it, and judges the result.

    Args:
        name: how a person calls it.
        subject: makes a sound subject.
        refusal: says why the subject is refused, or nothing.
        quick: whether it takes less than a second or two.
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
    """A small sabotage.

    Args:
        name: what is wrong, in a few words.
        area: what it sabotages.
        gate: what must catch it.
        plant: for a `Check`, a function from a sound subject to a broken one; otherwise the edits.
        told: text that the gate's refusal has to hold, so that it is caught for the right reason.
    """

    name: str
    area: Area
    gate: Gate
    plant: Any
    told: str = ""
