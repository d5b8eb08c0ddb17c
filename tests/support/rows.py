"""Rows to be scored, as plain mappings."""

from typing import Any

import pandas as pd
from hypothesis import strategies as st

from ctcd.contract.spec import Column, Contract, Kind, names

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)


def plain_rows(frame: pd.DataFrame, contract: Contract) -> list[dict[str, Any]]:
    """Return a frame's model inputs as a request gives them: Python's own values, None for a null."""
    inputs = frame[names(contract.model_inputs)]
    return inputs.astype(object).where(inputs.notna(), None).to_dict("records")  # type: ignore[return-value] # keys are texts


def input_rows(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Rows with plausible values, unseen categories among them, and nulls everywhere."""
    return st.fixed_dictionaries({column.name: st.none() | _values(column) for column in contract.model_inputs})


def _values(column: Column) -> st.SearchStrategy[Any]:
    if column.kind is Kind.INTEGER:
        return st.integers(int(column.minimum or 0), int(column.maximum or 1_000_000))
    if column.kind is Kind.NUMBER:
        return st.floats(column.minimum, column.maximum)
    if column.list_of is not None:
        entries = st.lists(st.sampled_from(column.list_of.items) | WORDS, max_size=9)
        return entries.map(column.list_of.separator.join) | st.just(column.list_of.empty)
    return st.sampled_from(column.categories or ("", str(column.example))) | WORDS
