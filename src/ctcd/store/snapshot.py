"""Training snapshots: the labelled rows of a day, with the features known by the date of their label."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd
from pandas.api.types import union_categoricals
from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    Delete,
    Engine,
    Insert,
    Integer,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql.elements import Over
from sqlalchemy.types import Date

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import Contract, names
from ctcd.errors import NotFound
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import Tables, build_tables


@dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """The content of a snapshot.

    Args:
        base_dt: date of the snapshot, ISO 8601.
        window_start: first date of the label window, which ends at `base_dt`.
        deleted: number of deleted rows, of expired snapshots and of an earlier snapshot of the same day.
        shares: share of each class, 0 to 1, in the contract's order.
    """

    base_dt: str
    window_start: str
    rows: int
    groups: int
    deleted: int
    shares: dict[str, float]


_DAY, _FIRST, _EXPIRED = "snapshot_day", "first_label_day", "last_expired_day"
"""Names of the statements' parameters; no column may have one of them."""
_ONE = literal_column("1", Integer())
CHUNK_ROWS = 20_000
"""Rows of a snapshot that are in memory as Python objects at once."""


@dataclass(frozen=True, kw_only=True)
class SnapshotStatements:
    """The statements that take a snapshot, to be run in this order in one transaction, with `snapshot_parameters`.

    The first deletes expired snapshots and an earlier one of the day, the second inserts the rows, the third counts
    them.
    """

    clear: Delete
    fill: Insert
    count: Select[int]


def snapshot_statements(contract: Contract) -> SnapshotStatements:
    """Return the statements that take a snapshot; the day is one of their parameters."""
    tables = build_tables(contract)
    snapshot, day = tables.snapshot, tables.snapshot.c[contract.snapshot_date]
    chosen = _rows(tables, contract)
    return SnapshotStatements(
        clear=delete(snapshot).where(or_(day <= _date(_EXPIRED), day == _date(_DAY))),
        fill=insert(snapshot).from_select([column.name for column in chosen.selected_columns], chosen),
        count=select(func.count()).select_from(snapshot).where(day == _date(_DAY)),
    )


def snapshot_parameters(base_dt: date, *, months: int, keep_days: int) -> dict[str, date]:
    """Return the parameters of `snapshot_statements`; see `take_snapshot`."""
    return {_DAY: base_dt, _FIRST: months_before(base_dt, months), _EXPIRED: base_dt - timedelta(days=keep_days)}


def _date(name: str) -> BindParameter[date]:
    return bindparam(name, type_=Date())


def months_before(day: date, months: int) -> date:
    """Return the same day of the month, `months` earlier, or the last day of that month if it is shorter."""
    earlier: date = (pd.Timestamp(day) - pd.DateOffset(months=months)).date()
    return earlier


def take_snapshot(engine: Engine, contract: Contract, base_dt: date, *, months: int, keep_days: int) -> SnapshotReport:
    """Take the snapshot of a day in one transaction; it replaces an earlier snapshot of the same day.

    The snapshot is a point-in-time join: labels dated within [base_dt - months, base_dt] are joined to features by row
    key. Each row key occurs once, with its newest label in the window and with its newest features dated no later than
    that label, so that no information from the future reaches the model. Snapshots dated `base_dt - keep_days` or
    earlier are deleted. A contract without an event date has no window: a snapshot has all rows ingested by `base_dt`.

    Raises:
        NotFound: the snapshot would be empty, in which case nothing is changed, or the store has no tables.
        Unreachable: the store does not answer.
    """
    tables = build_tables(contract)
    snapshot, day = tables.snapshot, tables.snapshot.c[contract.snapshot_date]
    statements = snapshot_statements(contract)
    parameters = snapshot_parameters(base_dt, months=months, keep_days=keep_days)
    start = parameters[_FIRST]
    with transaction(engine) as connection:
        deleted = connection.execute(statements.clear, parameters).rowcount
        rows = connection.execute(statements.fill, parameters).rowcount
        if not rows:
            raise _nothing(connection, tables, contract, start, base_dt)
        today = day == base_dt
        groups = connection.scalar(select(func.count(snapshot.c[contract.group.name].distinct())).where(today))
        label = snapshot.c[contract.label.name]
        classes = select(label, func.count()).where(today).group_by(label)
        counts: dict[str, int] = dict(connection.execute(classes).all())
    return SnapshotReport(
        base_dt=base_dt.isoformat(),
        window_start=start.isoformat(),
        rows=rows,
        groups=int(groups or 0),
        deleted=deleted,
        shares={name: counts.get(name, 0) / rows for name in contract.classes},
    )


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose texts are categories: their values are few, or at least occur several times."""
    texts = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.StringDtype)]
    return frame.astype(dict.fromkeys(texts, "category"))


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return compact frames as one; they lose their columns one by one, so that no more than one is in memory twice."""
    columns: dict[str, Any] = {}
    for name in map(str, list(frames[0])):
        parts = [frame.pop(name) for frame in frames]
        whole = isinstance(parts[0].dtype, pd.CategoricalDtype)
        columns[name] = (
            union_categoricals(parts, sort_categories=True) if whole else pd.concat(parts, ignore_index=True)
        )
    return pd.DataFrame(columns, copy=False)


