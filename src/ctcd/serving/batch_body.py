"""Reads the body of a request at a cost that its size bounds, whatever it contains; that of a batch in pieces."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails, from_json

from ctcd.contract.payload import Payload
from ctcd.serving.http import problems
from ctcd.serving.http.problems import Invalid, NotJson

PIECE_ROWS = 500
"""Rows that are parsed, validated, scored and encoded together; other requests get their turn in between."""
PIECE_BYTES = 1 << 20
"""Bytes that are looked at together, and above which no further row is added to a piece."""
SPARE = 50
"""Values that a row may have beyond its fields, so that it is parsed and its errors are named."""
SMALL = 1_000
"""Commas and brackets up to which a body that is no batch is parsed, so that its errors are named."""

_QUOTE, _COMMA, _LIST, _OBJECT = b'",[{'
_IS_MARK = np.isin(np.arange(256), list(b",[]{}"))
_STEP = np.isin(np.arange(256), list(b"[{")).astype(np.int8) - np.isin(np.arange(256), list(b"]}"))


class BatchBody:
    """Splits bodies `{"data": [row, ...]}` at their rows, which are then parsed a few at a time.

    What no batch has is refused before anything is parsed: more rows, or a row with far more values, than the contract
    allows. Otherwise a body could hold millions of values that need a hundred times its size in memory, and one call of
    the parser could keep every other request waiting.
    """

    def __init__(self, payload: Payload) -> None:
        fields = len(payload.row.model_fields)
        self._max_rows = payload.max_rows
        self._max_row_marks = fields + 1 + SPARE
        # Room for twice as many rows as are allowed, so that their number can be named.
        self._max_marks = 2 * payload.max_rows * (fields + 2)
        # Validates everything but the rows.
        envelope: type[BaseModel] = create_model(
            payload.batch_request.__name__,
            __config__=ConfigDict(extra="forbid", strict=True),
            data=(list[Any], Field(min_length=1, max_length=payload.max_rows)),
        )
        self._envelope = envelope.__pydantic_validator__

    def rows(self, body: bytes) -> Iterator[list[Any]]:
        """Yield the rows of a body in pieces: parsed, but not validated.

        Raises:
            NotJson: it is not JSON.
            Invalid: it is not a batch, or has too many rows or values.
        """
        places, marks = _marks(body, self._max_marks, f"{self._max_rows} rows of the contract")
        step = _STEP[marks]
        depth = np.cumsum(step, dtype=np.int64)  # after each mark
        if len(depth) and (depth[-1] != 0 or depth.min() < 0):
            raise NotJson("its brackets do not match")
        [opened] = np.nonzero((step > 0) & (depth == 2))
        [closed] = np.nonzero((step < 0) & (depth == 1))
        if len(opened) != 1 or marks[0] != _OBJECT or marks[opened[0]] != _LIST:
            # It has another shape than expected, usually because it is no batch.
            if len(marks) > SMALL:
                raise _invalid((), _SHAPE)
            yield self._envelope_of(body)
            return
        [between] = np.nonzero((marks == _COMMA) & (depth == 2))
        if len(between) >= self._max_rows:
            raise _invalid(("data",), f"at most {self._max_rows} rows are allowed, not {len(between) + 1}")
        borders = np.concatenate((opened, between, closed))
        [large] = np.nonzero(np.diff(borders) - 1 > self._max_row_marks)
        if len(large):
            raise _invalid(("data", int(large[0])), f"has far more values than {_FIELDS}")
        if opened[0] > SMALL or len(marks) - closed[0] > SMALL:
            raise _invalid((), _SHAPE)
        places = places[borders]
        if len(between) or body[places[0] + 1 : places[1]].strip():
            try:
                self._envelope_of(body[: places[0]] + b"[0]" + body[places[1 + len(between)] + 1 :])
            except NotJson as error:
                # Its position is one in a body without the rows.
                raise NotJson(f"{error.reason.partition(' at line ')[0]}, before or after the rows") from error
            yield from _pieces(body, places)
        else:
            self._envelope_of(body)  # which says that there are no rows

    def _envelope_of(self, body: bytes) -> list[Any]:
        try:
            rows: list[Any] = self._envelope.validate_json(body).data
        except ValidationError as error:
            raise problems.of_validation(error) from error
        return rows


_FIELDS = "the contract has fields"
_SHAPE = 'must be {"data": [row, ...]}'


def require_one_row(body: bytes, fields: int) -> None:
    """Refuse a body with far more values than `{"data": row}` has, before each of them costs an error.

    Raises:
        NotJson: it is not JSON.
        Invalid: it has.
    """
    most = fields + 3 + SPARE
    if body.count(b",") > most:  # faster, but it counts those in strings as well
        try:
            from_json(body)
        except ValueError as error:
            raise NotJson(str(error)) from error
        _marks(body, most, _FIELDS)


def _marks(body: bytes, most: int, what: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return where commas and brackets are outside of strings, and which; refuse a body with more than `most`."""
    places: list[NDArray[np.int64]] = []
    marks: list[NDArray[np.uint8]] = []
    inside = escaped = False
    found = 0
    for start in range(0, len(body), PIECE_BYTES):
        piece = body[start : start + PIECE_BYTES]
        if escaped:
            piece = b"_" + piece[1:]
        escaped = False
        if b"\\" in piece:
            piece = piece.replace(rb"\\", b"__").replace(rb"\"", b"__")
            escaped = piece.endswith(b"\\")
        codes = np.frombuffer(piece, np.uint8)
        # Whether the number of quotes up to each byte is odd.
        within = (np.cumsum(codes == _QUOTE, dtype=np.uint8) + np.uint8(inside)) & 1
        inside = bool(within[-1])
        [here] = np.nonzero(_IS_MARK[codes] & (within == 0))
        found += len(here)
        if found > most:
            raise _invalid(("data",), f"has far more values than {what}")
        places.append(here + start)
        marks.append(codes[here])
    return np.concatenate(places or [np.empty(0, np.int64)]), np.concatenate(marks or [np.empty(0, np.uint8)])


def _pieces(body: bytes, places: NDArray[np.int64]) -> Iterator[list[Any]]:
    """Yield the rows between some places of a body, parsed."""
    start, count = 0, len(places) - 1
    while start < count:
        fitting = int(np.searchsorted(places, places[start] + PIECE_BYTES, side="right")) - 1
        end = max(start + 1, min(start + PIECE_ROWS, fitting))
        try:
            rows: list[Any] = from_json(b"[" + body[places[start] + 1 : places[end]] + b"]")
        except ValueError as error:
            # Its position is one in the piece.
            raise NotJson(f"{str(error).partition(' at line ')[0]}, in row {start} or after it") from error
        if len(rows) != end - start:
            raise NotJson(f"there is no value between two commas, in row {start} or after it")
        yield rows
        start = end


def _invalid(loc: tuple[int | str, ...], rule: str) -> Invalid:
    return Invalid([ErrorDetails(type="size", loc=loc, msg=rule, input=None)])
