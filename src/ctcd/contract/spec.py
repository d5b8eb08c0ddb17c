"""A contract as data, so that no stage has to name a column."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import pandera.pandas as pa
import pydantic.dataclasses
from pandera.api.dataframe.model_components import FieldInfo

from ctcd.contract.columns import KEYS, METADATA_KEY, STRICT, Promise, Role
from ctcd.errors import UsageError


class Kind(StrEnum):
    """The kind of a column's values."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    """Text or a whole number that names a class, from a closed or an open set."""
    LIST = "list"
    TEXT = "text"
    DATE = "date"
    TIME = "time"
    """A date with a time of day, without a time zone."""


@dataclass(frozen=True, kw_only=True)
class Column(Promise):
    """One column of a contract: what `column` declared, with its name and the kind of its values.

    Args:
        written: the kind of its values in raw tables; a category may be written as integer or boolean.
        filled: whether ingest fills it, so that no raw table has it.
    """

    name: str
    kind: Kind
    written: Kind
    filled: bool = False

    @property
    def coded(self) -> bool:
        """Whether its values are whole numbers that name categories; a label is text wherever it is stored."""
        return self.kind is Kind.CATEGORY and self.written is Kind.INTEGER and self.role is not Role.LABEL


@dataclass(frozen=True)
class RowRule:
    """A rule over several columns of a row; rows of the store have to satisfy it, a request need not."""

    name: str
    meaning: str


_WRITTEN = {
    r"u?int\d+": Kind.INTEGER,
    r"float\d+": Kind.NUMBER,
    r"bool(ean)?": Kind.BOOLEAN,
    r"datetime64(\[\w+\])?": Kind.DATE,
    r"str|string(\[.*\])?": Kind.TEXT,
}
"""Data types of pandera, and how their values are written."""
_WITH_NULLS = {"int": "pd.Int64Dtype", "uint": "pd.Int64Dtype", "bool": "pd.BooleanDtype"}
"""Data types that cannot hold a null, without their size, and the ones to use instead, except for a label: that is
stored as text."""


def read_columns(model: type[pa.DataFrameModel]) -> tuple[Column, ...]:
    """Return the columns of a pandera model, in the order in which they are declared.

    Raises:
        UsageError: a column was not declared with `column`, has the name of another, has a type that no raw table can
            hold, or is nullable with a type that cannot hold a null.
    """
    # Of two attributes with one name pandera keeps the last: the other column would be missing without a word.
    attributes = {name: field for each in reversed(model.__mro__) for name, field in vars(each).items()}
    declared = Counter(field.name for field in attributes.values() if isinstance(field, FieldInfo))
    for name, count in declared.items():
        if count > 1:
            raise UsageError(
                f"{count} attributes have this name",
                where=f"{model.__name__}.{name}",
                hint="rename one, or give it alias=",
            )
    try:
        schema = model.to_schema()
    except Exception as error:  # it may raise anything about what a person wrote
        reason = " ".join(str(error).split())
        raise UsageError(f"pandera cannot read it: {type(error).__name__}: {reason}", where=model.__name__) from error
    columns = []
    for name, field in schema.columns.items():
        promise, where = (field.metadata or {}).get(METADATA_KEY), f"{model.__name__}.{name}"
        if not isinstance(promise, Promise):
            raise UsageError("is not declared with ctcd.contract.column()", where=where)
        dtype = str(field.dtype).lower()
        written = next((kind for types, kind in _WRITTEN.items() if re.fullmatch(types, dtype)), None)
        if written is None:
            raise UsageError(
                f"the type {field.dtype} is not supported",
                where=where,
                hint="use int, float, bool, str or pa.DateTime; of nullable ones pd.Int64Dtype or pd.BooleanDtype",
            )
        holding = _WITH_NULLS.get(str(field.dtype).rstrip("0123456789"))
        if holding and promise.nullable and promise.role is not Role.LABEL:
            raise UsageError(f"the type {field.dtype} cannot hold a null: use {holding}", where=where)
        columns.append(_column(str(name), written, promise))
    return tuple(columns)


