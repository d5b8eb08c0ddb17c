"""Rows and effective rows of a period, in an embedded store."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, true
from support.instance import CONTRACT
from support.serving import origin
from support.stores import TABLES

from ctcd.monitoring.samples import by_model, count
from ctcd.store.engine import reading
from ctcd.store.prediction_log import LoggedPrediction, append
from ctcd.store.tables import log_name

BEGIN = datetime(2025, 9, 3, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
MACHINE = [TABLES.predictions.c[log_name(column)] for column in CONTRACT.identity]


def log(
    store: Engine, version: str, *machines: int, run_id: str = "run", when: datetime = BEGIN, variant: str = "champion"
) -> None:
    """Log an answer to each of some machines."""
    append(
        store,
        CONTRACT,
        [
            LoggedPrediction(
                **vars(origin(version, run_id, variant=variant)),
                request_id=f"{version}{run_id}{variant}{when:%d%H%M%S%f}{place}",
                group=machine,
                features={},
                prediction=CONTRACT.classes[0],
                confidence=0.5,
                elapsed_ms=1.0,
                created_at=when,
            )
            for place, machine in enumerate(machines)
        ],
    )


def sizes(store: Engine) -> dict[tuple[str, str], tuple[int, float]]:
    with reading(store) as connection:
        return by_model(connection, CONTRACT, (BEGIN, END))


def test_a_machine_that_asks_more_often_makes_fewer_rows_independent(store: Engine) -> None:
    """Of each model and of its machines: 3 rows and 1 row are 16 / 10 independent ones, by Kish; models are in order."""
    log(store, "8", 1, 2)
    log(store, "7", 1, 1, 1, 2, run_id="second")
    log(store, "7", 1, 1, run_id="first")
    assert list(sizes(store).items()) == [
        (("7", "first"), (2, 1.0)),
        (("7", "second"), (4, pytest.approx(1.6))),
        (("8", "run"), (2, 2.0)),
    ]


def test_answers_of_the_period_that_clients_got_are_counted(store: Engine) -> None:
    """From its beginning until before its end, whichever variant answered, but not what a shadow answered."""
    moment = timedelta(microseconds=1)
    for number, when in enumerate((BEGIN - moment, BEGIN, END - moment, END)):
        log(store, str(number), 1, when=when)
    for variant in ("challenger", "fallback", "shadow", "shadow_failed"):
        log(store, variant, 1, variant=variant)
    assert [version for version, _ in sizes(store)] == ["1", "2", "challenger", "fallback"]


def test_rows_without_groups_are_independent(store: Engine) -> None:
    """All rows count if there is no column of groups; without rows there is nothing to report."""
    with reading(store) as connection:
        assert count(connection, TABLES.predictions, MACHINE, true()) == {}
        assert count(connection, TABLES.predictions, [], true()) == {}
    log(store, "7", 1, 1, 1)
    log(store, "8", 1)
    with reading(store) as connection:
        assert count(connection, TABLES.predictions, [], true()) == {(): (4, 4.0)}
        assert count(connection, TABLES.predictions, MACHINE, true()) == {(): (4, 1.0)}
        by_version = count(connection, TABLES.predictions, MACHINE, true(), by=[TABLES.predictions.c.model_version])
    assert by_version == {("7",): (3, 1.0), ("8",): (1, 1.0)}
