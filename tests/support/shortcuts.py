"""What makes a process of tests faster, and is none of their subjects."""

import sqlite3

from sqlalchemy import Engine, event

from ctcd.promotion import evaluation

ROWS, WARM_UP = 3, 2


def take_shortcuts() -> None:
    """Make this process time few rows in a gate, and not wait until the disk has what SQLite wrote."""
    # Three hundred predictions would take half of a gate's time. How latency is measured and judged is tested in
    # tests/unit/promotion; commands in processes of their own time all.
    evaluation.ROWS_TIMED, evaluation.WARM_UP = ROWS, WARM_UP
    # A process that is killed loses nothing by it, only a machine would.
    event.listen(Engine, "connect", _unsynchronised)


def _unsynchronised(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
