"""Hypothesis strategies derived from the contract: rows that keep it, and rows that break exactly one named rule."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ctcd.contract.spec import Column, Contract, Kind

Row = dict[str, Any]
_OPEN_MAXIMUM = 10**9
"""Where a column has no maximum of its own."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks one rule and no other.

    Args:
        row: group and features.
        column: the column whose rule is broken.
        rule: type, minimum, maximum, category, pattern, max_length, list, required or unknown.
    """

    row: Row
    column: str
    rule: str


def values(column: Column) -> SearchStrategy[Any]:
    """Draw valid values of a column, including nulls if it is nullable."""
    drawn = _values(column)
    return st.one_of(st.none(), drawn) if column.nullable else drawn


def _values(column: Column) -> SearchStrategy[Any]:
    if column.kind is Kind.INTEGER:
        return st.integers(int(column.minimum or 0), int(column.maximum or _OPEN_MAXIMUM))
    if column.kind is Kind.NUMBER:
        return st.floats(column.minimum or 0.0, column.maximum or float(_OPEN_MAXIMUM))
    if column.list_of is not None:
        entries = st.lists(st.sampled_from(column.list_of.items), min_size=1, max_size=9)
        separator, empty = column.list_of.separator, column.list_of.empty
        return st.one_of(st.just(empty), entries.map(separator.join))
    if column.categories:
        return st.sampled_from(column.categories)
    if column.pattern:
        return st.from_regex(rf"\A(?:{column.pattern})\Z", alphabet=st.characters(codec="ascii")).filter(
            lambda text: len(text) <= (column.max_length or len(text))
        )
    return st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=column.max_length)


@st.composite
def valid_rows(draw: st.DrawFn, contract: Contract) -> Row:
    """Draw the group and features of a row that keeps every rule, those over several columns too."""
    columns = contract.request_columns
    row: Row = {column.name: draw(values(column)) for column in columns}
    for column in columns:
        if column.list_of is not None:
            text = row[column.name]
            entries = 0 if text == column.list_of.empty else text.count(column.list_of.separator) + 1
            row[column.list_of.counted_by] = entries
        if column.simulate and column.simulate.times:
            # The two columns stand in a proportion that the contract promises; a free draw would hardly ever keep it.
            factors = column.simulate.quantiles
            factor = draw(st.floats(min(factors), max(factors)))
            value = row[column.simulate.times] * factor
            row[column.name] = min(max(value, column.minimum or value), column.maximum or value)
    return row


def _breakages(column: Column) -> Iterator[tuple[str, SearchStrategy[Any]]]:
    if column.kind in (Kind.INTEGER, Kind.NUMBER):
        yield "type", st.sampled_from(["", "many", True, [], {}])
        yield "type", st.sampled_from([float("nan"), float("inf"), float("-inf")])
        if column.minimum is not None:
            below = int(column.minimum) - 1
            yield "minimum", st.integers(-(10**6), below) if below > -(10**6) else st.just(below)
        if column.maximum is not None:
            above = int(column.maximum) + 1
            yield "maximum", st.integers(above, above + 10**6)
    else:
        yield "type", st.sampled_from([0, 1.5, True, [], {}])
    if column.list_of is not None:
        yield "list", st.sampled_from(["", "no such entry", f"{column.list_of.items[0]}{column.list_of.separator}"])
    elif column.categories:
        known = set(column.categories)
        yield "category", st.text(max_size=20).filter(lambda text: text not in known)
    elif column.pattern:
        yield "pattern", st.sampled_from(["", "_______", "!@9#%8", "\n"])
    if column.max_length is not None and column.pattern and column.list_of is None:
        yield "max_length", st.integers(column.max_length + 1, column.max_length + 50).map(lambda size: "a" * size)
    if not column.nullable:
        yield "required", st.none()


@st.composite
def broken_rows(draw: st.DrawFn, contract: Contract, rules: Collection[str] | None = None) -> BrokenRow:
    """Draw a row that breaks exactly one rule of one column, as a request could.

    Args:
        draw: given by Hypothesis.
        contract: the contract to break.
        rules: names of the rules to choose from, see `BrokenRow`; None: all.
    """
    row = draw(valid_rows(contract))
    choices = [
        (column, rule, values)
        for column in contract.request_columns
        for rule, values in (*_breakages(column), ("unknown", st.none()))
        if rules is None or rule in rules
    ]
    column, rule, values = draw(st.sampled_from(choices))
    if rule == "unknown":
        row[f"{column.name}_"] = 1
    elif rule == "required" and draw(st.booleans()):
        del row[column.name]
    else:
        row[column.name] = draw(values)
    return BrokenRow(row=row, column=column.name, rule=rule)
