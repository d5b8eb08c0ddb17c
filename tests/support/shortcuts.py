"""What makes a process of tests faster, and is none of their subjects."""

import sqlite3

from sqlalchemy import Engine, event

from ctcd.promotion import evaluation, gate, plots
from ctcd.promotion.evidence import Evidence

ROWS, WARM_UP = 3, 2
_drawn: dict[str, str] = {}


def take_shortcuts() -> None:
    """Make this process time few rows in a gate, draw plots once, and not wait until the disk has what SQLite wrote."""
    # Three hundred predictions would take half of a gate's time. How latency is measured and judged is tested in
    # tests/unit/promotion; commands in processes of their own time all.
    evaluation.ROWS_TIMED, evaluation.WARM_UP = ROWS, WARM_UP
    # Six plots take as long again. They are tested in tests/unit/promotion; commands in processes of their own draw them.
    vars(gate)["draw"] = _first_plots  # the name that it has imported
    # A process that is killed loses nothing by it, only a machine would.
    event.listen(Engine, "connect", _unsynchronised)


def _unsynchronised(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _first_plots(evidence: Evidence) -> dict[str, str]:
    """Return the plots of the first decision of this process, whatever the evidence."""
    if not _drawn:
        _drawn.update(plots.draw(evidence))
    return _drawn