def snapshot_chunks(engine: Engine, contract: Contract, base_dt: date) -> Iterator[pd.DataFrame]:
    """Yield the snapshot of a day, ordered by row keys, in frames of at most `CHUNK_ROWS` rows.

    Rows of two frames are never in memory as Python objects at the same time: they take ten times as much.

    Yields:
        Frames with the columns, order and types of `snapshot_schema(contract)`.

    Raises:
        NotFound: there is no snapshot of that day.
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).snapshot
    schema = snapshot_schema(contract)
    columns = list(schema.columns)
    query = (
        select(*(table.c[name] for name in columns))
        .where(table.c[contract.snapshot_date] == base_dt)
        .order_by(*(table.c[name] for name in names(contract.row_keys)))
    )
    # Use pandas' default string type, which the schema accepts too.
    types = {name: str(column.dtype) for name, column in schema.columns.items()}
    types = {name: "str" if kind.startswith("str") else kind for name, kind in types.items()}
    found = False
    with reading(engine) as connection:
        for rows in connection.execution_options(yield_per=CHUNK_ROWS).execute(query).partitions():
            found = True
            yield pd.DataFrame([tuple(row) for row in rows], columns=columns).astype(types)
    if not found:
        newest = latest_snapshot(engine, contract)
        raise NotFound(
            f"there is no snapshot of {base_dt}",
            where=contract.snapshot_table,
            hint=f"the newest is that of {newest}" if newest else f"run: ctcd snapshot --base-dt {base_dt}",
        )


def label_dates(engine: Engine, contract: Contract) -> tuple[date | None, date | None]:
    """Return the dates of the oldest and the newest label; None if there are no labels."""
    day = build_tables(contract).labels.c[contract.event_date.name]
    with reading(engine) as connection:
        first, last = connection.execute(select(func.min(day), func.max(day))).one()
    return first, last


def latest_snapshot(engine: Engine, contract: Contract, *, until: date = date.max) -> date | None:
    """Return the date of the newest snapshot, of those until a day; None if there is none."""
    day = build_tables(contract).snapshot.c[contract.snapshot_date]
    with reading(engine) as connection:
        found: date | None = connection.scalar(select(func.max(day)).where(day <= until))
    return found


def _rows(tables: Tables, contract: Contract) -> Select[tuple[object, ...]]:
    """Return the query for the rows of a snapshot, with the columns in the order of the snapshot table."""
    keys = names(contract.row_keys)
    day, label = contract.event_date.name, contract.label.name
    # The day of an ingest says when a row came to be known, but not which time it describes.
    static = contract.event_date.filled
    labels, features = tables.labels, tables.features
    ranked_labels = (
        select(
            *(labels.c[name] for name in keys),
            labels.c[day].label("_label_day"),
            labels.c[label],
            _newest_first([labels.c[name] for name in keys], labels.c[day]).label("_newness"),
        )
        .where(labels.c[day] <= _date(_DAY) if static else labels.c[day].between(_date(_FIRST), _date(_DAY)))
        .subquery("ranked_labels")
    )
    newest = select(ranked_labels).where(ranked_labels.c["_newness"] == _ONE).subquery("newest_labels")
    in_time = features.c[day] <= _date(_DAY) if static else features.c[day] <= newest.c["_label_day"]
    known = and_(*(features.c[name] == newest.c[name] for name in keys), in_time)
    inputs = names(contract.model_inputs)
    ranked = (
        select(
            *(features.c[name] for name in (*keys, *inputs)),
            newest.c[label],
            newest.c["_label_day"],
            _newest_first([features.c[name] for name in keys], features.c[day]).label("_newness"),
        )
        .join_from(newest, features, known)
        .subquery("ranked_rows")
    )
    return select(
        _date(_DAY).label(contract.snapshot_date),
        *(ranked.c[name] for name in (*keys, *inputs, label)),
        *(ranked.c["_label_day"].label(column.name) for column in contract.dated),
    ).where(ranked.c["_newness"] == _ONE)


def _newest_first(keys: list[Column[object]], day: Column[date]) -> Over[int]:
    return func.row_number().over(partition_by=keys, order_by=day.desc())


def _nothing(connection: Connection, tables: Tables, contract: Contract, start: date, base_dt: date) -> NotFound:
    day = contract.event_date.name
    spans = []
    for table in (tables.labels, tables.features):
        first, last = connection.execute(select(func.min(table.c[day]), func.max(table.c[day]))).one()
        spans.append(f"{table.name} has {f'{first} to {last}' if first else 'no rows'}")
    return NotFound(
        f"no row has a label from {start} to {base_dt} and features of that day or before",
        where=f"snapshot of {base_dt}",
        hint=f"{'; '.join(spans)}: choose another base date, or ingest data",
    )
