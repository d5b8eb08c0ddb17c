"""The data contract: the columns of the feature store. Everything else that uses columns is derived from it."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from ctcd.contract import Contract, ListOf, Role, Simulate, column

MAX_NUMBER = 2**31 - 1
"""Largest record or customer number: 32 bits fit into every store and client."""

LOANS = ListOf(
    items=(
        "auto loan",
        "credit-builder loan",
        "debt consolidation loan",
        "home equity loan",
        "mortgage loan",
        "not specified",
        "payday loan",
        "personal loan",
        "student loan",
    ),
    empty="No Data",
    counted_by="num_of_loan",
)


class CreditKey(pa.DataFrameModel):
    """The key of a monthly record of a customer."""

    id: Series[int] = column(
        role=Role.KEY,
        meaning="record number, one for each customer and month",
        unit="1",
        minimum=1,
        maximum=MAX_NUMBER,
        example=22794,
    )
    customer_id: Series[int] = column(
        role=Role.GROUP, meaning="customer number", unit="1", minimum=1, maximum=MAX_NUMBER, example=31182
    )
    date: Series[pa.DateTime] = column(
        role=Role.EVENT_DATE, meaning="day that the record describes", unit="ISO 8601 date", example="2025-01-01"
    )


class CreditFeatures(CreditKey):
    """The features of a customer in a month.

    Bounds are plausible limits, not observed ones: a value outside them is an error in the data.
    """

    name: Series[str] = column(
        role=Role.PERSONAL, meaning="customer's name", unit="1", max_length=100, nullable=True, example="Jane Doe"
    )
    age: Series[int] = column(
        meaning="customer's age",
        unit="years",
        minimum=1,
        maximum=120,
        example=39,
        simulate=Simulate(quantiles=(14, 24, 33, 42, 56), signal=0.2, varies="group", whole=True),
    )
    ssn: Series[str] = column(
        role=Role.PERSONAL,
        meaning="social security number",
        unit="1",
        max_length=20,
        nullable=True,
        example="000-00-0000",
    )
    occupation: Series[str] = column(
        meaning="customer's occupation; new ones may appear",
        unit="1",
        pattern=r"[A-Za-z][A-Za-z _&/-]*",
        max_length=64,
        example="Developer",
        simulate=Simulate(
            shares={
                "Lawyer": 1.0,
                "Scientist": 1.0,
                "Engineer": 1.0,
                "Accountant": 1.0,
                "Developer": 1.0,
                "Mechanic": 1.0,
                "Manager": 1.0,
                "Architect": 1.0,
                "Entrepreneur": 1.0,
                "Doctor": 1.0,
                "Media_Manager": 1.0,
                "Writer": 1.0,
                "Teacher": 1.0,
                "Journalist": 1.0,
                "Musician": 1.0,
            },
            varies="group",
        ),
    )
    annual_income: Series[float] = column(
        meaning="income in a year",
        unit="USD/year",
        minimum=1_000,
        maximum=1_000_000,
        example=20226.28,
        simulate=Simulate(quantiles=(7_006, 19_300, 36_700, 71_000, 180_000), signal=0.35, varies="group"),
    )
    monthly_inhand_salary: Series[float] = column(
        meaning="salary paid out in a month",
        unit="USD/month",
        minimum=50,
        maximum=100_000,
        example=1617.52,
        simulate=Simulate(quantiles=(0.050, 0.080, 0.083, 0.086, 0.115), times="annual_income", varies="group"),
    )
    num_bank_accounts: Series[float] = column(
        meaning="bank accounts held",
        unit="accounts",
        minimum=0,
        maximum=50,
        example=8.0,
        simulate=Simulate(quantiles=(0, 3, 5, 7, 11), signal=-0.45, varies="group", whole=True),
    )
    num_credit_card: Series[float] = column(
        meaning="credit cards held",
        unit="cards",
        minimum=0,
        maximum=50,
        example=6.0,
        simulate=Simulate(quantiles=(0, 4, 5, 7, 11), signal=-0.45, varies="group", whole=True),
    )
    interest_rate: Series[float] = column(
        meaning="mean interest rate on credit cards",
        unit="%",
        minimum=0,
        maximum=100,
        example=14.0,
        simulate=Simulate(quantiles=(1, 7, 13, 20, 34), signal=-0.5, varies="group", whole=True),
    )
    num_of_loan: Series[int] = column(
        meaning="loans taken from the bank",
        unit="loans",
        minimum=0,
        maximum=20,
        example=2,
        simulate=Simulate(quantiles=(0, 2, 3, 5, 9), signal=-0.4, varies="group", whole=True),
    )
    type_of_loan: Series[str] = column(
        meaning="kinds of the loans taken, one entry for each loan",
        unit="1",
        max_length=512,
        list_of=LOANS,
        example="personal loan,credit-builder loan",
        simulate=Simulate(varies="group"),
    )
    delay_from_due_date: Series[float] = column(
        meaning="mean delay of payments after their due date",
        unit="days",
        minimum=0,
        maximum=365,
        example=28.0,
        simulate=Simulate(quantiles=(0, 10, 18, 28, 62), signal=-0.5, whole=True),
    )
    num_of_delayed_payment: Series[float] = column(
        meaning="payments made late",
        unit="payments",
        minimum=0,
        maximum=100,
        example=12.0,
        simulate=Simulate(quantiles=(0, 9, 14, 18, 25), signal=-0.45, whole=True),
    )
    changed_credit_limit: Series[float] = column(
        meaning="change of the credit card limit",
        unit="%",
        minimum=0,
        maximum=100,
        example=10.79,
        simulate=Simulate(quantiles=(0.5, 5.3, 9.4, 14.8, 30), signal=-0.3),
    )
    num_credit_inquiries: Series[float] = column(
        meaning="credit inquiries made about the customer",
        unit="inquiries",
        minimum=0,
        maximum=100,
        example=13.0,
        simulate=Simulate(quantiles=(0, 3, 5, 8, 17), signal=-0.5, whole=True),
    )
    credit_mix: Series[str] = column(
        meaning="bank's rating of the mix of credits",
        unit="1",
        categories=("Good", "Standard", "Bad"),
        example="Standard",
        simulate=Simulate(shares={"Bad": 0.24, "Standard": 0.46, "Good": 0.30}, signal=0.55, varies="group"),
    )
    outstanding_debt: Series[float] = column(
        meaning="debt still to be paid",
        unit="USD",
        minimum=0,
        maximum=1_000_000,
        example=767.58,
        simulate=Simulate(quantiles=(0.23, 566, 1_166, 1_946, 4_998), signal=-0.4, varies="group"),
    )
    credit_utilization_ratio: Series[float] = column(
        meaning="share of the credit limit in use",
        unit="%",
        minimum=0,
        maximum=100,
        example=38.15,
        simulate=Simulate(quantiles=(20, 28, 32.3, 36.5, 49), signal=-0.6, folded=True),
    )
    credit_history_age: Series[float] = column(
        meaning="age of the credit history",
        unit="months",
        minimum=1,
        maximum=1_200,
        example=104.0,
        simulate=Simulate(quantiles=(2, 146, 219, 302, 404), signal=0.5, varies="group", whole=True),
    )
    payment_of_min_amount: Series[str] = column(
        meaning="whether only the minimum amount was paid; NM: not mentioned",
        unit="1",
        categories=("NM", "Yes", "No"),
        example="Yes",
        simulate=Simulate(shares={"Yes": 0.58, "NM": 0.03, "No": 0.39}, signal=0.5, varies="group"),
    )
    total_emi_per_month: Series[float] = column(
        meaning="equated monthly instalments in all",
        unit="USD/month",
        minimum=0,
        maximum=100_000,
        example=26.83,
        simulate=Simulate(quantiles=(0, 29, 67, 147, 1_779), signal=-0.5, folded=True),
    )
    amount_invested_monthly: Series[float] = column(
        meaning="amount invested in a month",
        unit="USD/month",
        minimum=0,
        maximum=100_000,
        example=54.69,
        simulate=Simulate(quantiles=(0, 28, 45, 71, 434), signal=-0.5, folded=True),
    )
    payment_behaviour: Series[str] = column(
        meaning="pattern of spending and size of payments",
        unit="1",
        categories=(
            "Low_spent_Small_value_payments",
            "Low_spent_Medium_value_payments",
            "Low_spent_Large_value_payments",
            "High_spent_Small_value_payments",
            "High_spent_Medium_value_payments",
            "High_spent_Large_value_payments",
        ),
        nullable=True,
        example="Low_spent_Medium_value_payments",
        simulate=Simulate(
            shares={
                "Low_spent_Small_value_payments": 0.27,
                "Low_spent_Medium_value_payments": 0.15,
                "Low_spent_Large_value_payments": 0.10,
                "High_spent_Small_value_payments": 0.12,
                "High_spent_Medium_value_payments": 0.20,
                "High_spent_Large_value_payments": 0.16,
            },
            signal=0.15,
            missing=0.001,
        ),
    )
    monthly_balance: Series[float] = column(
        meaning="balance at the end of the month",
        unit="USD",
        minimum=0,
        maximum=1_000_000,
        example=294.21,
        simulate=Simulate(quantiles=(0.13, 268, 334, 463, 1_182), signal=0.3),
    )

    @pa.dataframe_check(
        name="one_entry_per_loan",
        description="type_of_loan has as many entries as num_of_loan says",
        error="one_entry_per_loan",
    )
    def one_entry_per_loan(cls, rows: pd.DataFrame) -> "pd.Series[bool]":
        """`type_of_loan` has as many entries as `num_of_loan` says."""
        text = rows["type_of_loan"]
        entries = (text.str.count(LOANS.separator) + 1).where(text != LOANS.empty, 0)
        return entries.eq(rows["num_of_loan"]).fillna(False)

    @pa.dataframe_check(
        name="salary_agrees_with_income",
        description="twelve monthly_inhand_salary are between a quarter and four times annual_income",
        error="salary_agrees_with_income",
    )
    def salary_agrees_with_income(cls, rows: pd.DataFrame) -> "pd.Series[bool]":
        """A year of `monthly_inhand_salary` is of the order of `annual_income`: a shifted unit is not."""
        return (12 * rows["monthly_inhand_salary"] / rows["annual_income"]).between(0.25, 4.0)


class CreditScore(CreditKey):
    """The label of a customer in a month."""

    credit_score: Series[str] = column(
        role=Role.LABEL,
        meaning="credit score class",
        unit="1",
        categories=("Poor", "Standard", "Good"),
        example="Standard",
        simulate=Simulate(shares={"Poor": 0.290, "Standard": 0.532, "Good": 0.178}, signal=0.98),
    )


CONTRACT = Contract(
    name="credit_score",
    version="1.0.0",
    features=CreditFeatures,
    labels=CreditScore,
    features_table="credit_score_features",
    labels_table="credit_score",
    personal_table="customer_info",
    snapshot_table="credit_score_features_target",
    predictions_table="credit_predictions_api_log",
    snapshot_date="base_dt",
    max_quarantine_share=0.02,
)
