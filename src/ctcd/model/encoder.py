"""Encoding of rows, into what the trees read or into a frame with fixed types; the same for frames and single rows."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from operator import itemgetter
from typing import Any, Self

import numpy as np
import pandas as pd
from catboost import FeaturesData
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from ctcd.contract.columns import ListOf
from ctcd.errors import UsageError

MISSING = "(missing)"
"""Replaces a null in a categorical column: CatBoost accepts text only."""

BLOCK_ROWS = 50_000
"""Rows of a frame that are encoded at once: their values are Python objects meanwhile, of several times the size."""

Values = Mapping[str, Sequence[object]]
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - dates of rows have no time zone
_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Parameters of the encoding, as plain data; fitted by `ctcd.training.preprocess`.

    Numbers are centred and scaled (a null becomes NaN, which CatBoost handles), a list becomes one count for each entry
    in the contract, and categories are passed on as text, including those that training never saw.

    Args:
        inputs: names of all required columns, in the order of the contract.
        numeric: names of the numeric columns.
        center: value subtracted from each numeric column.
        scale: divisor of each numeric column after that; not 0.
        lists: entries of each list column, by name.
        categorical: names of the categorical columns.
        dates: names of the numeric columns that are dates, which become days since 1970.
    """

    inputs: tuple[str, ...]
    numeric: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    lists: Mapping[str, ListOf]
    categorical: tuple[str, ...]
    dates: tuple[str, ...] = ()

    @cached_property
    def number_names(self) -> list[str]:
        """Names of the numeric features: scaled numbers, then counts of list entries."""
        counts = [f"{name}: {item}" for name, list_of in self.lists.items() for item in list_of.items]
        return [*self.numeric, *counts]

    @cached_property
    def _shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.center, dtype=np.float64), np.array(self.scale, dtype=np.float64)

    def check_columns(self, columns: Container[object]) -> None:
        """Check that all columns of `inputs` are among the given ones.

        Raises:
            UsageError: names the missing columns.
        """
        missing = [name for name in self.inputs if name not in columns]
        if missing:
            raise _missing(missing)

    def encode_frame(self, frame: pd.DataFrame) -> FeaturesData:
        """Return the features of a frame's rows; columns other than `inputs` are ignored.

        Raises:
            UsageError: a column is missing or has values of the wrong type.
        """
        blocks = [
            self._features(*self._of_frame(frame.iloc[start : start + BLOCK_ROWS]))
            for start in range(0, max(len(frame), 1), BLOCK_ROWS)
        ]
        first = blocks[0]
        if len(blocks) == 1:
            return first
        numbers, categories = (
            None if getattr(first, name) is None else np.concatenate([getattr(block, name) for block in blocks])
            for name in ("num_feature_data", "cat_feature_data")
        )
        return FeaturesData(
            num_feature_data=numbers,
            num_feature_names=first.num_feature_names,
            cat_feature_data=categories,
            cat_feature_names=first.cat_feature_names,
        )

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> FeaturesData:
        """Return the features of rows given as mappings; keys other than `inputs` are ignored.

        Raises:
            UsageError: a value is missing (a null must be given as None) or has the wrong type.
        """
        return self._features(*self._of_rows(rows))

    def typed_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame's rows with the columns and types that `Estimator` describes; errors as for `encode_frame`."""
        return self._typed(*self._of_frame(frame))

    def typed_rows(self, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
        """Return the same of rows given as mappings; errors as for `encode_rows`."""
        return self._typed(*self._of_rows(rows))

    def values(self, rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> dict[str, NDArray[Any]]:
        """Return the features of rows as a model sees them, before any scaling, by name; shapes (rows,).

        Numbers are floats, NaN for a null, dates days since 1970, a list the count of each of its entries, and
        categories text, None for a null.

        Raises:
            UsageError: a column is missing or has values of the wrong type.
        """
        if isinstance(rows, pd.DataFrame):
            return dict(self.frame_values(rows))
        numbers, columns = self._of_rows(rows)
        counts = [_counts(name, columns[name], list_of) for name, list_of in self.lists.items()]
        texts = {name: _texts(name, columns[name]) for name in self.categorical}
        return dict(zip(self.number_names, np.hstack([numbers, *counts]).T, strict=True)) | texts

    def frame_values(self, frame: pd.DataFrame) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield what `values` returns for a frame, one column of it after the other; errors as there."""
        self.check_columns(frame.columns)
        for name in self.numeric:
            yield name, frame_numbers(frame, [name], self.dates)[:, 0]
        for name, list_of in self.lists.items():
            counts = _counts(name, _objects(frame, name), list_of)
            yield from zip([f"{name}: {item}" for item in list_of.items], counts.T, strict=True)
        for name in self.categorical:
            yield name, _texts(name, _objects(frame, name))

    def _of_frame(self, frame: pd.DataFrame) -> tuple[NDArray[np.float64], Values]:
        self.check_columns(frame.columns)
        columns = {name: _objects(frame, name) for name in (*self.lists, *self.categorical)}
        return frame_numbers(frame, self.numeric, self.dates), columns

    def _of_rows(self, rows: Sequence[Mapping[str, object]]) -> tuple[NDArray[np.float64], Values]:
        try:
            numbers = self._numbers(rows)
            columns = {name: [row[name] for row in rows] for name in (*self.lists, *self.categorical)}
        except KeyError as error:
            raise _missing(list(error.args)) from error
        return numbers.reshape(len(rows), len(self.numeric)), columns

    def _typed(self, numbers: NDArray[np.float64], columns: Values) -> pd.DataFrame:
        counts = [_counts(name, columns[name], list_of) for name, list_of in self.lists.items()]
        typed = pd.DataFrame(np.hstack([numbers, *counts]), columns=self.number_names)
        for name in self.dates:
            typed[name] = pd.to_datetime(typed[name] * _DAY_MICROSECONDS, unit="us").dt.round("us")
        texts = pd.DataFrame(
            {
                name: pd.Series([_text(name, value) for value in columns[name]], dtype=object)
                for name in self.categorical
            }
        )
        return pd.concat([typed, texts], axis=1) if self.categorical else typed

    def _numbers(self, rows: Sequence[Mapping[str, object]]) -> NDArray[np.float64]:
        values = [self._row_numbers(row) for row in rows]
        with suppress(ValueError):  # raised if a value is a list
            found = np.array(values)
            if found.dtype.kind in "biuf" and found.shape == (len(rows), len(self.numeric)):
                return found.astype(np.float64)
        # Some value is a null, a date, a text or a huge integer: check each one.
        read = [(name, _days if name in self.dates else _number) for name in self.numeric]
        checked = [[number(name, value) for (name, number), value in zip(read, row, strict=True)] for row in values]
        return np.array(checked, dtype=np.float64)

    @cached_property
    def _row_numbers(self) -> Callable[[Mapping[str, object]], Sequence[object]]:
        if len(self.numeric) > 1:
            return itemgetter(*self.numeric)
        return lambda row: [row[name] for name in self.numeric]

    def _features(self, numbers: NDArray[np.float64], columns: Values) -> FeaturesData:
        center, scale = self._shift
        # By column: for two or more rows in the other order, CatBoost starts a thread in each call, and waits for it.
        numeric = np.empty((len(numbers), len(self.number_names)), dtype=np.float32, order="F")
        with np.errstate(over="ignore"):  # overflows to infinity, which trees can compare
            numeric[:, : len(self.numeric)] = (numbers - center) / scale
        place = len(self.numeric)
        for name, list_of in self.lists.items():
            numeric[:, place : (place := place + len(list_of.items))] = _counts(name, columns[name], list_of)
        categories = np.empty((len(numbers), len(self.categorical)), dtype=object, order="F")
        for index, name in enumerate(self.categorical):
            seen = {value: _category(name, value) for value in set(columns[name])}
            categories[:, index] = [seen[value] for value in columns[name]]
        return FeaturesData(
            num_feature_data=numeric if numeric.shape[1] else None,
            num_feature_names=self.number_names if numeric.shape[1] else None,
            cat_feature_data=categories if self.categorical else None,
            cat_feature_names=list(self.categorical) if self.categorical else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as data that can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the encoder from the data of `to_dict`.

        Raises:
            KeyError, TypeError: the data are not those of an encoder.
        """
        return cls(
            inputs=tuple(data["inputs"]),
            numeric=tuple(data["numeric"]),
            center=tuple(data["center"]),
            scale=tuple(data["scale"]),
            lists={
                name: ListOf(**{**list_of, "items": tuple(list_of["items"])}) for name, list_of in data["lists"].items()
            },
            categorical=tuple(data["categorical"]),
            dates=tuple(data.get("dates", ())),  # models of earlier releases have none
        )


def frame_numbers(frame: pd.DataFrame, numeric: Sequence[str], dates: Container[str]) -> NDArray[np.float64]:
    """Return the numeric columns of a frame as floats, NaN for a null; shape (rows, columns).

    Raises:
        UsageError: a column has values of the wrong type.
    """
    numbers = np.empty((len(frame), len(numeric)), dtype=np.float64)
    for index, name in enumerate(numeric):
        column = frame[name]
        if name in dates:
            numbers[:, index] = [_days(name, value) for value in column.astype(object)]
        elif is_numeric_dtype(column.dtype):
            numbers[:, index] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            numbers[:, index] = [_number(name, value) for value in column.astype(object)]
    return numbers


def _objects(frame: pd.DataFrame, name: str) -> list[object]:
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):  # those of the whole frame may be many
        column = column.cat.remove_unused_categories()
    found: list[object] = column.astype(object).where(column.notna(), None).to_list()
    return found


def _texts(name: str, values: Sequence[object]) -> NDArray[Any]:
    return np.array([_text(name, value) for value in values], dtype=object)


def _missing(columns: Sequence[str]) -> UsageError:
    return UsageError(
        f"column {', '.join(columns)} is missing", where="rows to be scored", hint="give every model input"
    )


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    # The message leaves out the value, which may be personal.
    return UsageError(f"column {name} holds a {type(value).__name__} instead of {wanted}", where="rows to be scored")


def _is_null(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)  # noqa: PLR0124 - only NaN differs from itself


def _number(name: str, value: object) -> float:
    if type(value) is float:
        return value
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        try:
            return float(value)
        except OverflowError as error:
            raise UsageError(
                f"column {name} holds a number too large for a float", where="rows to be scored"
            ) from error
    if _is_null(value):
        return np.nan
    raise _wrong(name, value, "a number")


def _days(name: str, value: object) -> float:
    """Return a date, which may be text as in a request, as days since 1970."""
    if value is pd.NaT or _is_null(value):
        return np.nan
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())  # type: ignore[attr-defined] # without such a method it is not a date
        return (moment - _EPOCH) // timedelta(microseconds=1) / _DAY_MICROSECONDS
    except (AttributeError, TypeError, ValueError) as error:
        raise _wrong(name, value, "a date") from error


