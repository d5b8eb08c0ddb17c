"""Validating data frames against a contract: every broken rule, in words, with the rows that break it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from ctcd.contract.duplicates import SeenKeys
from ctcd.contract.spec import Contract, Kind, names
from ctcd.errors import DataRefused, number_of

MISSING = "is missing"
NOT_OF_KIND = {
    Kind.INTEGER: "is not a whole number",
    Kind.NUMBER: "is not a number",
    Kind.BOOLEAN: "is not true or false",
    Kind.DATE: "is not a calendar date",
    Kind.TIME: "is not a date with a time of day",
    Kind.TEXT: "is not text",
}
"""Wording for a value that is not in the format of its column."""

_EXAMPLES = 3
_VALUE_LENGTH = 200
_BREACHES_IN_MESSAGE = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Rows of a frame that break one rule.

    Args:
        column: column that the rule is about; empty for a rule over several columns.
        rule: how the rule is broken, such as "is below 1".
        rows: positions (not index labels) of the rows, ascending; empty if the frame as a whole breaks the rule.
    """

    column: str
    rule: str
    rows: NDArray[np.intp]

    @property
    def text(self) -> str:
        """The rule as a sentence about its column."""
        return f"{self.column} {self.rule}".strip()


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row that breaks a rule.

    Args:
        keys: name and value of each key column.
        value: the invalid value as text; None if it is missing or personal, or if the rule is about several columns.
    """

    keys: dict[str, str]
    value: str | None

    @property
    def text(self) -> str:
        """The row, and its value if there is one."""
        keys = ", ".join(f"{name} {value}" for name, value in self.keys.items()) or "a row"
        return keys if self.value is None else f"{keys}: {self.value!r}"


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A broken rule, in the words of a `Failure`.

    Args:
        count: number of rows that break it; 0 if the frame as a whole does.
        share: `count` as a share of all rows, 0 to 1.
        examples: the first rows that break it.
    """

    column: str
    rule: str
    count: int
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The result of validating data; without breaches, they are valid. `page` is the path of the HTML page, if any."""

    where: str
    contract_version: str
    rows: int
    breaches: tuple[Breach, ...]
    page: str = ""


class ContractBroken(DataRefused):
    """Data breaks the contract; `report` has the details."""

    def __init__(self, report: ValidationReport) -> None:
        self.report = report
        super().__init__(_summary(report), where=report.where, hint="correct the data, or change the contract")


def examine_chunks(
    frames: Iterable[pd.DataFrame], schema: pa.DataFrameSchema, contract: Contract, *, where: str, ordered: bool = False
) -> ValidationReport:
    """Return the report on data, valid or not, that messages call `where`: the same in several frames as in one.

    Memory holds one frame at a time and, unless the rows are `ordered` by their keys, 8 bytes per key; duplicate keys
    are found across frames too.
    """
    seen = SeenKeys(ordered=ordered)
    tallies: dict[tuple[str, str], _Tally] = {}
    total = 0
    for frame in frames:
        found = [*failures(frame, schema, contract), *_repeated(frame, schema, contract, seen)]
        for failure in found:
            tallies.setdefault((failure.column, failure.rule), _Tally()).add(failure, frame, contract)
        total += len(frame)
    if not total:
        tallies = {("", "there are no rows"): _Tally(), **tallies}
    return ValidationReport(
        where=where,
        contract_version=contract.version,
        rows=total,
        breaches=tuple(
            Breach(
                column=column,
                rule=rule,
                count=tally.count,
                share=tally.count / total if total else 0.0,
                examples=tuple(tally.examples),
            )
            for (column, rule), tally in tallies.items()
        ),
    )


def failures(frame: pd.DataFrame, schema: pa.DataFrameSchema, contract: Contract) -> list[Failure]:
    """Return every rule that a frame breaks, with the rows that break it; duplicate keys are not checked."""
    frame = frame.reset_index(drop=True)
    found = list(_fractions(frame, contract))
    try:
        _of_single_rows(schema).validate(frame, lazy=True)
    except SchemaErrors as errors:
        # Report a check that cannot run only if no missing column or wrong type explains it.
        explained = any(error.reason_code in (*_OF_FRAME, *_OF_TYPE) for error in errors.schema_errors)
        for error in errors.schema_errors:
            if not (explained and error.reason_code is SchemaErrorReason.CHECK_ERROR):
                found.extend(_read(error, contract))
    merged: dict[tuple[str, str], NDArray[np.intp]] = {}
    for failure in found:
        key = (failure.column, failure.rule)
        merged[key] = np.union1d(merged.get(key, _no_rows()), failure.rows)
    return [Failure(column=column, rule=rule, rows=rows) for (column, rule), rows in merged.items()]


def _of_single_rows(schema: pa.DataFrameSchema) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(schema.columns, checks=schema.checks, strict=schema.strict, coerce=schema.coerce)


def _repeated(frame: pd.DataFrame, schema: pa.DataFrameSchema, contract: Contract, seen: SeenKeys) -> Iterator[Failure]:
    """Yield the rows whose key occurred before, in this frame or an earlier one; a missing key is never a duplicate."""
    names_of_key = list(schema.unique or ())
    if not names_of_key or not set(names_of_key) <= set(frame.columns):
        return
    kinds = {column.name: column.kind for column in contract.keys}
    # Convert keys to one type per column: readers may infer another in each frame, and equal keys must hash alike.
    typed = pd.DataFrame({name: _comparable(frame[name], kinds.get(name, Kind.DATE)) for name in names_of_key})
    complete = np.flatnonzero(typed.notna().all(axis=1).to_numpy())
    repeated = complete[seen.duplicated(typed.iloc[complete])]
    if repeated.size:
        yield Failure(column="", rule=f"duplicate key: {', '.join(names_of_key)}", rows=repeated)


def _comparable(values: "pd.Series[Any]", kind: Kind) -> "pd.Series[Any]":
    values = values.reset_index(drop=True)
    if kind is Kind.DATE:
        return pd.to_datetime(values, errors="coerce", format="ISO8601").astype("datetime64[us]")
    if kind is Kind.INTEGER:
        numbers = pd.to_numeric(values, errors="coerce")
        return numbers.where(numbers % 1 == 0).astype("Int64")
    return values.astype("str")


@dataclass
class _Tally:
    """How often a rule has been broken so far, and the first rows that broke it."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, failure: Failure, frame: pd.DataFrame, contract: Contract) -> None:
        self.count += len(failure.rows)
        self.examples += _examples(failure, frame, contract, _EXAMPLES - len(self.examples))