def _column(name: str, written: Kind, promise: Promise) -> Column:
    facts = vars(promise)
    if promise.role is Role.LABEL:
        classes = promise.categories or ((False, True) if written is Kind.BOOLEAN else None)
        facts = facts | {"categories": classes and tuple(map(category_text, classes))}
    if written is Kind.DATE and promise.time_of_day:
        written = Kind.TIME
    return Column(name=name, kind=_kind(written, promise), written=written, **facts)


def _kind(written: Kind, promise: Promise) -> Kind:
    if promise.list_of is not None:
        return Kind.LIST
    if promise.role is Role.LABEL or (written is Kind.INTEGER and promise.categories):
        return Kind.CATEGORY
    if written is Kind.TEXT and promise.role is Role.FEATURE:
        return Kind.CATEGORY
    return written


def category_text(value: object) -> str:
    """Return a category as text: true and false as JSON spells them, whole numbers in digits."""
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


ROW_NUMBER, INGESTED_ON = "row_number", "ingested_on"
"""Columns of a contract that has no key, and of one that has no event date."""


_ROW_NUMBER = Column(
    name=ROW_NUMBER,
    kind=Kind.INTEGER,
    written=Kind.INTEGER,
    filled=True,
    role=Role.KEY,
    meaning="number of the row in its file, from 1",
    unit="1",
    minimum=1,
    example=1,
)
_INGESTED_ON = Column(
    name=INGESTED_ON,
    kind=Kind.DATE,
    written=Kind.DATE,
    filled=True,
    role=Role.EVENT_DATE,
    meaning="day of the ingest",
    unit="ISO 8601 date",
    example="2025-01-01",
)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Contract:
    """The data contract of one model service.

    Of the roles, a contract needs a label and at least one feature. A key, a group and an event date that it does not
    declare have the defaults that `Role` states.

    Args:
        name: name of the service, from which the names of tables, DAGs, the registered model and images are derived.
        version: semantic version of the contract.
        features: pandera model of the feature table's rows.
        labels: pandera model of the label table's rows, with the same keys as `features`; None if the raw feature table
            has the label too, which ingest then moves to the label table.
        features_table: name of the feature table in the store.
        labels_table: name of the label table; by default that of the contract with `_labels`.
        personal_table: name of the only table that holds personal data; without personal columns there is none.
        snapshot_table: name of the table of training snapshots.
        predictions_table: name of the prediction log.
        snapshot_date: name of the snapshot table's date column.
        max_quarantine_share: largest share of a delivery's rows, 0 to 1, that may be quarantined.
        draft: what `ctcd init` could not know about the whole and a person has to confirm; empty once that is done.
    """

    name: str
    version: str
    features: type[pa.DataFrameModel]
    labels: type[pa.DataFrameModel] | None = None
    features_table: str
    labels_table: str = ""
    personal_table: str = ""
    snapshot_table: str
    predictions_table: str
    snapshot_date: str
    max_quarantine_share: float
    draft: str = ""

    def __post_init__(self) -> None:
        """Complete the names of the tables."""
        if not self.labels_table:
            object.__setattr__(self, "labels_table", f"{self.name}_labels")

    @property
    def slug(self) -> str:
        """The name for images, containers and Kubernetes objects, with hyphens in place of underscores."""
        return self.name.replace("_", "-")

    @cached_property
    def declared(self) -> tuple[Column, ...]:
        """The columns of the raw feature table."""
        return read_columns(self.features)

    @cached_property
    def declared_labels(self) -> tuple[Column, ...]:
        """The columns of the raw label table; none if the raw feature table has the label."""
        return read_columns(self.labels) if self.labels else ()

    @cached_property
    def filled(self) -> tuple[Column, ...]:
        """The columns that ingest fills, because the contract does not declare a column of their role."""
        return tuple(each for each in (_ROW_NUMBER, _INGESTED_ON) if not _with_role(self.declared, each.role))

    @cached_property
    def feature_columns(self) -> tuple[Column, ...]:
        """All columns of the feature table: keys, personal data and features."""
        return (*self.filled, *(column for column in self.declared if column.role is not Role.LABEL))

    @cached_property
    def label_columns(self) -> tuple[Column, ...]:
        """All columns of the label table: keys and the label."""
        if self.labels:
            return (*self.filled, *self.declared_labels)
        return (*_with_role(self.feature_columns, *KEYS), self.label)

    @cached_property
    def keys(self) -> tuple[Column, ...]:
        """Columns that identify a row of the store: key, group and event date.

        The day of an ingest is not one of them, so that a row that is ingested again replaces itself.
        """
        return tuple(each for each in _with_role(self.feature_columns, *KEYS) if each is not _INGESTED_ON)

    @cached_property
    def row_keys(self) -> tuple[Column, ...]:
        """Columns that identify a row within one snapshot: key and group."""
        return _with_role(self.feature_columns, Role.KEY, Role.GROUP)

    @cached_property
    def key(self) -> Column:
        """The column that tells rows apart; without one, the row number that ingest fills in."""
        return _only(_with_role(self.feature_columns, Role.KEY))

    @cached_property
    def group(self) -> Column:
        """The column with the entity that a row describes; without one, the key."""
        return _only(_with_role(self.feature_columns, Role.GROUP) or (self.key,))

    @cached_property
    def identity(self) -> tuple[Column, ...]:
        """The group, which requests and answers have too; nothing if ingest numbers the rows, as a request has no number."""
        return () if self.group.filled else (self.group,)

    @cached_property
    def request_columns(self) -> tuple[Column, ...]:
        """The columns of a request: the group and the features."""
        return (*self.identity, *self.model_inputs)

    @cached_property
    def event_date(self) -> Column:
        """The column with the date that a row describes; without one, the day of its ingest."""
        return _only(_with_role(self.feature_columns, Role.EVENT_DATE))

    @cached_property
    def dated(self) -> tuple[Column, ...]:
        """The event date if rows have one; nothing if it is only the day of their ingest."""
        return () if self.event_date.filled else (self.event_date,)

    @cached_property
    def label(self) -> Column:
        """The column that the model predicts; its categories are text, whatever they are in the raw table."""
        return _only(_with_role(self.declared_labels if self.labels else self.declared, Role.LABEL))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The label's classes, in the order of every probability vector."""
        if not self.label.categories:
            raise TypeError(f"{self.label.name}: a label needs categories")
        return tuple(map(str, self.label.categories))

    @cached_property
    def personal(self) -> tuple[Column, ...]:
        """Columns with personal data."""
        return _with_role(self.feature_columns, Role.PERSONAL)

    @cached_property
    def model_inputs(self) -> tuple[Column, ...]:
        """The features, in the order in which the model takes them."""
        return _with_role(self.feature_columns, Role.FEATURE)

    @cached_property
    def drafts(self) -> tuple[tuple[str, str], ...]:
        """What is still a draft: the column, or "contract", and what a person has to confirm about it."""
        columns = {column.name: column.draft for column in (*self.feature_columns, *self.label_columns)}
        return tuple((name, draft) for name, draft in {"contract": self.draft, **columns}.items() if draft)

    @cached_property
    def row_rules(self) -> tuple[RowRule, ...]:
        """The feature model's rules over several columns."""
        return tuple(RowRule(str(check.name), str(check.description)) for check in self.features.to_schema().checks)


def _with_role(columns: Iterable[Column], *roles: Role) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.role in roles)


def _only(columns: tuple[Column, ...]) -> Column:
    if len(columns) != 1:
        raise TypeError(f"a contract needs exactly one such column, not {[column.name for column in columns]}")
    return columns[0]


def names(columns: Iterable[Column]) -> list[str]:
    """Return the names of columns, in their order."""
    return [column.name for column in columns]
