from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Double, Engine, String, create_engine, insert, select
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import StatementError
from sqlalchemy.schema import CreateTable
from support.instance import CONTRACT
from support.stores import PEOPLE, TABLES

from ctcd.contract.rules import OF_SCORES
from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import names
from ctcd.store.tables import build_tables

PERSONAL = set(names(CONTRACT.personal))
OF_ENGINE = {
    TABLES.predictions: (
        "id machine features prediction confidence elapsed_ms created_at request_id model_version",
        "run_id probabilities contract_version served_by variant",
    ),
    TABLES.quarantine: ("table_name source line reasons record", ""),
    TABLES.profiles: ("day profile", ""),
    TABLES.scores: (
        "reading machine day model_version prediction confidence scored_at",
        "run_id probabilities contract_version served_by variant",
    ),
    TABLES.performance: (
        "period first_day model_version last_day predictions labelled accuracy macro_f1 recall confusion computed_at",
        (
            "run_id completeness accuracy_low accuracy_high macro_f1_low macro_f1_high recall_interval slices counts "
            "estimated_accuracy estimated_macro_f1 accuracy_error macro_f1_error"
        ),
    ),
    TABLES.drift: (
        (
            "period first_day source model_version run_id feature last_day rows effective_rows psi distance distance_limit "
            "missing reference_missing unseen reference_unseen drifted computed_at"
        ),
        "",
    ),
    TABLES.sources: ("table_name sha256 source read_rows written_rows ingested_at", ""),
    TABLES.findings: (
        "id kind subject is_open evidence day last_seen raised_at trained_on closed_on closed_by reason",
        "",
    ),
}
"""Columns of the engine's tables: those that they began with, and those that later versions have added."""


def test_tables_have_the_names_and_columns_of_the_contract() -> None:
    """Existing users find every table, column and key under its name."""
    assert TABLES.features.name == "machine_readings"
    assert list(TABLES.features.c.keys()) == names(CONTRACT.feature_columns)
    assert list(TABLES.features.primary_key.columns.keys()) == ["reading", "machine", "day"]
    assert list(TABLES.labels.c.keys()) == ["reading", "machine", "day", "condition"]
    assert list(PEOPLE.c.keys()) == ["reading", "machine", "day", "operator", "badge"]
    assert list(TABLES.snapshot.primary_key.columns.keys()) == ["taken_on", "reading", "machine"]
    assert set(TABLES.snapshot.c.keys()) == set(snapshot_schema(CONTRACT).columns)
    assert list(TABLES.predictions.c.keys())[:7] == [
        "id",
        "machine",
        "features",
        "prediction",
        "confidence",
        "elapsed_ms",
        "created_at",
    ]


def test_personal_columns_exist_where_they_must_and_nowhere_else() -> None:
    """Only the personal table needs personal columns; the feature table keeps them, always nullable."""
    for table in (TABLES.labels, TABLES.snapshot, TABLES.predictions, TABLES.quarantine):
        assert not PERSONAL & set(table.c.keys())
    assert all(TABLES.features.c[name].nullable for name in PERSONAL)


def test_a_version_of_the_engine_only_adds_columns_and_tables() -> None:
    """Whoever updates gets a migration that loses nothing, asks nothing and applies to tables with rows.

    A column that is dropped while another is added may be a rename, which `ctcd contract lock` refuses, and only the
    engine's authors would know: they leave the old one. Add a new column to the second text of its table.
    """
    for table, (first, later) in OF_ENGINE.items():
        assert set(table.c.keys()) == {*first.split(), *later.split()}, table.name
        for name in later.split():
            assert table.c[name].nullable or table.c[name].server_default is not None, name


def test_nullability_and_types_follow_the_contract() -> None:
    """A column is NOT NULL unless the contract lets it be null; numbers are doubles, text is bounded."""
    for column in CONTRACT.model_inputs:
        stored = TABLES.snapshot.c[column.name]
        assert stored.nullable == column.nullable
        if isinstance(stored.type, String):
            assert stored.type.length
    assert isinstance(TABLES.features.c["power"].type, Double)


def test_tables_are_made_once() -> None:
    """The same contract gives the same tables, so that statements are cached."""
    assert build_tables(CONTRACT) is build_tables(CONTRACT)


def test_mariadb_tables_compare_text_by_its_bytes() -> None:
    """On MariaDB every table is InnoDB with a binary collation, and moments keep their microseconds."""
    for table in TABLES.metadata.sorted_tables:
        ddl = str(CreateTable(table).compile(dialect=mysql.dialect()))
        assert "ENGINE=InnoDB" in ddl
        assert "utf8mb4_bin" in ddl
    assert "created_at DATETIME(6)" in str(CreateTable(TABLES.predictions).compile(dialect=mysql.dialect()))


def prediction(**changes: object) -> dict[str, object]:
    return {
        "machine": 1,
        "features": {},
        "prediction": "sound",
        "confidence": 0.5,
        "elapsed_ms": 1.0,
        "created_at": datetime(2025, 1, 1, tzinfo=UTC),
        "request_id": "r",
        "model_version": "1",
        **changes,
    }


def test_a_timestamp_without_time_zone_is_refused(store: Engine) -> None:
    """A timestamp without a time zone is ambiguous and refused."""
    naive = datetime(2025, 1, 1)  # noqa: DTZ001 -- the defect under test
    with pytest.raises(StatementError, match="needs a time zone"), store.begin() as connection:
        connection.execute(insert(TABLES.predictions), prediction(created_at=naive))


@settings(deadline=None)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    moment=st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001 -- Hypothesis takes bounds without a zone
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-7, minutes=-30))]),
        max_value=datetime(2100, 1, 1),  # noqa: DTZ001 -- as above
    ),
)
def test_numbers_and_moments_come_back_as_they_were(number: float, moment: datetime) -> None:
    """A double is read back bit by bit, a timestamp to the microsecond and in UTC."""
    engine = create_engine("sqlite://")
    TABLES.predictions.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(TABLES.predictions), prediction(confidence=number, created_at=moment))
        row = connection.execute(select(TABLES.predictions)).one()
    engine.dispose()
    assert row.confidence == number
    assert row.created_at == moment
    assert row.created_at.tzinfo is UTC


def test_every_column_of_the_batch_scores_is_a_name_that_a_key_may_not_have() -> None:
    """The rules of a contract cannot read the tables, so they name the columns, which must not fall behind."""
    own = {column.name for column in build_tables(CONTRACT).scores.columns} - set(names(CONTRACT.keys))
    assert own == set(OF_SCORES)