def _category(name: str, value: object) -> bytes:
    text = _text(name, value)
    # JSON may contain a lone surrogate: an unseen category, not an error.
    return MISSING.encode() if text is None else text.encode("utf-8", "surrogatepass")


def _text(name: str, value: object) -> str | None:
    if isinstance(value, str):
        return value
    if _is_null(value):
        return None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | np.floating) and value.is_integer():  # a frame holds codes as floats beside nulls
        return str(int(value))
    raise _wrong(name, value, "text")


def _counts(name: str, values: Sequence[object], list_of: ListOf) -> NDArray[np.float64]:
    """Return how often each known entry occurs in each list; shape (rows, entries)."""
    place = {item: index for index, item in enumerate(list_of.items)}
    seen = {value: _count(name, value, list_of, place) for value in set(values)}
    return np.array([seen[value] for value in values], dtype=np.float64).reshape(len(values), len(list_of.items))


def _count(name: str, value: object, list_of: ListOf, place: Mapping[str, int]) -> list[int]:
    counts = [0] * len(place)
    if isinstance(value, str):
        for entry in value.split(list_of.separator):
            # Most entries are spelled exactly as in the contract, which saves normalising them.
            index = place[entry] if entry in place else place.get(entry.strip().casefold())
            if index is not None:
                counts[index] += 1
        return counts
    if _is_null(value):
        return counts
    raise _wrong(name, value, "a list in a text")
