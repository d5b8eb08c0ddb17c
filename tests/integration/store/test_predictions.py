"""The prediction log in a real MariaDB."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from support.instance import CONTRACT
from support.stores import TABLES, count, rows_of

from ctcd.store import engine as store_engine
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction, _row, append
from ctcd.store.upsert import insert_new

pytestmark = pytest.mark.integration

ODD = ["\\", "\\'", "'; DROP TABLE x; --", '"', "%s", "\\n\n\r\0\x1a", "''", "\\0"]


def logged(number: int, **features: object) -> LoggedPrediction:
    return LoggedPrediction(
        request_id=f"request-{number}",
        group=number,
        features=features,
        prediction="sound",
        confidence=0.1 + 0.2,
        model_version="12",
        run_id="run 12",
        probabilities={"sound": 0.1 + 0.2, "worn": 1e-300, "faulty": 1 / 3},
        elapsed_ms=1.25,
        created_at=datetime(2025, 1, 1, 8, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=9))),
    )


def test_a_prediction_comes_back_whole(store_url: str) -> None:
    """JSON, doubles, and timestamps of another time zone with microseconds are read back unchanged."""
    engine = connect(store_url)
    features = {"maker": "Écrivain 😀", "humidity": 0.1 + 0.2, "shift": None}
    append(engine, CONTRACT, [logged(1, **features)])
    [row] = rows_of(engine, TABLES.predictions)
    assert row["features"] == features
    assert row["confidence"] == 0.1 + 0.2
    assert row["probabilities"] == {"sound": 0.1 + 0.2, "worn": 1e-300, "faulty": 1 / 3}
    assert row["created_at"] == datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=5), st.booleans())
@example(ODD, False)
@example(ODD, True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example adds a row of its own
def test_a_text_comes_back_as_it_was(store_url: str, texts: list[str], shipping: bool) -> None:
    """Quotes, backslashes and control characters are stored, and end no statement, however the driver quotes them."""
    engine = connect(store_url, shipping=shipping)
    before = count(engine, TABLES.predictions)
    features = {f"text {number}": text for number, text in enumerate(texts)}
    append(engine, CONTRACT, [logged(before, **features)])
    assert rows_of(engine, TABLES.predictions)[before]["features"] == features
    engine.dispose()


def test_two_concurrent_writers_make_no_duplicates(store_url: str) -> None:
    """Writers that send the same records at the same time leave each record once."""
    records = [logged(number) for number in range(3_000)]
    engines = [connect(store_url) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda engine: append(engine, CONTRACT, records), engines))
    assert count(engines[0], TABLES.predictions) == 3_000
    append(engines[0], CONTRACT, records)
    assert count(engines[0], TABLES.predictions) == 3_000


def test_rows_that_a_lost_machine_has_locked_can_be_written(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server rolls back what a shipping process has written and not committed, once that stays silent."""
    [(name, session)] = store_engine._SHIPPING.items()
    limit = f"idle_write_transaction_timeout={store_engine.UNFINISHED_SECONDS}"
    assert session.endswith(limit)
    monkeypatch.setattr(store_engine, "_SHIPPING", {name: session.replace(limit, limit[:-2] + "1")})
    with connect(store_url, shipping=True).connect() as lost:
        insert_new(lost, TABLES.predictions, [_row(logged(1), CONTRACT)])
        append(connect(store_url), CONTRACT, [logged(1)])
        with pytest.raises(OperationalError):
            lost.commit()
    assert count(connect(store_url), TABLES.predictions) == 1
