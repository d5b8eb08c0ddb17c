"""Every form derived from the contract accepts the same rows."""

from typing import TypeVar

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.instance import CONTRACT, PAYLOAD
from support.schemas import features_schema, labels_schema
from support.strategies import BrokenRow, Row, broken_rows, valid_rows

from ctcd.contract.schemas import batch_schema, snapshot_schema
from ctcd.contract.spec import names
from ctcd.contract.validation import failures

T = TypeVar("T")

FEATURES, LABELS = features_schema(CONTRACT), labels_schema(CONTRACT)
SNAPSHOT, BATCH = snapshot_schema(CONTRACT), batch_schema(CONTRACT)
MANY = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
OUT_OF_BOUNDS = ("minimum", "maximum", "category", "pattern", "max_length", "list")


def many(rows: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Draw rows by the dozen: a schema takes as long for one as for many."""
    return st.lists(rows, min_size=12, max_size=24)


def feature_rows(rows: list[Row]) -> pd.DataFrame:
    rest = {CONTRACT.event_date.name: "2025-01-31", **dict.fromkeys(names(CONTRACT.personal))}
    frame = pd.DataFrame([{CONTRACT.key.name: number, **rest, **row} for number, row in enumerate(rows, 1)])
    texts = [column.name for column in CONTRACT.feature_columns if column.kind.value in ("category", "list", "text")]
    return frame.astype(dict.fromkeys(texts, "str"))


def refused(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> set[int]:
    return {int(row) for failure in failures(frame, schema, CONTRACT) for row in failure.rows}


@pytest.mark.slow
@MANY
@given(many(valid_rows(CONTRACT)))
def test_a_valid_row_is_accepted_by_payload_feature_table_and_batch(rows: list[Row]) -> None:
    """A valid row is accepted by every form derived from the contract."""
    for row in rows:
        assert PAYLOAD.row.model_validate(row).model_dump() == row
    frame = feature_rows(rows)
    FEATURES.validate(frame)
    BATCH.validate(frame)


@given(broken_rows(CONTRACT))
def test_a_row_that_breaks_one_rule_is_refused_by_the_payload_with_the_field_named(broken: BrokenRow) -> None:
    """A request that breaks one rule is refused, and the error names the field."""
    with pytest.raises(ValidationError) as refusal:
        PAYLOAD.row.model_validate(broken.row)
    fields = {str(part) for error in refusal.value.errors() for part in error["loc"]}
    assert broken.column in fields or f"{broken.column}_" in fields


@pytest.mark.slow
@MANY
@given(many(broken_rows(CONTRACT, rules=OUT_OF_BOUNDS)))
def test_a_row_out_of_bounds_is_refused_by_the_feature_table_and_batch(rows: list[BrokenRow]) -> None:
    """What the payload refuses for its bounds, category or pattern the store refuses, and a batch if the model reads it."""
    frame = feature_rows([broken.row for broken in rows])
    read = {place for place, broken in enumerate(rows) if broken.column != CONTRACT.group.name}
    assert refused(frame, FEATURES) == set(range(len(rows)))
    assert refused(frame, BATCH) == read


@pytest.mark.slow
@MANY
@given(many(st.tuples(valid_rows(CONTRACT), st.booleans())))
def test_a_rule_over_several_columns_binds_the_store_but_not_a_request(rows: list[tuple[Row, bool]]) -> None:
    """A row whose columns contradict each other is refused by the store and accepted as a request and in a batch."""
    contradictory = [
        {**row, "num_parts": row["num_parts"] + 1} if by_count else {**row, "power": 1_000.0, "output": 1.0}
        for row, by_count in rows
    ]
    for row in contradictory:
        PAYLOAD.row.model_validate(row)
    frame = feature_rows(contradictory)
    BATCH.validate(frame)
    assert refused(frame, FEATURES) == set(range(len(rows)))


def test_keys_are_unique_in_every_table() -> None:
    """Two rows with the same key are refused by the feature, label and snapshot schemas."""
    example = {column.name: column.example for column in (*CONTRACT.feature_columns, *CONTRACT.label_columns)}
    example[CONTRACT.snapshot_date] = "2025-01-31"
    for schema in (FEATURES, LABELS, SNAPSHOT):
        once = pd.DataFrame([{name: example[name] for name in schema.columns}])
        schema.validate(once)
        with pytest.raises(pandera.errors.SchemaError, match="not unique"):
            schema.validate(pd.concat([once, once], ignore_index=True))


def test_personal_columns_leave_the_snapshot_and_the_batch() -> None:
    """Neither a snapshot nor rows to be scored carry a column that names a person."""
    for schema in (SNAPSHOT, BATCH):
        assert not set(schema.columns) & set(names(CONTRACT.personal))
    assert not set(PAYLOAD.row.model_fields) & set(names(CONTRACT.personal))
