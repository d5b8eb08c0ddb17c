"""Conditions over a request's columns, such as `stops > 10 and grade in ("Low", "Fair")`, checked against the contract.

They have the syntax of Python, of which `ast` parses this part and nothing is evaluated: comparisons of a column with
literals, a boolean column, `and`, `or`, `not` and parentheses.
"""

import ast
import operator
import sys
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from ctcd.contract.spec import Column, Contract, Kind
from ctcd.errors import UsageError

Condition = Callable[[Mapping[str, Any]], bool]
"""Says whether a row, by column name, meets it."""

ROW = "row"
"""`row["drive-shaft"]` is the column `drive-shaft`, whose name Python does not take."""

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, among: value in among,
    ast.NotIn: lambda value, among: value not in among,
}
_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
"""How a comparison reads whose literal comes first, as in `18 <= hours`."""
_ORDERED = (Kind.INTEGER, Kind.NUMBER, Kind.DATE)
_NUMBERS = (Kind.INTEGER, Kind.NUMBER)


def condition(text: str, contract: Contract) -> Condition:
    """Return the condition that a text states.

    A value that is missing meets no comparison; `shift is None` asks for it.

    Raises:
        UsageError: the text is no condition, names a column that requests do not have, or compares one with what it
            cannot be; says which.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{text!r} is not a condition of Python's syntax") from error
    try:
        return _Reader({column.name: column for column in contract.request_columns}).read(tree)
    except RecursionError as error:
        raise UsageError(f"{text!r} is nested too deeply") from error


class _Reader:
    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def read(self, node: ast.expr) -> Condition:
        if isinstance(node, ast.BoolOp):
            parts, whole = [self.read(each) for each in node.values], all if isinstance(node.op, ast.And) else any
            return lambda row: whole(part(row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            denied = self.read(node.operand)
            return lambda row: not denied(row)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            pairs = [self._compare(*each) for each in zip(operands, node.ops, operands[1:], strict=False)]
            return lambda row: all(pair(row) for pair in pairs)
        column = self._column(node)
        if column is None or column.kind is not Kind.BOOLEAN:
            raise UsageError(f"{ast.unparse(node)!r} is not a comparison of a column with a literal")
        return lambda row: row[column.name] is True

    def _compare(self, left: ast.expr, how: ast.cmpop, right: ast.expr) -> Condition:
        text, kind = ast.unparse(ast.Compare(left, [how], [right])), type(how)
        column, other = self._column(left), right
        if column is None and kind in _FLIPPED:
            column, other, kind = self._column(right), left, _FLIPPED[kind]
        if column is None:
            raise UsageError(f"{text!r} compares no column")
        name = column.name
        if kind in (ast.Is, ast.IsNot) and isinstance(other, ast.Constant) and other.value is None:
            if not column.nullable:
                raise UsageError(f"{text!r}: {name} is never missing")
            missing = kind is ast.Is
            return lambda row: (row[name] is None) is missing
        if kind not in _COMPARED:
            raise UsageError(f"{text!r}: 'is' is for None")
        if kind in (ast.Lt, ast.LtE, ast.Gt, ast.GtE) and column.kind not in _ORDERED:
            raise UsageError(f"{text!r}: {name} has no order, its values are of kind {column.kind}")
        among = kind in (ast.In, ast.NotIn)
        if among and not (isinstance(other, ast.Tuple | ast.List | ast.Set) and other.elts):
            raise UsageError(f"{text!r}: what comes after 'in' has to be a list of literals")
        literals = [_literal(each, column, text) for each in (other.elts if among else [other])]  # type: ignore[attr-defined] # as was checked
        given, compared = frozenset(literals) if among else literals[0], _COMPARED[kind]
        return lambda row: (value := row[name]) is not None and compared(value, given)

    def _column(self, node: ast.expr) -> Column | None:
        """Return the column that a part of an expression names; None if it is a literal."""
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == ROW:
            name = str(_value(node.slice))
        else:
            return None
        if name not in self._columns:
            raise UsageError(f"{name!r} is not a column of requests, these are: {', '.join(self._columns)}")
        return self._columns[name]


def _literal(node: ast.expr, column: Column, text: str) -> Any:
    """Return a literal that a column may be compared with."""
    value, kind = _value(node), column.kind
    if kind in _NUMBERS or column.coded:
        fits, wanted = (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max,
            "a number",
        )
    elif kind is Kind.BOOLEAN:
        fits, wanted = isinstance(value, bool), "True or False"
    elif kind is Kind.DATE:
        fits, wanted = isinstance(value, str) and _is_day(value), "a day such as '2025-08-31'"
    elif kind is Kind.TIME:
        raise UsageError(f"{text!r}: {column.name} is a time, which can be spelled in several ways")
    else:
        fits, wanted = isinstance(value, str), "text"
    if not fits:
        raise UsageError(f"{text!r}: {column.name} has to be compared with {wanted}, not with {ast.unparse(node)}")
    if column.categories and value not in column.categories:
        known = ", ".join(map(repr, column.categories))
        raise UsageError(f"{text!r}: {value!r} is not a category of {column.name}, these are: {known}")
    return value


def _value(node: ast.expr) -> Any:
    """Return the value of a literal; of anything else a value that fits nothing."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    return node.value if isinstance(node, ast.Constant) else None


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
