"""Performance of logged predictions, in both databases."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from support.instance import CONTRACT
from support.raw import feature_row, label_row, write_tables
from support.serving import EXAMPLE
from support.stores import TABLES, load

from ctcd.contract.spec import names
from ctcd.monitoring.performance import write_performance
from ctcd.monitoring.periods import Period
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction, append

pytestmark = pytest.mark.integration

ZONE = ZoneInfo("Asia/Seoul")
FAILING, WORN, SOUND = CONTRACT.classes


def logged(
    number: int, machine: int, when: datetime, prediction: str, *, version: str = "7", run_id: str = "run"
) -> LoggedPrediction:
    return LoggedPrediction(
        request_id=f"request-{number}",
        group=machine,
        features={name: EXAMPLE[name] for name in names(CONTRACT.model_inputs)},
        prediction=prediction,
        confidence=0.5,
        model_version=version,
        run_id=run_id,
        elapsed_ms=1.0,
        created_at=when,
    )


def test_predictions_meet_the_labels_that_came_later(
    each_store_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A day's predictions are compared with each machine's first label from that day on, and not with older or late ones."""
    engine = connect(each_store_url)
    # 00:30 on the 1st in Seoul is still the 31st in UTC.
    early = datetime(2025, 8, 31, 15, 30, tzinfo=UTC)
    day = date(2025, 9, 1)
    labels = [
        label_row(1, machine=1, day="2025-08-31", condition=FAILING),  # older
        label_row(2, machine=1, day="2025-09-01", condition=SOUND),
        label_row(3, machine=1, day="2025-09-10", condition=FAILING),  # a later one
        label_row(4, machine=2, day="2025-10-02", condition=SOUND),  # the last day that counts
        label_row(5, machine=3, day="2025-10-03", condition=SOUND),  # too late
    ]
    load(engine, write_tables(tmp_path_factory.mktemp("raw"), [feature_row(1, machine=1)], labels))
    append(
        engine,
        CONTRACT,
        [
            logged(1, 1, early, SOUND),
            logged(2, 2, early, WORN),
            logged(3, 3, early, SOUND),
            logged(4, 1, early - timedelta(hours=1), SOUND),  # the day before
            logged(5, 1, early, FAILING, version="8"),
        ],
    )
    report = write_performance(
        engine, CONTRACT, day + timedelta(days=1), period=Period.DAILY, zone=ZONE, slices=None, chunk_rows=100
    )
    found = {(row.first_day, row.model_version): row for row in report.rows}
    assert set(found) == {("2025-08-31", "7"), ("2025-09-01", "7"), ("2025-09-01", "8")}
    seven = found["2025-09-01", "7"]
    assert (seven.predictions, seven.labelled, seven.accuracy) == (3, 2, 0.5)
    assert seven.recall == {FAILING: None, WORN: None, SOUND: 0.5}
    assert seven.confusion[CONTRACT.classes.index(SOUND)][CONTRACT.classes.index(WORN)] == 1
    assert found["2025-09-01", "8"].accuracy == 0.0
    # The label of the 31st is older than the first of the 1st.
    assert found["2025-08-31", "7"].accuracy == 0.0
    week = write_performance(
        engine, CONTRACT, date(2025, 9, 8), period=Period.WEEKLY, zone=ZONE, slices=None, chunk_rows=100
    )
    assert [(row.first_day, row.last_day, row.model_version, row.predictions) for row in week.rows] == [
        ("2025-08-25", "2025-08-31", "7", 1),
        ("2025-09-01", "2025-09-07", "7", 3),
        ("2025-09-01", "2025-09-07", "8", 1),
    ]


def test_a_report_is_written_again_as_labels_come_in(
    each_store_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A row without labels has no score; when its label arrives, the next report replaces it."""
    engine = connect(each_store_url)
    raw = tmp_path_factory.mktemp("raw")
    load(engine, write_tables(raw, [feature_row(1, machine=1)], [label_row(1, machine=9)]))
    append(engine, CONTRACT, [logged(1, 1, datetime(2025, 9, 1, 3, tzinfo=UTC), WORN)])
    table = TABLES.performance
    for expected in (None, 1.0):
        write_performance(
            engine, CONTRACT, date(2025, 9, 3), period=Period.DAILY, zone=ZONE, slices=None, chunk_rows=100
        )
        with engine.connect() as connection:
            (row,) = connection.execute(select(table.c.accuracy, table.c.predictions)).all()
        assert tuple(row) == (expected, 1)
        late = [label_row(2, machine=1, day="2025-09-02", condition=WORN)]
        load(engine, write_tables(tmp_path_factory.mktemp("late"), [feature_row(1, machine=1)], late))


def test_two_models_with_the_same_version_are_measured_apart(
    each_store_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A registered model that was made again begins at version 1 again: its predictions are not counted with the old ones.

    Predictions of a class that the contract does not have any more are counted, and get no score.
    """
    engine = connect(each_store_url)
    made = datetime(2025, 9, 1, 3, tzinfo=UTC)
    labels = [label_row(1, machine=1, day="2025-09-02", condition=WORN)]
    load(engine, write_tables(tmp_path_factory.mktemp("raw"), [feature_row(1, machine=1)], labels))
    append(
        engine,
        CONTRACT,
        [
            logged(1, 1, made, SOUND, version="1", run_id=""),
            logged(2, 1, made, SOUND, version="1", run_id="old"),
            logged(3, 1, made, WORN, version="1", run_id="new"),
            logged(4, 1, made, "a class of that time", version="1", run_id="older"),
        ],
    )
    table = TABLES.performance
    for _again in range(2):
        write_performance(
            engine, CONTRACT, date(2025, 9, 3), period=Period.DAILY, zone=ZONE, slices=None, chunk_rows=100
        )
        with engine.connect() as connection:
            found = connection.execute(select(table.c.run_id, table.c.predictions, table.c.accuracy)).all()
        assert {tuple(row) for row in found} == {("", 1, 0.0), ("old", 1, 0.0), ("new", 1, 1.0), ("older", 1, None)}
