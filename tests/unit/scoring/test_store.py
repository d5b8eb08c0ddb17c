"""How often batch scoring within the store reads its rows, and what it says of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from support.instance import CONTRACT
from support.raw import feature_row, label_row, write_tables
from support.serving import answering_the_less_probable, origin, small_scorer
from support.stores import load, rows_of

from ctcd.scoring.store import Scored, missing, score_range
from ctcd.store.engine import reading
from ctcd.store.tables import build_tables

STEP = 100
"""Instructions of SQLite that are counted as one."""


class Work:
    """Counts the instructions of SQLite's virtual machine, of which each row that is read takes some."""

    def __init__(self, store: Engine) -> None:
        self.steps = 0
        event.listen(store, "checkout", self._listen)

    def _listen(self, connection: Any, *_: object) -> None:
        connection.set_progress_handler(self._count, STEP)

    def _count(self) -> int:
        self.steps += 1
        return 0


def test_shares_are_of_the_rows_that_were_scored() -> None:
    """Rejected rows have no class; without scored ones there are no shares."""
    first, second = CONTRACT.classes[:2]
    scored = Scored(rows=10, rejected=2, counts=Counter({first: 6, second: 2}))
    assert scored.shares(CONTRACT.classes) == dict.fromkeys(CONTRACT.classes, 0.0) | {first: 0.75, second: 0.25}
    assert Scored(rows=2, rejected=2).shares(CONTRACT.classes) == {}


@pytest.mark.slow
@pytest.mark.parametrize("chunk_rows", [10, 300])
def test_the_rows_of_a_range_are_ranked_once(store: Engine, tmp_path: Path, chunk_rows: int) -> None:
    """However many chunks they are scored in: the queries of a run take as much as one query without chunks, or two."""
    rows = [feature_row(number, machine=number) for number in range(1, 301)]
    load(store, write_tables(tmp_path, rows, [label_row(999, machine=999)]))
    work, scorer = Work(store), small_scorer()
    with reading(store) as connection:
        connection.execute(missing(CONTRACT, "one")).all()
    once, work.steps = work.steps, 0
    # Nothing is written, so that only what is read is counted.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctcd.scoring.store.insert_new", lambda *_: None)
        parts = list(score_range(store, CONTRACT, scorer, origin("7"), chunk_rows=chunk_rows))
    assert [part.rows for part in parts] == [chunk_rows] * (300 // chunk_rows)
    assert once > 100
    assert 0.9 * once < work.steps < 2.2 * once


def test_the_confidence_of_a_score_is_that_of_its_class(store: Engine, tmp_path: Path) -> None:
    """Also where another class is more probable."""
    rows = [feature_row(number, machine=number) for number in range(1, 21)]
    load(store, write_tables(tmp_path, rows, [label_row(999, machine=999)]))
    with answering_the_less_probable():
        list(score_range(store, CONTRACT, small_scorer(), origin("7"), chunk_rows=100))
    scores = rows_of(store, build_tables(CONTRACT).scores)
    assert len(scores) == 20
    for score in scores:
        assert score["confidence"] == score["probabilities"][score["prediction"]]
    assert any(score["confidence"] < max(score["probabilities"].values()) for score in scores)
