"""Hypothesis strategies derived from the contract: rows that keep it, and rows that break exactly one named rule."""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ctcd.contract.spec import Column, Contract, Kind

Row = dict[str, Any]
_OPEN_MAXIMUM = 10**9
"""Where a column has no maximum of its own."""
_FIRST, _LAST = datetime(1678, 1, 1), datetime(2261, 12, 31)  # noqa: DTZ001 - a time of day without a zone
"""What a frame can hold."""


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


def values(column: Column, *, entries: int = 9) -> SearchStrategy[Any]:
    """Draw valid values of a column, including nulls if it is nullable; a list has at most so many entries."""
    drawn = _values(column, entries)
    return st.one_of(st.none(), drawn) if column.nullable else drawn


def _values(column: Column, entries: int) -> SearchStrategy[Any]:
    if column.list_of is not None:
        empty, items = st.just(column.list_of.empty), st.sampled_from(column.list_of.items)
        lists = st.lists(items, min_size=1, max_size=max(1, entries)).map(column.list_of.separator.join)
        return st.one_of(empty, lists).filter(lambda text: _fits(column, text)) if entries else empty
    if column.categories:
        return st.sampled_from(column.categories)
    if column.pattern:
        texts = st.from_regex(rf"\A(?:{column.pattern})\Z", alphabet=st.characters(codec="ascii"))
        return texts.filter(lambda text: _fits(column, text) and text == text.strip())
    low, high = _bounds(column)
    characters = st.characters(codec="utf-8", exclude_characters="\x00")
    return {
        Kind.INTEGER: st.integers(math.ceil(low), math.floor(high)),
        Kind.NUMBER: st.floats(low, high),
        Kind.BOOLEAN: st.booleans(),
        Kind.DATE: st.dates(_FIRST.date(), _LAST.date()).map(date.isoformat),
        Kind.TIME: st.datetimes(_FIRST, _LAST).map(datetime.isoformat),
    }.get(column.kind, st.text(characters, min_size=1, max_size=column.max_length).map(str.strip).filter(bool))


def _fits(column: Column, text: str) -> bool:
    return column.max_length is None or len(text) <= column.max_length


def _bounds(column: Column) -> tuple[float, float]:
    """Return the lowest and highest number of a column, also where the contract leaves one of them open."""
    low = min(0.0, column.maximum or 0.0) if column.minimum is None else column.minimum
    return low, max(low, float(_OPEN_MAXIMUM)) if column.maximum is None else column.maximum


@st.composite
def valid_rows(draw: st.DrawFn, contract: Contract) -> Row:
    """Draw the group and features of a row that keeps every rule, those over several columns too."""
    columns = {column.name: column for column in contract.request_columns}
    row: Row = {}
    for name, column in columns.items():
        counter = columns.get(column.list_of.counted_by) if column.list_of else None
        most = counter.maximum if counter else None
        row[name] = draw(values(column, entries=9 if most is None else min(9, int(most))))
    for name, column in columns.items():
        if column.list_of is not None and column.list_of.counted_by in columns and row[name] is not None:
            empty, separator = column.list_of.empty, column.list_of.separator
            row[column.list_of.counted_by] = 0 if row[name] == empty else row[name].count(separator) + 1
        times = column.simulate.times if column.simulate else None
        if column.simulate and times and row[name] is not None and row.get(times) is not None:
            # The two columns stand in a proportion that the contract promises; a free draw would hardly ever keep it.
            low, high = _bounds(column)
            factors = column.simulate.quantiles
            row[name] = min(max(row[times] * draw(st.floats(min(factors), max(factors))), low), high)
    return row


_NO_TEXT: tuple[Any, ...] = (0, 1.5, True, [], {})
_NO_DATE = ("", "many", "2023-02-29", "2024-02-30T12:00:00", "29/02/2024", "2024-2-29", *_NO_TEXT)
_OF_ANOTHER_TYPE: dict[Kind, tuple[Any, ...]] = {
    Kind.INTEGER: ("", "many", True, 1.5, [], {}),
    Kind.NUMBER: ("", "many", True, [], {}),
    Kind.BOOLEAN: ("", "true", 0, 1, 1.5, [], {}),
    Kind.DATE: _NO_DATE,
    Kind.TIME: _NO_DATE,
    Kind.TEXT: _NO_TEXT,
}
"""By how the values of a column are written."""


def _breakages(column: Column) -> Iterator[tuple[str, SearchStrategy[Any]]]:
    yield "type", st.sampled_from(_OF_ANOTHER_TYPE[column.written])
    if column.kind in (Kind.INTEGER, Kind.NUMBER):
        yield from _beyond_numbers(column)
    if column.coded:
        yield "category", st.integers().filter(lambda code: code not in (column.categories or ()))
    elif column.list_of is not None:
        entries = ["", "no such entry", f"{column.list_of.items[0]}{column.list_of.separator}"]
        yield "list", st.sampled_from([text for text in entries if text != column.list_of.empty])
    elif column.categories:
        yield "category", st.text(max_size=20).filter(lambda text: text not in (column.categories or ()))
    elif column.pattern:
        breaking = [text for text in ("", "_______", "!@9#%8", "\n") if not re.fullmatch(column.pattern, text)]
        if breaking:
            yield "pattern", st.sampled_from(breaking)
    if column.max_length is not None and column.list_of is None:
        yield "max_length", st.integers(column.max_length + 1, column.max_length + 50).map(lambda size: "a" * size)
    if not column.nullable:
        yield "required", st.none()


def _beyond_numbers(column: Column) -> Iterator[tuple[str, SearchStrategy[Any]]]:
    yield "type", st.sampled_from([float("nan"), float("inf"), float("-inf")])
    if column.minimum is not None:
        below = math.floor(column.minimum) - 1
        yield "minimum", st.integers(-(10**6), below) if below > -(10**6) else st.just(below)
    if column.maximum is not None:
        above = math.ceil(column.maximum) + 1
        yield "maximum", st.integers(above, above + 10**6)


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
