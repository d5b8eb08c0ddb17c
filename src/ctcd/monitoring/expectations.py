"""The Great Expectations suite of a training snapshot, derived from the contract and from the last accepted snapshot.

The database can evaluate every rule by counting, averaging or matching, without sending rows. Rules over several
columns are not part of the suite: they are Python code, and `ctcd validate` checks them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy import Dialect

from ctcd.contract.spec import Column, Contract, Kind, names
from ctcd.errors import number_of
from ctcd.monitoring.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

_NUMERIC = (Kind.INTEGER, Kind.NUMBER)
_ROUNDING = 1e-9
"""Relative rounding error added to every tolerance, so that a constant column equals itself."""


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """Statistics of a numeric column, in its unit.

    Args:
        spread: population standard deviation.
        median: median; of an even number of values, the mean of the middle two.
    """

    mean: float
    spread: float
    median: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Statistics of an accepted snapshot.

    Args:
        shares: share of the rows, 0 to 1, by class.
        present: share of non-null values, 0 to 1, by nullable column.
        numbers: statistics by numeric column, of columns with values.
    """

    day: date
    rows: int
    shares: dict[str, float]
    present: dict[str, float]
    numbers: dict[str, ColumnProfile]

    def to_json(self) -> dict[str, Any]:
        """Return everything except the day as JSON data."""
        return {name: value for name, value in asdict(self).items() if name != "day"}

    @classmethod
    def from_json(cls, day: date, document: dict[str, Any]) -> Self:
        """Return the profile from the output of `to_json`."""
        numbers = {name: ColumnProfile(**values) for name, values in document["numbers"].items()}
        return cls(day=day, **{**document, "numbers": numbers})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule about a snapshot.

    Args:
        column: the column; empty for a rule about the table.
        rule: the rule in words.
        limit: its limits in words.
        compares: whether it compares with the accepted snapshot.
        expectation: the rule as a Great Expectations expectation; None if there is nothing to compare with.
    """

    column: str
    rule: str
    limit: str
    compares: bool = False
    expectation: "Expectation | None" = None


def numeric_columns(contract: Contract) -> tuple[Column, ...]:
    """Return the numeric features."""
    return tuple(column for column in contract.model_inputs if column.kind in _NUMERIC)


def nullable_columns(contract: Contract) -> tuple[Column, ...]:
    """Return the nullable features."""
    return tuple(column for column in contract.model_inputs if column.nullable)


def share_column(contract: Contract, name: str) -> str:
    """Return the name of the column of `snapshot_query` that is 1 for rows of a class, else 0."""
    return f"{contract.label.name} is {name}"


def snapshot_query(contract: Contract, day: date, dialect: Dialect) -> str:
    """Return the SQL query of a snapshot: all its columns, and one more for each class.

    All columns are selected, so that a column missing from the contract is detected.
    """
    # SQLAlchemy parses the text again: the "named" style doubles no percent signs, and colons are escaped below.
    plain = type(dialect)(paramstyle="named")  # type: ignore[call-arg]  # every dialect of SQLAlchemy takes it
    snapshot = sa.table(contract.snapshot_table, sa.column(contract.snapshot_date), sa.column(contract.label.name))
    label = snapshot.c[contract.label.name]
    query = sa.select(
        sa.text(f"{plain.identifier_preparer.quote(contract.snapshot_table)}.*"),
        *(
            sa.case((label == name, sa.literal_column("1")), else_=sa.literal_column("0")).label(
                share_column(contract, name)
            )
            for name in contract.classes
        ),
    ).where(snapshot.c[contract.snapshot_date] == day.isoformat())
    compiled = query.select_from(snapshot).compile(dialect=plain, compile_kwargs={"literal_binds": True})
    return str(compiled).replace(":", "\\:")


def snapshot_rules(
    contract: Contract, tolerances: Tolerances, base_dt: date, accepted: Profile | None
) -> tuple[Rule, ...]:
    """Return all rules for the snapshot that is needed for a day; `accepted` is None if there is none yet."""
    return (
        *_of_table(contract, tolerances, base_dt),
        *(rule for column in (*contract.row_keys, *contract.model_inputs, contract.label) for rule in _of(column)),
        *_of_classes(contract, tolerances),
        *_comparisons(contract, tolerances, accepted),
    )


def _of_table(contract: Contract, tolerances: Tolerances, base_dt: date) -> Iterator[Rule]:
    import great_expectations.expectations as gxe

    yield Rule(
        column="",
        rule="there are rows",
        limit="at least 1",
        expectation=gxe.ExpectTableRowCountToBeBetween(min_value=1),
    )
    columns = [contract.snapshot_date, *names((*contract.row_keys, *contract.model_inputs, contract.label))]
    columns += names(contract.dated)
    yield Rule(
        column="",
        rule="the columns are those of the contract",
        limit=number_of(len(columns), "column"),
        expectation=gxe.ExpectTableColumnsToMatchSet(
            column_set=[*columns, *(share_column(contract, name) for name in contract.classes)], exact_match=True
        ),
    )
    keys = [contract.snapshot_date, *names(contract.row_keys)]
    yield Rule(
        column=", ".join(keys),
        rule="no two rows have the same keys",
        limit="unique",
        expectation=gxe.ExpectCompoundColumnsToBeUnique(column_list=keys),
    )
    days = [(base_dt - timedelta(days=back)).isoformat() for back in range(tolerances.max_age_days + 1)]
    yield Rule(
        column=contract.snapshot_date,
        rule="the newest snapshot is fresh",
        limit=days[0] if len(days) == 1 else f"{days[-1]} to {days[0]}",
        expectation=gxe.ExpectColumnValuesToBeInSet(column=contract.snapshot_date, value_set=days),
    )


def _of(column: Column) -> Iterator[Rule]:
    import great_expectations.expectations as gxe

    name = column.name
    if not column.nullable:
        yield Rule(
            column=name,
            rule="is not missing",
            limit="no missing value",
            expectation=gxe.ExpectColumnValuesToNotBeNull(column=name),
        )
    if column.minimum is not None or column.maximum is not None:
        yield Rule(
            column=name,
            rule="is within its bounds",
            limit=_between(column.minimum, column.maximum),
            expectation=gxe.ExpectColumnValuesToBeBetween(
                column=name, min_value=column.minimum, max_value=column.maximum
            ),
        )
    if column.categories:
        yield Rule(
            column=name,
            rule="is a known category",
            limit=f"one of {', '.join(map(str, column.categories))}",
            expectation=gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(column.categories)),
        )
    if column.categories and not column.coded:
        # MariaDB treats "a" and "a " as equal; a model does not.
        yield Rule(
            column=name,
            rule="does not end in a blank",
            limit="no blank at the end",
            expectation=gxe.ExpectColumnValuesToNotMatchRegex(column=name, regex=" $"),
        )
    if column.pattern is not None:
        # Python and MariaDB interpret this the same way; MariaDB's \Z would accept a line break at the end.
        yield Rule(
            column=name,
            rule="has known entries only" if column.list_of else "is spelled as the contract says",
            limit=f"entries of {', '.join(column.list_of.items)}" if column.list_of else f"pattern {column.pattern}",
            expectation=gxe.ExpectColumnValuesToMatchRegex(column=name, regex=rf"^(?:{column.pattern})(?![\s\S])"),
        )
    if column.max_length is not None:
        # With a pattern, because MariaDB's length is in bytes.
        yield Rule(
            column=name,
            rule="is not too long",
            limit=f"at most {column.max_length} characters",
            expectation=gxe.ExpectColumnValuesToNotMatchRegex(
                column=name, regex=rf"^[\s\S]{{{column.max_length + 1}}}"
            ),
        )


def _of_classes(contract: Contract, tolerances: Tolerances) -> Iterator[Rule]:
    import great_expectations.expectations as gxe

    for name in contract.classes:
        yield Rule(
            column=contract.label.name,
            rule=f"class {name} can be learned",
            limit=f"share at least {tolerances.min_class_share:g}",
            expectation=gxe.ExpectColumnMeanToBeBetween(
                column=share_column(contract, name), min_value=tolerances.min_class_share, max_value=1
            ),
        )


def _comparisons(contract: Contract, tolerances: Tolerances, accepted: Profile | None) -> Iterator[Rule]:
    import great_expectations.expectations as gxe

    then = accepted or Profile(day=date.min, rows=0, shares={}, present={}, numbers={})
    rows = (math.ceil(tolerances.min_row_ratio * then.rows), math.floor(tolerances.max_row_ratio * then.rows))
    yield _compared("", "rows", rows if then.rows else None, gxe.ExpectTableRowCountToBeBetween)
    for name in contract.classes:
        bounds = _around(then.shares.get(name), tolerances.class_share)
        yield _compared(
            contract.label.name,
            f"share of class {name}",
            bounds,
            partial(gxe.ExpectColumnMeanToBeBetween, column=share_column(contract, name)),
        )
    for column in nullable_columns(contract):
        bounds = _around(then.present.get(column.name), tolerances.null_share)
        yield _compared(
            column.name,
            "share of values that are there",
            bounds and (max(0.0, bounds[0]), min(1.0, bounds[1])),
            partial(gxe.ExpectColumnProportionOfNonNullValuesToBeBetween, column=column.name),
        )
    for column in numeric_columns(contract):
        known = then.numbers.get(column.name)
        for what, width, kind in (
            ("mean", tolerances.mean, gxe.ExpectColumnMeanToBeBetween),
            ("median", tolerances.median, gxe.ExpectColumnMedianToBeBetween),
        ):
            bounds = _around(getattr(known, what), width * known.spread) if known else None
            yield _compared(column.name, what, bounds, partial(kind, column=column.name))


def _compared(
    column: str, what: str, bounds: tuple[float, float] | None, expectation: "Callable[..., Expectation]"
) -> Rule:
    return Rule(
        column=column,
        rule=f"{what} as in the last accepted snapshot",
        limit="" if bounds is None else _between(*bounds),
        compares=True,
        expectation=None if bounds is None else expectation(min_value=bounds[0], max_value=bounds[1]),
    )


def _around(centre: float | None, width: float) -> tuple[float, float] | None:
    if centre is None:
        return None
    width += _ROUNDING * max(1.0, abs(centre))
    return centre - width, centre + width


def _between(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {_number(high or 0)}" if low is None else f"at least {_number(low)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
