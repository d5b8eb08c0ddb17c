"""What clients that exist already send."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

CLIENT_RANGES: dict[str, tuple[float, float]] = {
    "power": (5_000, 200_000),
    "output": (400, 15_000),
    "num_bank_accounts": (0, 10),
    "num_credit_card": (0, 10),
    "vibration": (1, 35),
    "stops": (0, 60),
    "num_of_delayed_payment": (0, 25),
    "changed_credit_limit": (0, 30),
    "num_credit_inquiries": (0, 15),
    "wear": (0, 5_000),
    "credit_utilization_ratio": (20, 50),
    "credit_history_age": (10, 400),
    "total_emi_per_month": (0, 1_000),
    "amount_invested_monthly": (0, 1_000),
    "monthly_balance": (0, 1_200),
}
CLIENT_ROWS: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: st.floats(*bounds) | st.integers(*map(int, bounds)) for name, bounds in CLIENT_RANGES.items()}
    | {
        "age": st.integers(18, 70),
        "num_parts": st.integers(0, 10),
        "parts": st.just("Personal Loan"),
        "grade": st.sampled_from(["Good", "Bad", "Standard"]),
        "payment_of_min_amount": st.sampled_from(["NM", "Yes", "No"]),
    }
)
