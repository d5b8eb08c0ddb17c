"""The words a contract is written in: one call of `column` states all that is promised about a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import pandera.pandas as pa

METADATA_KEY = "contract"


class Role(StrEnum):
    """What a column is for."""

    KEY = "key"
    """Identifies a row, together with the group and the event date."""
    GROUP = "group"
    """Identifies whom the row is about; a split never puts rows of one group on two sides."""
    EVENT_DATE = "event_date"
    """The day that the row describes."""
    PERSONAL = "personal"
    """Names a person: no stage after ingest reads it."""
    FEATURE = "feature"
    """What the model sees."""
    LABEL = "label"
    """What the model predicts."""


@dataclass(frozen=True, kw_only=True)
class ListOf:
    """A text column that holds a list.

    Args:
        items: every entry that may occur, in lower case; order and repeats carry no meaning.
        empty: the text that stands for a list without entries.
        counted_by: the column that says how many entries there are.
        separator: what stands between two entries.
    """

    items: tuple[str, ...]
    empty: str
    counted_by: str
    separator: str = ","

    def normalise(self, text: str) -> str:
        """Return the list as the store spells it: lower case, no blanks around entries, one spelling of empty."""
        entries = [entry.strip().casefold() for entry in text.split(self.separator)]
        if entries == [self.empty.casefold()]:
            return self.empty
        return self.separator.join(entries)


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """How the synthetic data generator fills a column (a Gaussian copula over one hidden score per row).

    Args:
        quantiles: for numbers, values at equally spaced ranks from 0 to 1; linear in between.
        shares: for categories and labels, each value with its share, ordered from the lowest to the highest hidden score.
        signal: correlation, -1 to 1, of the column's rank with the hidden score.
        folded: whether that rank is the distance from the middle, on a side drawn by chance, in place of the rank itself:
            both ends then mean the same, which a linear model cannot see.
        varies: whether a new value is drawn for each row or one for each group.
        whole: whether numbers are rounded to whole ones.
        times: a column whose value the drawn number is multiplied by.
        missing: share of nulls, 0 to 1; the column has to be nullable.
    """

    quantiles: tuple[float, ...] = ()
    shares: Mapping[str, float] | None = None
    signal: float = 0.0
    folded: bool = False
    varies: Literal["row", "group"] = "row"
    whole: bool = False
    times: str | None = None
    missing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Everything a contract says about a column beside its name and type. See `column`."""

    role: Role
    meaning: str
    unit: str
    minimum: float | None
    maximum: float | None
    categories: tuple[str, ...] | None
    pattern: str | None
    max_length: int | None
    list_of: ListOf | None
    nullable: bool
    example: Any
    simulate: Simulate | None


def column(
    *,
    role: Role = Role.FEATURE,
    meaning: str,
    unit: str,
    example: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    categories: tuple[str, ...] | None = None,
    pattern: str | None = None,
    max_length: int | None = None,
    list_of: ListOf | None = None,
    nullable: bool = False,
    simulate: Simulate | None = None,
) -> Any:
    """Declare a column of a pandera `DataFrameModel`.

    Args:
        role: what the column is for.
        meaning: one phrase for a data owner.
        unit: unit of measurement; "1" for a plain number or text.
        example: a value that keeps the promise.
        minimum: lowest value allowed.
        maximum: highest value allowed.
        categories: the closed set of values allowed; order is the order of everything derived from it.
        pattern: regular expression that the whole text matches.
        max_length: most characters allowed.
        list_of: what a text column that holds a list may hold.
        nullable: whether the value may be missing.
        simulate: how synthetic data fills the column; ignored by every gate.

    Returns:
        A pandera field that carries the checks and, as metadata, a `Promise`.
    """
    if list_of is not None:
        entry = "|".join(list_of.items)
        pattern = rf"{list_of.empty}|(?:{entry})(?:{list_of.separator}(?:{entry}))*"
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
        nullable=nullable,
        example=example,
        simulate=simulate,
    )
    return pa.Field(
        ge=minimum,
        le=maximum,
        isin=categories,
        str_matches=rf"^(?:{pattern})\Z" if pattern else None,
        str_length={"max_value": max_length} if max_length else None,
        nullable=nullable,
        description=meaning,
        metadata={METADATA_KEY: promise},
    )
