"""Declaring the columns of a contract: one call of `column` states everything promised about a column."""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

import pandera.pandas as pa
from pydantic import AfterValidator, ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

METADATA_KEY = "contract"
STRICT = ConfigDict(strict=True)
"""A value of another type than is declared is an error, where a contract is written by hand."""
Category = str | int | bool


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


def _example(value: object) -> object:
    """Check that JSON can hold a value."""
    if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{value!r} is not text, a finite number, or true or false; a date is text")
    return value


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    for first, second in pairwise(values):
        if not first <= second:  # refuses NaN, too
            raise ValueError(f"they must be in ascending order: {first}, {second}")
    return values


Number = Annotated[float, PlainValidator(_number)]


def literal(text: str) -> str:
    """Return a regular expression for this text only, in the dialects of Python, Rust, JSON Schema and MariaDB.

    Unlike `re.escape` it escapes nothing that those dialects may not have escaped, such as a blank or a hyphen.
    """
    return re.sub(r"[\\^$.|?*+()\[\]{}]", r"\\\g<0>", text)


_FORBIDDEN = str.maketrans({"%": "percent", "?": "_", "`": "_"} | {chr(code): " " for code in (*range(32), 127)})
"""Characters that libraries take for something else in a statement (PyMySQL "%", Great Expectations "?", SQLAlchemy
"`"), and control characters, and what stands for them."""


def column_name(header: str) -> str:
    """Return the name that a column has in contract and store, from that in the header of a raw table."""
    return header.translate(_FORBIDDEN).strip()


class Role(StrEnum):
    """What a column is for."""

    KEY = "key"
    """Identifies a row together with the group and the event date; without one, rows are numbered as in their file."""
    GROUP = "group"
    """Identifies the entity that a row describes; a split keeps all rows of a group in one part. Without one, each key
    is a group of its own."""
    EVENT_DATE = "event_date"
    """The date that a row describes; without one, rows are valid from the day of their ingest on."""
    PERSONAL = "personal"
    """Personal data: no stage after ingest reads it."""
    FEATURE = "feature"
    """An input of the model."""
    LABEL = "label"
    """The class that the model predicts."""


KEYS = (Role.KEY, Role.GROUP, Role.EVENT_DATE)
"""Roles of the columns that identify a row; a contract has at most one column of each."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ListOf:
    """The format of a text column that holds a list.

    Args:
        items: all entries allowed, in lower case; the order and number of repeats carry no meaning.
        empty: text of a list without entries.
        counted_by: name of the column with the number of entries.
    """

    items: Annotated[tuple[str, ...], Field(min_length=1)]
    empty: str
    counted_by: str
    separator: Annotated[str, Field(min_length=1)] = ","

    def normalise(self, text: str) -> str:
        """Return a list as the store spells it: lower case, no spaces around entries, `empty` for a list without entries."""
        entries = [entry.strip().casefold() for entry in text.split(self.separator)]
        if entries == [self.empty.casefold()]:
            return self.empty
        return self.separator.join(entries)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Simulate:
    """How the generator of synthetic data fills a column: a Gaussian copula over one latent score per row.

    Args:
        quantiles: for numbers, the values at equally spaced ranks from 0 to 1; interpolated linearly.
        shares: for categories and labels, the share of each value as text, ordered from the lowest to the highest
            latent score; any positive numbers, which are made to sum to 1.
        signal: correlation, -1 to 1, of the column's rank with the latent score.
        folded: correlate the distance of the rank from the median instead of the rank; both ends then mean the same,
            which a linear model cannot learn.
        varies: draw one value per row or one per group.
        whole: round numbers to integers.
        times: name of a column whose value the drawn number is multiplied by.
        missing: share of nulls, 0 to 1; the column has to be nullable.
    """

    quantiles: Annotated[tuple[float, ...], AfterValidator(_ascending)] = ()
    shares: Mapping[str, Annotated[float, Field(gt=0)]] | None = None
    signal: Annotated[float, Field(ge=-1, le=1)] = 0.0
    folded: bool = False
    varies: Literal["row", "group"] = "row"
    whole: bool = False
    times: str | None = None
    missing: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Promise:
    """Everything that a contract says about a column, except its name and type; see `column`."""

    role: Role
    meaning: str
    unit: str
    example: Annotated[Any, PlainValidator(_example)] = None
    minimum: Number | None = None
    maximum: Number | None = None
    categories: tuple[Category, ...] | None = None
    pattern: str | None = None
    max_length: int | None = None
    list_of: ListOf | None = None
    time_of_day: bool = False
    nullable: bool = False
    simulate: Simulate | None = None
    draft: str = ""


def column(
    *,
    role: Role = Role.FEATURE,
    meaning: str,
    unit: str,
    example: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    categories: tuple[str, ...] | tuple[int, ...] | None = None,
    pattern: str | None = None,
    max_length: int | None = None,
    list_of: ListOf | None = None,
    time_of_day: bool = False,
    nullable: bool = False,
    alias: str | None = None,
    simulate: Simulate | None = None,
    draft: str = "",
) -> Any:
    """Declare a column of a pandera `DataFrameModel`.

    Args:
        role: what the column is for.
        meaning: description for a data owner, in one phrase.
        unit: unit of measurement; "1" for a plain number or text.
        example: a valid value; of a date, its text.
        minimum: lowest value allowed.
        maximum: highest value allowed.
        categories: closed set of allowed values, in the order used by everything derived from it; of a column of whole
            numbers, codes whose order means nothing.
        pattern: regular expression that the whole text has to match.
        max_length: maximum number of characters.
        list_of: format of a text column that holds a list.
        time_of_day: whether a date column also has a time of day.
        nullable: allow missing values.
        alias: name of the column, where it is not the name of the attribute; any text, such as one with blanks.
        simulate: how synthetic data fills the column; no check of real data uses it.
        draft: what `ctcd init` could not know and a person has to confirm; empty once confirmed.

    Returns:
        A pandera field with the checks and, as metadata, a `Promise`.

    Raises:
        ValidationError: an argument has another type than is declared, or a value that it may not have.
    """
    if list_of is not None:
        entry = "|".join(map(literal, list_of.items))
        pattern = rf"{literal(list_of.empty)}|(?:{entry})(?:{literal(list_of.separator)}(?:{entry}))*"
    promise = Promise(
        role=role,
        meaning=meaning,
        unit=unit,
        minimum=minimum,
        maximum=maximum,
        categories=categories,
        pattern=pattern,
        max_length=max_length,
        list_of=list_of,
        time_of_day=time_of_day,
        nullable=nullable,
        example=example,
        simulate=simulate,
        draft=draft,
    )
    return pa.Field(
        ge=minimum,
        le=maximum,
        isin=list(categories) if categories else None,  # pandera would take a tuple of one text for its letters
        str_matches=rf"^(?:{pattern})\Z" if pattern else None,
        str_length={"max_value": max_length} if max_length else None,
        nullable=nullable,
        alias=alias,
        description=meaning,
        metadata={METADATA_KEY: promise},
    )
