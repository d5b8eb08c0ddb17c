"""The catalogue of planted defects."""

from functools import cache

from prove import in_process, in_tree, in_wiring
from prove.base import Defect


@cache
def load() -> tuple[Defect, ...]:
    """Return all defects, sorted by area."""
    defects = (*in_process.DEFECTS, *in_tree.DEFECTS, *in_wiring.DEFECTS)
    return tuple(sorted(defects, key=lambda defect: defect.area))