_OF_FRAME = (SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME, SchemaErrorReason.COLUMN_NOT_IN_SCHEMA)
_OF_TYPE = (SchemaErrorReason.DATATYPE_COERCION, SchemaErrorReason.WRONG_DATATYPE)


def _fractions(frame: pd.DataFrame, contract: Contract) -> Iterator[Failure]:
    # pandera would silently truncate 1.5 to 1.
    for column in contract.feature_columns:
        if (
            column.written is Kind.INTEGER
            and column.name in frame
            and not pd.api.types.is_integer_dtype(frame[column.name])
        ):
            values = pd.to_numeric(frame[column.name], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
            rows = np.flatnonzero(np.isfinite(values) & (values != np.floor(values)))
            if rows.size:
                yield Failure(column=column.name, rule=NOT_OF_KIND[Kind.INTEGER], rows=rows)


def _read(error: SchemaError, contract: Contract) -> Iterator[Failure]:
    """Yield the failures that a pandera error stands for."""
    reason, check = error.reason_code, error.check
    name = str(error.schema.name or "")
    if reason in _OF_FRAME:
        missing = reason is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME
        rule = "is a column that is missing" if missing else "is a column that is not in the contract"
        yield Failure(column=str(error.failure_cases), rule=rule, rows=_no_rows())
    elif reason in _OF_TYPE:
        yield from _wrong_type(error, name, contract)
    elif reason is SchemaErrorReason.SERIES_CONTAINS_NULLS:
        yield Failure(column=name, rule=MISSING, rows=_positions(error.failure_cases["index"]))
    elif isinstance(check, pa.Check) and error.check_output is not None:
        of_rows = isinstance(error.schema, pa.DataFrameSchema)
        output = pd.Series(error.check_output)
        rows = output.index[~output.to_numpy(dtype=bool, na_value=False)].to_numpy(dtype=np.intp)
        yield Failure(column="" if of_rows else name, rule=_words(check, name, contract), rows=rows)
    else:
        yield Failure(column=name, rule=f"cannot be checked ({getattr(check, 'name', check)})", rows=_no_rows())


def _wrong_type(error: SchemaError, name: str, contract: Contract) -> Iterator[Failure]:
    kinds = {column.name: column.written for column in (*contract.feature_columns, *contract.label_columns)}
    rule = NOT_OF_KIND[kinds.get(name, Kind.DATE)]
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame):
        yield Failure(column=name, rule=rule, rows=_no_rows())
        return
    missing = cases["failure_case"].isna()
    for wording, those in ((MISSING, missing), (rule, ~missing)):
        if those.any():
            yield Failure(column=name, rule=wording, rows=_positions(cases.loc[those, "index"]))


def _words(check: pa.Check, name: str, contract: Contract) -> str:
    facts = check.statistics or {}
    match check.name:
        case "greater_than_or_equal_to":
            return f"is below {facts['min_value']}"
        case "less_than_or_equal_to":
            return f"is above {facts['max_value']}"
        case "isin":
            return f"is not one of {', '.join(map(str, facts['allowed_values']))}"
        case "str_length":
            return f"is longer than {number_of(facts['max_value'], 'character')}"
        case "str_matches":
            lists = {column.name for column in contract.feature_columns if column.list_of}
            return "has an unknown entry" if name in lists else "does not match the contract's pattern"
        case _:
            return f"breaks {check.name}: {check.description}"


def _positions(index: "pd.Series[Any]") -> NDArray[np.intp]:
    return np.unique(index.to_numpy(dtype=np.intp))


def _no_rows() -> NDArray[np.intp]:
    return np.empty(0, dtype=np.intp)


def _examples(failure: Failure, frame: pd.DataFrame, contract: Contract, most: int) -> list[Example]:
    keys = [name for name in names(contract.keys) if name in frame]
    shown = failure.column in frame and failure.column not in names(contract.personal)
    examples = []
    for row in failure.rows[:most]:
        value = frame[failure.column].iloc[row] if shown else None
        examples.append(Example(keys={key: _text(frame[key].iloc[row]) or "" for key in keys}, value=_text(value)))
    return examples


def _text(value: Any) -> str | None:
    if pd.isna(value):
        return None
    text = value.date().isoformat() if isinstance(value, pd.Timestamp) else str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."


def _summary(report: ValidationReport) -> str:
    shown = "; ".join(_sentence(breach, report.rows) for breach in report.breaches[:_BREACHES_IN_MESSAGE])
    more = len(report.breaches) - _BREACHES_IN_MESSAGE
    return f"{shown}; and {more} more" if more > 0 else shown


def _sentence(breach: Breach, rows: int) -> str:
    sentence = f"{breach.column} {breach.rule}".strip()
    if not breach.count:
        return sentence
    return f"{sentence} in {breach.count} of {rows} rows (first: {breach.examples[0].text})"
