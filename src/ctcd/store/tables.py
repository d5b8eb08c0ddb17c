"""The tables of the feature store, derived from the contract."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from ctcd.contract import spec
from ctcd.contract.spec import Contract, Kind

SOURCE_LENGTH = 500
"""Maximum length of a source's path; a longer one would not fit into the quarantine table's key."""
SUBJECT_LENGTH = REASON_LENGTH = 500
"""Maximum length of a finding's subject, and of the reason why it was closed."""
SERVED_BY_LENGTH = 500
"""Maximum length of the setting `served_by`."""

_TEXT_LENGTH = 255
"""Length of a text column for which the contract sets no limit."""
_CATEGORY_LENGTH = 64
"""Minimum length of a category column, so that a new category rarely requires a migration."""
FEATURE_LENGTH = 255
"""Length of a feature's name in the table of drift: that of a list's entry may be longer, and is cut."""
_INT32 = 2**31 - 1
_OUTSIDE = Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
"""Type of a text that is stored outside its row."""
KEY_BYTES = 3_072
"""Largest primary key of MariaDB."""
_ROW_BYTES = 65_535
"""Largest row of MariaDB, without the texts that are stored outside of it."""
_PAGE_BYTES = 8_126
"""Largest part of a row that InnoDB stores in a page; longer columns leave an address there."""

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",  # case-sensitive, as in SQLite and Python
}
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamp with microseconds, stored in UTC and read as an aware `datetime`."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the dialect's type; MariaDB stores fractions of a second only if asked to."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return the timestamp in UTC, without a time zone.

        Raises:
            ValueError: the timestamp has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a timestamp needs a time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return the timestamp as an aware `datetime` in UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables of one store.

    Args:
        features: one row per key; the personal columns are always NULL.
        labels: one row per key.
        personal: the only table with personal data, one row per key; None if the contract has none.
        snapshot: training snapshots, one row per snapshot date and row key; the event date is that of the label, null
            in rows from before there was this column.
        quarantine: rows that an ingest refused, with the reasons.
        sources: files that were ingested, one row per table and content.
        profiles: profiles of the snapshots that the data monitor accepted.
        scores: batch predictions, one row per key of the features and model.
        performance: metrics of logged predictions against later labels, one row per period and model.
        drift: distance of each column from what a model was trained on, one row per period, model and column.
        findings: what monitors have found, open or closed.
    """

    metadata: MetaData
    features: Table
    labels: Table
    personal: Table | None
    snapshot: Table
    predictions: Table
    quarantine: Table
    sources: Table
    profiles: Table
    scores: Table
    performance: Table
    drift: Table
    findings: Table


@lru_cache(maxsize=8)
def build_tables(contract: Contract) -> Tables:
    """Return the tables of a contract; the same contract gives the same objects."""
    metadata = MetaData(naming_convention=_NAMING)
    keys = contract.keys
    features = _table(
        contract.features_table,
        metadata,
        *(
            _column(c, primary_key=c in keys, nullable=c.nullable or c in contract.personal)
            for c in contract.feature_columns
        ),
    )
    labels = _table(
        contract.labels_table,
        metadata,
        *(_column(c, primary_key=c in keys, nullable=False) for c in contract.label_columns),
    )
    Index(None, labels.c[contract.event_date.name])
    personal = None
    if contract.personal:
        personal = _table(
            contract.personal_table,
            metadata,
            *(_column(c, primary_key=c in keys, nullable=True) for c in (*keys, *contract.personal)),
        )
    snapshot = _table(
        contract.snapshot_table,
        metadata,
        Column(contract.snapshot_date, Date(), primary_key=True),
        *(_column(c, primary_key=True) for c in contract.row_keys),
        *(_column(c) for c in contract.model_inputs),
        _column(contract.label, nullable=False),
        *(_column(c, nullable=True) for c in contract.dated),
    )
    return Tables(
        metadata=metadata,
        features=features,
        labels=labels,
        personal=personal,
        snapshot=snapshot,
        predictions=_predictions(contract, metadata),
        quarantine=_quarantine(contract, metadata),
        sources=_sources(contract, metadata),
        profiles=_profiles(contract, metadata),
        scores=_scores(contract, metadata),
        performance=_performance(contract, metadata),
        drift=_drift(contract, metadata),
        findings=_findings(contract, metadata),
    )


_OF_LOG = (
    "id",
    "features",
    "prediction",
    "confidence",
    "elapsed_ms",
    "created_at",
    "request_id",
    "model_version",
    "run_id",
    "probabilities",
    "contract_version",
    "served_by",
    "variant",
)
"""Columns of every prediction log."""


def log_name(identity: spec.Column) -> str:
    """Return the name, in the prediction log, of the column that identifies a row: the log has columns of its own."""
    return f"row_{identity.name}" if identity.name.lower() in _OF_LOG else identity.name


def _predictions(contract: Contract, metadata: MetaData) -> Table:
    table = _table(
        contract.predictions_table,
        metadata,
        # SQLite increments only a column whose type is exactly INTEGER.
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        *(_column(replace(c, name=log_name(c))) for c in contract.identity),
        Column("features", JSON(), nullable=False),
        Column("prediction", _type(contract.label), nullable=False),
        Column("confidence", Double(), nullable=False),
        Column("elapsed_ms", Double(), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("request_id", String(36), nullable=False),
        Column("model_version", String(64), nullable=False),
        _run_id(),
        *_origin(),
    )
    table.append_constraint(UniqueConstraint(table.c.request_id))
    Index(None, table.c.created_at)
    return table


def _quarantine(contract: Contract, metadata: MetaData) -> Table:
    # `record` holds the cells of the non-personal columns as they are in the source.
    return _table(
        f"{contract.name}_quarantine",
        metadata,
        Column("table_name", String(64), primary_key=True),
        Column("source", String(SOURCE_LENGTH), primary_key=True),
        Column("line", BigInteger(), primary_key=True, autoincrement=False),
        Column("reasons", JSON(), nullable=False),
        Column("record", JSON(), nullable=False),
    )


def _sources(contract: Contract, metadata: MetaData) -> Table:
    return _table(
        f"{contract.name}_sources",
        metadata,
        Column("table_name", String(64), primary_key=True),
        Column("sha256", String(64), primary_key=True),
        Column("source", String(SOURCE_LENGTH), nullable=False),
        Column("read_rows", BigInteger(), nullable=False),
        Column("written_rows", BigInteger(), nullable=False),
        Column("ingested_at", UtcDateTime(), nullable=False),
    )


def _profiles(contract: Contract, metadata: MetaData) -> Table:
    return _table(
        f"{contract.name}_snapshot_profile",
        metadata,
        Column("day", Date(), primary_key=True),
        Column("profile", JSON(), nullable=False),
    )


def _scores(contract: Contract, metadata: MetaData) -> Table:
    return _table(
        f"{contract.name}_batch_scores",
        metadata,
        *(_column(c, primary_key=True) for c in contract.keys),
        Column("model_version", String(64), primary_key=True),
        _run_id(primary_key=True),
        Column("prediction", _type(contract.label), nullable=False),
        Column("confidence", Double(), nullable=False),
        Column("scored_at", UtcDateTime(), nullable=False),
        *_origin(),
    )


def _performance(contract: Contract, metadata: MetaData) -> Table:
    return _table(
        f"{contract.name}_performance",
        metadata,
        Column("period", String(8), primary_key=True),
        Column("first_day", Date(), primary_key=True),
        Column("model_version", String(64), primary_key=True),
        _run_id(primary_key=True),
        Column("last_day", Date(), nullable=False),
        Column("predictions", BigInteger(), nullable=False),
        Column("labelled", BigInteger(), nullable=False),
        Column("accuracy", Double(), nullable=True),
        Column("macro_f1", Double(), nullable=True),
        Column("recall", JSON(), nullable=False),
        Column("confusion", JSON(), nullable=False),
        *(
            Column(name, Double(), nullable=True)
            for name in (
                "completeness",
                "accuracy_low",
                "accuracy_high",
                "macro_f1_low",
                "macro_f1_high",
                "estimated_accuracy",
                "estimated_macro_f1",
                "accuracy_error",
                "macro_f1_error",
            )
        ),
        Column("recall_interval", JSON(), nullable=True),
        Column("slices", JSON(), nullable=True),
        Column("counts", JSON(), nullable=True),
        Column("computed_at", UtcDateTime(), nullable=False),
    )


def _drift(contract: Contract, metadata: MetaData) -> Table:
    return _table(
        f"{contract.name}_drift",
        metadata,
        Column("period", String(8), primary_key=True),
        Column("first_day", Date(), primary_key=True),
        Column("source", String(16), primary_key=True),
        Column("model_version", String(64), primary_key=True),
        _run_id(primary_key=True),
        Column("feature", String(FEATURE_LENGTH), primary_key=True),
        Column("last_day", Date(), nullable=False),
        Column("rows", BigInteger(), nullable=False),
        Column("effective_rows", Double(), nullable=False),
        Column("psi", Double(), nullable=True),
        Column("distance", Double(), nullable=True),
        Column("distance_limit", Double(), nullable=True),
        Column("missing", Double(), nullable=False),
        Column("reference_missing", Double(), nullable=False),
        Column("unseen", Double(), nullable=True),
        Column("reference_unseen", Double(), nullable=True),
        Column("drifted", JSON(), nullable=False),
        Column("computed_at", UtcDateTime(), nullable=False),
    )


def _findings(contract: Contract, metadata: MetaData) -> Table:
    table = _table(
        f"{contract.name}_findings",
        metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        Column("kind", String(16), nullable=False),
        Column("subject", String(SUBJECT_LENGTH), nullable=False),
        # True, or NULL once it is closed: a unique key may hold NULL many times, and one of equal findings is open.
        Column("is_open", Boolean(), nullable=True),
        Column("evidence", JSON(), nullable=False),
        Column("day", Date(), nullable=False),
        Column("last_seen", Date(), nullable=False),
        Column("raised_at", UtcDateTime(), nullable=False),
        Column("trained_on", Date(), nullable=True),
        Column("closed_on", Date(), nullable=True),
        Column("closed_by", String(REASON_LENGTH), nullable=True),
        Column("reason", String(REASON_LENGTH), nullable=True),
    )
    # Named, because a name made of its columns would be too long for some contracts.
    table.append_constraint(UniqueConstraint(table.c.kind, table.c.subject, table.c.is_open, name=f"uq_{table.name}"))
    return table


def _run_id(*, primary_key: bool = False) -> Column[Any]:
    # Identifies a model: version numbers start again when a registered model is deleted and made again. Empty in rows
    # from before there was this column, and in those of a service of that time that is still running.
    return Column("run_id", String(64), primary_key=primary_key, nullable=False, server_default="")


def _origin() -> list[Column[Any]]:
    # Null in rows from before there were these columns.
    return [
        Column("probabilities", JSON(none_as_null=True), nullable=True),
        Column("contract_version", String(64), nullable=True),
        Column("served_by", String(SERVED_BY_LENGTH), nullable=True),
        Column("variant", String(64), nullable=True),
    ]


def _table(name: str, metadata: MetaData, *columns: Column[Any]) -> Table:
    texts = sorted((c for c in columns if _length(c) and not c.primary_key), key=_length)
    while texts and not _fits(columns):
        texts.pop().type = _OUTSIDE
    return Table(name, metadata, *columns, **_OPTIONS)


def _fits(columns: Sequence[Column[Any]]) -> bool:
    row = page = len(columns) // 8 + 24  # bits for nulls, and a header
    for column in columns:
        outside = column.type is _OUTSIDE or isinstance(column.type, JSON)
        row += 12 if outside else _bytes(column) + 2
        page += 21 if outside or _bytes(column) > 255 else _bytes(column) + 1
    return row <= _ROW_BYTES and page <= _PAGE_BYTES


def _bytes(column: Column[Any]) -> int:
    """Return the most that a value takes: up to 4 bytes for each character, 8 for what is no text."""
    return 4 * _length(column) or 8


def _length(column: Column[Any]) -> int:
    return column.type.length or 0 if isinstance(column.type, String) else 0


def long_keys(tables: Tables) -> dict[str, tuple[Column[Any], int]]:
    """Return, of each table whose primary key is too large for MariaDB, the longest column of the key and the key's bytes."""
    sizes = {table.name: {each: _bytes(each) for each in table.primary_key} for table in tables.metadata.sorted_tables}
    return {
        name: (max(key, key=key.__getitem__), sum(key.values()))
        for name, key in sizes.items()
        if sum(key.values()) > KEY_BYTES
    }


def _column(column: spec.Column, *, primary_key: bool = False, nullable: bool | None = None) -> Column[Any]:
    return Column(
        column.name,
        _type(column),
        primary_key=primary_key,
        autoincrement=False if primary_key else "auto",
        nullable=not primary_key and (column.nullable if nullable is None else nullable),
    )


def _type(column: spec.Column) -> TypeEngine[Any]:
    simple: dict[Kind, TypeEngine[Any]] = {
        Kind.DATE: Date(),
        Kind.TIME: DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql"),
        Kind.NUMBER: Double(),  # FLOAT would lose precision
        Kind.BOOLEAN: Boolean(),
    }
    if column.kind in simple:
        return simple[column.kind]
    if column.kind is Kind.INTEGER or column.coded:
        bounds = column.categories if column.coded else (column.minimum, column.maximum)
        narrow = all(bound is not None and abs(int(bound)) <= _INT32 for bound in bounds or ())
        return Integer() if narrow else BigInteger()
    if column.max_length is not None:
        return String(column.max_length)
    if column.categories:
        return String(max(_CATEGORY_LENGTH, *map(len, map(str, column.categories))))
    return String(_TEXT_LENGTH)
