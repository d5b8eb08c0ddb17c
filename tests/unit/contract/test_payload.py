"""The payload keeps what existing clients rely on."""

from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError
from support.clients import CLIENT_ROWS
from support.instance import CONTRACT, PAYLOAD

EXAMPLE: dict[str, Any] = PAYLOAD.row.model_json_schema()["examples"][0]


@given(CLIENT_ROWS)
def test_what_existing_clients_send_is_accepted(sent: dict[str, Any]) -> None:
    """Every value in the ranges that existing clients draw from is accepted, whole numbers for floats too."""
    PAYLOAD.row.model_validate({**EXAMPLE, **sent})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hours", 0),
        ("power", 0.0),
        ("grade", "Excellent"),
        ("shift", "sometimes"),
        ("parts", "Gear Box"),
        ("machine", 2**31),
        ("hours", "39"),
        ("power", float("nan")),
        ("maker", "Acme\n"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused(field: str, value: object) -> None:
    """A value outside its rule is refused with the field named."""
    with pytest.raises(ValidationError, match=field):
        PAYLOAD.row.model_validate({**EXAMPLE, field: value})


def test_a_whole_number_may_be_written_as_a_float() -> None:
    """JSON knows one kind of number: 39.0 is 39, and 39.5 is no integer."""
    row = PAYLOAD.row.model_validate({**EXAMPLE, "hours": 39.0})
    assert (row.model_dump()["hours"], type(row.model_dump()["hours"])) == (39, int)
    with pytest.raises(ValidationError, match="hours"):
        PAYLOAD.row.model_validate({**EXAMPLE, "hours": 39.5})


def test_only_nullable_fields_may_be_left_out() -> None:
    """A field may be missing or null exactly where the contract lets the column be null."""
    for column in CONTRACT.model_inputs:
        without = {name: value for name, value in EXAMPLE.items() if name != column.name}
        for sent in (without, {**EXAMPLE, column.name: None}):
            if column.nullable:
                assert getattr(PAYLOAD.row.model_validate(sent), column.name) is None
            else:
                with pytest.raises(ValidationError, match=column.name):
                    PAYLOAD.row.model_validate(sent)


def test_the_schema_tells_unit_bounds_and_categories() -> None:
    """The JSON schema of a row carries what the contract says about each column."""
    properties = PAYLOAD.row.model_json_schema()["properties"]
    for column in CONTRACT.model_inputs:
        told = properties[column.name]
        text = str(told)
        assert told["unit"] == column.unit
        assert column.meaning in text
        for bound in (column.minimum, column.maximum):
            assert bound is None or f": {bound}" in text.replace(".0", "")
        assert all(category in told.get("enum", ()) for category in column.categories or ())


def test_the_answer_keeps_its_published_fields() -> None:
    """The answer has the three fields that existing clients read."""
    assert {"machine", "predict", "confidence"} <= set(PAYLOAD.prediction.model_fields)
