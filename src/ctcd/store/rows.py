"""Checking the rows of a file against the contract, and counting what they break."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ctcd.contract.spec import Column, Contract, Kind
from ctcd.contract.validation import NOT_OF_KIND, Failure, failures
from ctcd.errors import DataRefused, number_of
from ctcd.store.conversion import EXPONENT, WHITESPACE, convert, trim
from ctcd.store.sources import Record

TOO_FEW, TOO_MANY = "the row has too few fields", "the row has too many fields"
_FIRST_LINES = 3
_ROUNDED = {EXPONENT: r"^[+-]?\d+([.,]\d*)?[eE][+-]?\d+$", NOT_OF_KIND[Kind.INTEGER]: r"^[+-]?\d*[.,]\d*[1-9]\d*$"}
"""How a number is written that may have been rounded, also with a decimal comma, by the rule that it breaks."""


def check(
    cells: pa.Table, columns: Sequence[Column], schema: pandera.DataFrameSchema, contract: Contract
) -> tuple[pd.DataFrame, list[Failure]]:
    """Return typed columns of text cells, and everything that their rows break.

    Rows whose cells cannot be converted are not judged by the rules of the schema; their typed values are meaningless.
    """
    frame, found = convert(trim(cells), columns)
    typed = valid_rows(len(frame), found)
    for failure in failures(frame.iloc[typed], schema, contract):
        found.append(Failure(column=failure.column, rule=failure.rule, rows=typed[failure.rows]))
    return frame, found


def merged_keys(cells: pa.Table, contract: Contract) -> list[Failure]:
    """Return the keys and groups of some cells that are written with an exponent or a fraction.

    A spreadsheet that writes them like this may have rounded several to the same number.
    """
    found = []
    for column in contract.keys:
        digits = column.written is Kind.INTEGER or (column.written is Kind.TEXT and column.pattern)
        if column.name in cells.column_names and digits:
            text = pc.utf8_trim(cells[column.name], WHITESPACE)
            for rule, written in _ROUNDED.items():
                rows = np.flatnonzero(pc.fill_null(pc.match_substring_regex(text, written), False))
                # By Python's expressions, as elsewhere: Arrow's have no look-around.
                if column.pattern:
                    rows = rows[[not re.fullmatch(column.pattern, text[int(row)].as_py()) for row in rows]]
                if rows.size:
                    found.append(Failure(column=column.name, rule=rule, rows=rows))
    return found


def valid_rows(rows: int, found: Iterable[Failure]) -> NDArray[np.intp]:
    """Return the positions of the rows without a failure."""
    valid = np.ones(rows, dtype=bool)
    for failure in found:
        valid[failure.rows] = False
    return np.flatnonzero(valid)


def malformed(record: Record, width: int) -> str:
    """Return what is wrong with a record that has another number of fields than the header."""
    return TOO_FEW if len(record.cells) < width else TOO_MANY


def require_few(bad: int, total: int, reasons: object, contract: Contract, *, where: str, hint: str) -> None:
    """Check that the share of rows that break the contract is one that it allows.

    Raises:
        DataRefused: it is larger; names the reasons.
    """
    share, allowed = bad / max(total, 1), contract.max_quarantine_share
    if share > allowed:
        raise DataRefused(
            f"{bad:,} of {total:,} rows ({share:.2%}) break the contract, which allows {allowed:.2%}: {reasons}",
            where=where,
            hint=hint,
        )


class Reasons:
    """Counts the rows that break each rule, and remembers the first lines of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first_lines: dict[str, list[int]] = {}

    def add(self, reason: str, lines: Sequence[int]) -> None:
        """Count the lines of rows that break a rule."""
        self.counts[reason] += len(lines)
        first = self._first_lines.setdefault(reason, [])
        first.extend(lines[: _FIRST_LINES - len(first)])

    def __str__(self) -> str:
        """Name every rule, the most frequent first."""
        return "; ".join(
            f"{reason} ({number_of(count, 'row')}, first in line {', '.join(map(str, self._first_lines[reason]))})"
            for reason, count in self.counts.most_common()
        )
