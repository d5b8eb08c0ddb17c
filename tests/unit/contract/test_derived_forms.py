"""Every form derived from the contract accepts the same rows."""

import pandas as pd
import pandera.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.features import CONTRACT
from contracts.payload import CreditRow
from credit_score.contract.schemas import batch_schema, features_schema, labels_schema, snapshot_schema
from credit_score.contract.spec import names
from credit_score.contract.strategies import BrokenRow, Row, broken_rows, valid_rows

FEATURES, LABELS = features_schema(CONTRACT), labels_schema(CONTRACT)
SNAPSHOT, BATCH = snapshot_schema(CONTRACT), batch_schema(CONTRACT)
SLOW = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def feature_row(row: Row) -> pd.DataFrame:
    rest = {CONTRACT.key.name: 1, CONTRACT.event_date.name: "2025-01-31"}
    personal = dict.fromkeys(names(CONTRACT.personal))
    frame = pd.DataFrame([{**rest, **personal, **row}])
    texts = [column.name for column in CONTRACT.feature_columns if column.kind.value in ("category", "list", "text")]
    return frame.astype(dict.fromkeys(texts, "str"))


@SLOW
@given(valid_rows(CONTRACT))
def test_a_valid_row_is_accepted_by_payload_feature_table_and_batch(row: Row) -> None:
    """A row that keeps the contract is accepted by every form derived from it."""
    assert CreditRow.model_validate(row).model_dump() == row
    frame = feature_row(row)
    FEATURES.validate(frame)
    BATCH.validate(frame)


@SLOW
@given(broken_rows(CONTRACT))
def test_a_row_that_breaks_one_rule_is_refused_by_the_payload_with_the_field_named(broken: BrokenRow) -> None:
    """A request that breaks one rule is refused, and the error names the field."""
    with pytest.raises(ValidationError) as refused:
        CreditRow.model_validate(broken.row)
    fields = {str(part) for error in refused.value.errors() for part in error["loc"]}
    assert broken.column in fields or f"{broken.column}_" in fields


@SLOW
@given(
    broken_rows(CONTRACT).filter(lambda broken: broken.rule in ("minimum", "maximum", "category", "pattern", "list"))
)
def test_a_row_out_of_bounds_is_refused_by_the_feature_table_and_batch(broken: BrokenRow) -> None:
    """A value that the payload refuses for its bounds, category or pattern is refused in the store and in a batch too."""
    frame = feature_row(broken.row)
    for schema in (FEATURES, BATCH):
        with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
            schema.validate(frame)


@SLOW
@given(valid_rows(CONTRACT), st.sampled_from(["num_of_loan", "monthly_inhand_salary"]))
def test_a_rule_over_several_columns_binds_the_store_but_not_a_request(row: Row, column: str) -> None:
    """A row whose columns contradict each other is refused by the store and accepted as a request and in a batch."""
    contradiction = {"num_of_loan": row["num_of_loan"] + 1, "monthly_inhand_salary": 50 + row["annual_income"] / 12 * 5}
    row = {**row, column: min(contradiction[column], 100_000)}
    if column == "monthly_inhand_salary" and row[column] < row["annual_income"] / 3:
        row["annual_income"] = 1_000.0
    CreditRow.model_validate(row)
    BATCH.validate(feature_row(row))
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        FEATURES.validate(feature_row(row))


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
    assert not set(CreditRow.model_fields) & set(names(CONTRACT.personal))
