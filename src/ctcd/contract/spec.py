"""A contract as data, so that no stage has to name a column."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import pandera.pandas as pa

from ctcd.contract.columns import METADATA_KEY, Promise, Role


class Kind(StrEnum):
    """The kind of a column's values."""

    INTEGER = "integer"
    NUMBER = "number"
    CATEGORY = "category"
    """Text that names a class, from a closed or an open set."""
    LIST = "list"
    TEXT = "text"
    DATE = "date"


@dataclass(frozen=True, kw_only=True)
class Column(Promise):
    """One column of a contract: what `column` declared, with its name and the kind of its values."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class RowRule:
    """A rule over several columns of a row; rows of the store have to satisfy it, a request need not."""

    name: str
    meaning: str


def _kind(dtype: str, promise: Promise) -> Kind:
    if promise.list_of is not None:
        return Kind.LIST
    if dtype.startswith("datetime"):
        return Kind.DATE
    if dtype.startswith("int"):
        return Kind.INTEGER
    if dtype.startswith("float"):
        return Kind.NUMBER
    return Kind.CATEGORY if promise.role in (Role.FEATURE, Role.LABEL) else Kind.TEXT


def read_columns(model: type[pa.DataFrameModel]) -> tuple[Column, ...]:
    """Return the columns of a pandera model, in the order in which they are declared.

    Raises:
        TypeError: a column was not declared with `column`.
    """
    columns = []
    for name, field in model.to_schema().columns.items():
        promise = (field.metadata or {}).get(METADATA_KEY)
        if not isinstance(promise, Promise):
            raise TypeError(f"{model.__name__}.{name}: declare it with ctcd.contract.columns.column()")
        columns.append(Column(name=str(name), kind=_kind(str(field.dtype), promise), **vars(promise)))
    return tuple(columns)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The data contract of one model service.

    Args:
        name: name of the service, from which the names of tables, DAGs, the registered model and images are derived.
        version: semantic version of the contract.
        features: pandera model of the feature table's rows.
        labels: pandera model of the label table's rows; has the same keys as `features`.
        features_table: name of the feature table in the store.
        labels_table: name of the label table.
        personal_table: name of the only table that holds personal data.
        snapshot_table: name of the table of training snapshots.
        predictions_table: name of the prediction log.
        snapshot_date: name of the snapshot table's date column.
        max_quarantine_share: largest share of a delivery's rows, 0 to 1, that may be quarantined.
        draft: what `ctcd init` could not know about the whole and a person has to confirm; empty once that is done.
    """

    name: str
    version: str
    features: type[pa.DataFrameModel]
    labels: type[pa.DataFrameModel]
    features_table: str
    labels_table: str
    personal_table: str
    snapshot_table: str
    predictions_table: str
    snapshot_date: str
    max_quarantine_share: float
    draft: str = ""

    @property
    def slug(self) -> str:
        """The name for images, containers and Kubernetes objects, with hyphens in place of underscores."""
        return self.name.replace("_", "-")

    @cached_property
    def feature_columns(self) -> tuple[Column, ...]:
        """All columns of the feature table: keys, personal data and features."""
        return read_columns(self.features)

    @cached_property
    def label_columns(self) -> tuple[Column, ...]:
        """All columns of the label table: keys and the label."""
        return read_columns(self.labels)

    @cached_property
    def keys(self) -> tuple[Column, ...]:
        """Columns that identify a row of the store: key, group and event date."""
        return _with_role(self.feature_columns, Role.KEY, Role.GROUP, Role.EVENT_DATE)

    @cached_property
    def row_keys(self) -> tuple[Column, ...]:
        """Columns that identify a row within one snapshot: key and group."""
        return _with_role(self.feature_columns, Role.KEY, Role.GROUP)

    @cached_property
    def key(self) -> Column:
        """The column with the record number."""
        return _only(_with_role(self.feature_columns, Role.KEY))

    @cached_property
    def group(self) -> Column:
        """The column with the entity that a row describes."""
        return _only(_with_role(self.feature_columns, Role.GROUP))

    @cached_property
    def event_date(self) -> Column:
        """The column with the date that a row describes."""
        return _only(_with_role(self.feature_columns, Role.EVENT_DATE))

    @cached_property
    def label(self) -> Column:
        """The column that the model predicts."""
        return _only(_with_role(self.label_columns, Role.LABEL))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The label's classes, in the order of every probability vector."""
        if not self.label.categories:
            raise TypeError(f"{self.label.name}: a label needs categories")
        return self.label.categories

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
