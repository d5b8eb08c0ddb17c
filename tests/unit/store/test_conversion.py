from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.instance import CONTRACT

from ctcd.contract.spec import Column, Kind
from ctcd.store.conversion import convert, trim

COLUMNS = {column.name: column for column in CONTRACT.feature_columns}
WHOLE, NUMBER, DAY = COLUMNS["hours"], COLUMNS["power"], COLUMNS["day"]
LIST, NULLABLE = COLUMNS["parts"], COLUMNS["shift"]


def one(column: Column, *texts: str | None) -> tuple["pd.Series[Any]", dict[str, list[int]]]:
    """Convert one column; return its values, and the positions of the cells that break each rule."""
    frame, found = convert(trim(pa.table({column.name: pa.array(texts, pa.string())})), [column])
    return frame[column.name], {failure.rule: failure.rows.tolist() for failure in found}


@pytest.mark.parametrize(
    ("text", "value"), [("39", 39), ("39.0", 39), (" 39 ", 39), ("+39", 39), ("3.9e1", 39), ("-0", 0), ("007", 7)]
)
def test_whole_numbers_in_any_spelling(text: str, value: int) -> None:
    """A whole number may be written as a decimal one."""
    values, found = one(WHOLE, text)
    assert found == {}
    assert values.dtype == np.int64
    assert values.tolist() == [value]


@pytest.mark.parametrize("column", [CONTRACT.key, CONTRACT.group])
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("2601", None),
        ("2601.0", None),
        ("2.6E+03", "is written with an exponent"),
        ("2601e0", "is written with an exponent"),
        ("2601.5", "is not a whole number"),
        ("2.6015E+03", "is not a whole number"),
    ],
)
def test_an_identity_has_neither_exponent_nor_fraction(column: Column, text: str, rule: str | None) -> None:
    """A spreadsheet that shortens numbers would otherwise turn many keys into one."""
    _, found = one(column, "7", text)
    assert found == ({rule: [1]} if rule else {})


@pytest.mark.parametrize(
    ("column", "text", "rule"),
    [
        (WHOLE, "39.5", "is not a whole number"),
        (WHOLE, "9007199254740993", "is not a whole number"),
        (WHOLE, "__39__", "is not a number"),
        (WHOLE, "0x1602", "is not a number"),
        (WHOLE, "1_000", "is not a number"),
        (WHOLE, "", "is missing"),
        (WHOLE, "   ", "is missing"),
        (WHOLE, None, "is missing"),
        (NUMBER, "nan", "is not a number"),
        (NUMBER, "inf", "is not a number"),
        (NUMBER, "1,5", "is not a number"),
        (NUMBER, "-", "is not a number"),
        (NUMBER, ".", "is not a number"),
        (NUMBER, "٣", "is not a number"),
        (NUMBER, "1e999", "is not a finite number"),
        (DAY, "2025-02-29", "is not a calendar date"),
        (DAY, "2025-13-01", "is not a calendar date"),
        (DAY, "2025-1-1", "is not a calendar date"),
        (DAY, "01.02.2025", "is not a calendar date"),
        (DAY, "20250101", "is not a calendar date"),
        (DAY, "2025-01-01 12:00:00", "is not a calendar date"),
        (DAY, "0001-01-01", "is outside the years 1678 to 2261"),
        (DAY, "9999-12-31", "is outside the years 1678 to 2261"),
        (DAY, "", "is missing"),
        (LIST, "", "is missing"),
    ],
)
def test_what_has_no_value_is_told_with_its_reason(column: Column, text: str | None, rule: str) -> None:
    """A cell that cannot be converted is reported under one rule, and its neighbours are not."""
    values, found = one(column, str(column.example), text, str(column.example))
    assert found == {rule: [1]}
    assert values.iloc[0] == values.iloc[2]


@pytest.mark.parametrize("text", ["2024-02-29", "2024-02-29 00:00:00", "2024-02-29T00:00:00.000Z"])
def test_days_with_an_empty_time(text: str) -> None:
    """A day may carry a time if that is midnight, as Parquet writes it."""
    values, found = one(DAY, text)
    assert found == {}
    assert values.tolist() == [pd.Timestamp("2024-02-29")]


def test_lists_are_spelled_as_the_store_spells_them() -> None:
    """Entries become lower case without blanks, and an empty list has one spelling."""
    values, found = one(LIST, "Fan Belt , Oil Pump", "NONE", "no part we know")
    assert found == {}
    assert values.tolist() == ["fan belt,oil pump", "None", "no part we know"]


def test_a_nullable_column_may_be_empty() -> None:
    """An empty cell of a nullable column is a missing value and no failure."""
    values, found = one(NULLABLE, "", None, NULLABLE.example)
    assert found == {}
    assert values.isna().tolist() == [True, True, False]


def test_a_nullable_whole_number_stays_whole() -> None:
    """A missing value does not turn its column into floating-point numbers."""
    values, found = one(replace(WHOLE, nullable=True), "39.0", "", "4.5")
    assert found == {"is not a whole number": [2]}
    assert str(values.dtype) == "Int64"
    assert values.iloc[0] == 39


def test_no_rows_keep_their_types() -> None:
    """Nothing to convert still gives typed columns."""
    frame, found = convert(
        pa.table({"hours": pa.array([], pa.string()), "day": pa.array([], pa.string())}), [WHOLE, DAY]
    )
    assert found == []
    assert [str(kind) for kind in frame.dtypes] == ["int64", "datetime64[ns]"]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_read_to_the_last_bit(numbers: list[float]) -> None:
    """What Python writes as a number is read as exactly that number."""
    values, found = one(NUMBER, *map(repr, numbers))
    assert found == {}
    assert values.tolist() == numbers


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9999), st.integers(0, 13), st.integers(0, 32)), min_size=1))
def test_days_are_those_of_the_calendar(days: list[tuple[int, int, int]]) -> None:
    """Year, month and day are a date exactly where Python's calendar has it, within what a frame can hold."""
    values, found = one(DAY, *(f"{year:04}-{month:02}-{day:02}" for year, month, day in days))
    refused = {row for rows in found.values() for row in rows}
    for row, parts in enumerate(days):
        try:
            day = date(*parts)
        except ValueError:
            assert row in refused
            continue
        assert (row in refused) == (not date(1677, 9, 22) <= day <= date(2262, 4, 11))
        assert row in refused or values.iloc[row] == pd.Timestamp(day)


@pytest.mark.parametrize(
    ("fraction", "kept"), [("", True), (".123456", True), (".123456000", True), (".1234567", False)]
)
def test_a_time_has_microseconds(fraction: str, kept: bool) -> None:
    """Zeros after the sixth digit, as Parquet writes nanoseconds, lose nothing; another digit would."""
    moment = "2025-03-01 12:30:00" + fraction
    values, found = one(replace(DAY, kind=Kind.TIME, written=Kind.TIME), moment)
    assert found == ({} if kept else {"is not a date with a time of day": [0]})
    assert not kept or values.tolist() == [pd.Timestamp(moment)]
