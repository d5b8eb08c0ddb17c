"""Converting text cells to typed columns; values that cannot be converted are reported, never guessed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ctcd.contract.columns import ListOf, Role
from ctcd.contract.spec import Column, Kind, category_text
from ctcd.contract.validation import MISSING, NOT_OF_KIND, Failure
from ctcd.store.sources import WHOLE_LIMIT

Mask = NDArray[np.bool_]

EXPONENT = "is written with an exponent"
"""What is wrong with a whole-number key or group that a spreadsheet may have rounded."""

WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Whitespace as Unicode and the payload's models define it; Python and Arrow count U+001C to U+001F as well."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DAY = r"^\d{4}-\d{2}-\d{2}([ T]00:00:00(\.0+)?Z?)?$"
_DAY_LENGTH = 10
_TIME = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?)?$"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
_EXPONENT = "[eE]"


def trim(cells: pa.Table) -> pa.Table:
    """Return text cells without surrounding whitespace; empty cells become null."""
    columns = []
    for name in cells.column_names:
        text = pc.utf8_trim(cells[name], WHITESPACE)
        columns.append(pc.if_else(pc.equal(text, ""), None, text))
    return pa.table(columns, names=cells.column_names)


def convert(cells: pa.Table, columns: Sequence[Column]) -> tuple[pd.DataFrame, list[Failure]]:
    """Return trimmed text, null where a value is missing, as typed columns, and what cannot be converted.

    Returns:
        A frame with one row per row of `cells`, and the failures; values in the rows of a failure are meaningless.
    """
    data: dict[str, pd.Series] = {}
    found: list[Failure] = []
    for column in columns:
        text = cells[column.name].combine_chunks()
        missing = _mask(pc.is_null(text))
        values, problems = _convert(text, missing, column)
        data[column.name] = values
        if not column.nullable:
            problems = {MISSING: missing, **problems}
        for rule, mask in problems.items():
            if mask.any():
                found.append(Failure(column=column.name, rule=rule, rows=np.flatnonzero(mask)))
    return pd.DataFrame(data), found


def _convert(text: pa.Array, missing: Mask, column: Column) -> tuple[pd.Series, dict[str, Mask]]:
    if column.written in (Kind.DATE, Kind.TIME):
        return _dates(text, missing, column.written)
    if column.written is Kind.BOOLEAN:
        values, problems = _booleans(text, missing, column)
    elif column.written in (Kind.INTEGER, Kind.NUMBER):
        values, problems = _numbers(text, missing, column)
    else:
        normalised = text if column.list_of is None else _normalised(text, column.list_of)
        values, problems = pd.Series(normalised.to_pandas(), dtype="str"), {}
    if column.role is Role.LABEL and column.written is not Kind.TEXT:  # stored classes are text
        values = values.map(category_text, na_action="ignore").astype("str")
    return values, problems


def _booleans(text: pa.Array, missing: Mask, column: Column) -> tuple[pd.Series, dict[str, Mask]]:
    lower = pc.utf8_lower(text)
    true, false = (_mask(pc.is_in(lower, pa.array(words))) for words in (_TRUE, _FALSE))
    problems = {NOT_OF_KIND[Kind.BOOLEAN]: ~(true | false | missing)}
    if column.nullable:
        return pd.Series(true).astype("boolean").mask(missing), problems
    return pd.Series(true), problems


def _numbers(text: pa.Array, missing: Mask, column: Column) -> tuple[pd.Series, dict[str, Mask]]:
    matches = pc.match_substring_regex(text, _NUMBER)
    # Arrow parses to the nearest double, but does not accept a leading plus.
    numbers = pc.utf8_ltrim(pc.if_else(matches, text, None), "+").cast(pa.float64())
    values = numbers.to_numpy(zero_copy_only=False)
    malformed = ~_mask(matches) & ~missing
    problems = {NOT_OF_KIND[Kind.NUMBER]: malformed, "is not a finite number": np.isinf(values)}
    if column.kind is Kind.NUMBER:
        return pd.Series(values), problems
    whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < WHOLE_LIMIT)
    problems[NOT_OF_KIND[Kind.INTEGER]] = ~whole & np.isfinite(values)
    if column.role in (Role.KEY, Role.GROUP):
        # A spreadsheet writes 2,601 and 2,602 as 2.6E+03: two identities would silently become one. 2601.0, as pandas
        # writes a column that has missing values, loses nothing.
        problems[EXPONENT] = whole & _mask(pc.match_substring_regex(text, _EXPONENT))
    if column.nullable:
        return pd.Series(pd.array(np.where(whole, values, np.nan), dtype="Int64")), problems
    return pd.Series(np.where(whole, values, 0).astype(np.int64)), problems


def _dates(text: pa.Array, missing: Mask, kind: Kind) -> tuple[pd.Series, dict[str, Mask]]:
    day = kind is Kind.DATE
    matches = pc.if_else(pc.match_substring_regex(text, _DAY if day else _TIME), text, None)
    days = pc.utf8_slice_codeunits(matches, 0, _DAY_LENGTH) if day else matches
    values = pd.Series(pd.to_datetime(days.to_pandas(), format="%Y-%m-%d" if day else "ISO8601", errors="coerce"))
    impossible = values.isna().to_numpy() & ~missing
    # Frames hold dates in nanoseconds, whose range is 1678 to 2261.
    outside = ((values < pd.Timestamp.min) | (values > pd.Timestamp.max)).to_numpy()
    values = values.mask(outside).astype("datetime64[ns]")
    return values, {NOT_OF_KIND[kind]: impossible, "is outside the years 1678 to 2261": outside}


def _normalised(text: pa.Array, list_of: ListOf) -> pa.Array:
    encoded = text.dictionary_encode()
    normalised = pa.array([list_of.normalise(entry) for entry in encoded.dictionary.to_pylist()], pa.string())
    return normalised.take(encoded.indices)


def _mask(flags: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(flags, False).to_numpy(zero_copy_only=False), dtype=bool)
