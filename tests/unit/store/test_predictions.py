from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import StatementError
from support.instance import CONTRACT
from support.stores import TABLES, count, rows_of

from ctcd.store.prediction_log import LoggedPrediction, append

NOW = datetime(2025, 8, 31, 23, 59, 59, 123456, tzinfo=UTC)

NEW = ("probabilities", "contract_version", "served_by", "variant")
"""Columns that earlier releases did not have."""


def logged(request_id: str, **features: object) -> LoggedPrediction:
    return LoggedPrediction(
        request_id=request_id,
        group=7,
        features=features,
        prediction="sound",
        confidence=0.75,
        model_version="3",
        run_id="run 3",
        elapsed_ms=1.5,
        created_at=NOW,
        probabilities={"sound": 0.75, "worn": 0.1 + 0.15, "faulty": 0.0},
        contract_version="1.0.0",
        served_by="bento:v3",
        variant="champion",
    )


def test_a_prediction_is_kept_whole(store: Engine) -> None:
    """Everything that was logged is in the row."""
    append(store, CONTRACT, [logged("a", hours=39, maker="Écrivain", shift=None)])
    [row] = rows_of(store, TABLES.predictions)
    assert row == {
        "id": 1,
        "machine": 7,
        "features": {"hours": 39, "maker": "Écrivain", "shift": None},
        "prediction": "sound",
        "confidence": 0.75,
        "elapsed_ms": 1.5,
        "created_at": NOW,
        "request_id": "a",
        "model_version": "3",
        "run_id": "run 3",
        "probabilities": {"sound": 0.75, "worn": 0.1 + 0.15, "faulty": 0.0},
        "contract_version": "1.0.0",
        "served_by": "bento:v3",
        "variant": "champion",
    }


def test_what_an_earlier_release_did_not_record_is_null(store: Engine) -> None:
    """In the database, and not as a JSON null."""
    known = {name: value for name, value in vars(logged("a")).items() if name not in NEW}
    append(store, CONTRACT, [LoggedPrediction(**known), logged("b")])
    with store.connect() as connection:
        missing = select(TABLES.predictions.c.request_id).where(*(TABLES.predictions.c[name].is_(None) for name in NEW))
        assert connection.scalars(missing).all() == ["a"]


def test_a_request_is_logged_once(store: Engine) -> None:
    """Repeated records, in one call or in several, add nothing, and the first one stays."""
    append(store, CONTRACT, [logged("a", hours=1), logged("a", hours=2), logged("b")])
    append(store, CONTRACT, [logged("b"), logged("c"), logged("a", hours=3)])
    rows = rows_of(store, TABLES.predictions)
    assert [row["request_id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["features"] == {"hours": 1}


def test_many_are_written_at_once(store: Engine) -> None:
    """More records than fit one statement are all written."""
    records = [logged(str(number)) for number in range(2_500)]
    append(store, CONTRACT, records)
    append(store, CONTRACT, records)
    assert count(store, TABLES.predictions) == 2_500


def test_nothing_to_write_is_nothing(store: Engine) -> None:
    """Writing no records adds no rows."""
    append(store, CONTRACT, [])
    assert count(store, TABLES.predictions) == 0


def test_a_text_may_look_like_no_number(store: Engine) -> None:
    """Texts such as `NaN` and `Infinity` stay texts."""
    append(store, CONTRACT, [logged("a", maker="NaN", shift="-Infinity")])
    assert rows_of(store, TABLES.predictions)[0]["features"] == {"maker": "NaN", "shift": "-Infinity"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_record_stops_all(store: Engine, value: float) -> None:
    """A value that JSON cannot represent is refused, and none of the other records is written."""
    records = [*(logged(str(number)) for number in range(1_500)), logged("bad", hours=value)]
    with pytest.raises(StatementError, match="not JSON compliant"):
        append(store, CONTRACT, records)
    assert count(store, TABLES.predictions) == 0
