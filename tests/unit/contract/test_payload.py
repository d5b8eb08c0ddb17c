"""The payload keeps what existing clients rely on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.features import CONTRACT
from contracts.payload import CreditRow, Prediction

EXAMPLE: dict[str, Any] = CreditRow.model_json_schema()["examples"][0]

CLIENT_RANGES: dict[str, tuple[float, float]] = {
    "annual_income": (5_000, 200_000),
    "monthly_inhand_salary": (400, 15_000),
    "num_bank_accounts": (0, 10),
    "num_credit_card": (0, 10),
    "interest_rate": (1, 35),
    "delay_from_due_date": (0, 60),
    "num_of_delayed_payment": (0, 25),
    "changed_credit_limit": (0, 30),
    "num_credit_inquiries": (0, 15),
    "outstanding_debt": (0, 5_000),
    "credit_utilization_ratio": (20, 50),
    "credit_history_age": (10, 400),
    "total_emi_per_month": (0, 1_000),
    "amount_invested_monthly": (0, 1_000),
    "monthly_balance": (0, 1_200),
}


@given(
    st.fixed_dictionaries(
        {
            "age": st.integers(18, 70),
            "num_of_loan": st.integers(0, 10),
            "type_of_loan": st.just("Personal Loan"),
            "credit_mix": st.sampled_from(["Good", "Bad", "Standard"]),
            "payment_of_min_amount": st.sampled_from(["NM", "Yes", "No"]),
            **{name: st.floats(*bounds) | st.integers(*map(int, bounds)) for name, bounds in CLIENT_RANGES.items()},
        }
    )
)
def test_what_existing_clients_send_is_accepted(sent: dict[str, Any]) -> None:
    """Every value in the ranges that existing clients draw from is accepted, whole numbers for floats too."""
    CreditRow.model_validate({**EXAMPLE, **sent})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("age", 0),
        ("credit_history_age", 0.0),
        ("credit_mix", "Excellent"),
        ("payment_of_min_amount", "Maybe"),
        ("type_of_loan", "Yacht Loan"),
        ("customer_id", 2**31),
        ("age", "39"),
        ("annual_income", float("nan")),
        ("occupation", "Developer\n"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused(field: str, value: object) -> None:
    """A value outside its rule is refused with the field named."""
    with pytest.raises(ValidationError, match=field):
        CreditRow.model_validate({**EXAMPLE, field: value})


def test_only_nullable_fields_may_be_left_out() -> None:
    """A field may be missing or null exactly where the contract lets the column be null."""
    for column in CONTRACT.model_inputs:
        without = {name: value for name, value in EXAMPLE.items() if name != column.name}
        for sent in (without, {**EXAMPLE, column.name: None}):
            if column.nullable:
                assert getattr(CreditRow.model_validate(sent), column.name) is None
            else:
                with pytest.raises(ValidationError, match=column.name):
                    CreditRow.model_validate(sent)


def test_the_schema_tells_unit_bounds_and_categories() -> None:
    """The JSON schema of a row carries what the contract says about each column."""
    properties = CreditRow.model_json_schema()["properties"]
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
    assert {"customer_id", "predict", "confidence"} <= set(Prediction.model_fields)
