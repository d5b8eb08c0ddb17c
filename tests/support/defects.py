"""A small catalogue for the tests of the runner, whose processes have to be able to import it."""

from prove.base import Area, Check, Defect, Stale

WORKS = Check(name="works", subject=list, refusal="; ".join)
BROKEN = Check(name="refuses everything", subject=list, refusal=lambda _: "no")


def refuse(found: list[str]) -> list[str]:
    return [*found, "it is wrong"]


def stale(_: list[str]) -> list[str]:
    raise Stale("nothing to change")


CATALOGUE = (
    Defect(name="is caught", area=Area.DATA, gate=WORKS, plant=refuse, expected="wrong"),
    Defect(name="is accepted", area=Area.DATA, gate=WORKS, plant=list),
    Defect(name="is refused for another reason", area=Area.DATA, gate=WORKS, plant=refuse, expected="too slow"),
    Defect(name="cannot be planted", area=Area.DATA, gate=WORKS, plant=stale),
    Defect(name="has a broken gate", area=Area.DATA, gate=BROKEN, plant=refuse),
)


def load() -> tuple[Defect, ...]:
    return CATALOGUE
