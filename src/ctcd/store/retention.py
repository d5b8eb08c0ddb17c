"""How long the prediction log keeps its rows, and its partitions by month on MariaDB.

Rows are made from the outbox, where id and time of a prediction are fixed. A partitioned table needs the time in each
unique key, so one that is sent twice is still there once: it has the same time. Months are those of UTC, as the times
are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import ColumnClause, Connection, Engine, Table, column, delete, func, inspect, select, table, text

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, UsageError
from ctcd.progress import Progress, silent
from ctcd.store.engine import alone, transaction
from ctcd.store.tables import build_tables

AHEAD_MONTHS = 3
"""Months after this one that have a partition: what is added while it is empty is added at once."""
MOST_MONTHS = 120
"""Months before this one that get a partition of their own; older rows are in the first one."""
CHUNK_ROWS = 5_000
"""Rows of a transaction that deletes or copies."""
LOCK_SECONDS = 5
"""Longest wait for a table that others use: whoever comes after waits as long, and predictions wait in the outboxes."""
FREE_IDS = 1_000_000
"""Ids that are left out when the tables change places, for rows that are written at this moment."""
_MARK = "ctcd: partitions are being made"
"""Comment of the table that gets the partitions, until the one before it is gone: others of the name are not ours."""
_LATER = "later"
"""The last partition, for what no month has been added for."""


@dataclass(frozen=True, kw_only=True)
class RetentionReport:
    """What became of the prediction log.

    Args:
        first_month: the oldest month that is kept, ISO 8601; None if all are.
        partitioned: whether the table has partitions.
        added: names of partitions that were added.
        dropped: names of partitions that were dropped, with all of their rows.
        deleted: rows that were deleted one by one, as no partition that was dropped held them.
    """

    table: str
    first_month: str | None
    partitioned: bool
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    deleted: int


def retain(
    engine: Engine,
    contract: Contract,
    today: date,
    *,
    keep_months: int | None,
    partitions: bool = False,
    require_copied: Callable[[datetime], object] | None = None,
    progress: Progress = silent,
) -> RetentionReport:
    """Delete the months of the prediction log that are older than `keep_months` whole ones before that of today.

    Partitions are dropped, and those of the months to come are added: both take a moment, whatever the number of rows.
    Rows that no dropped partition held are deleted in many small transactions. With `partitions` the log gets some
    first, see `partition`; a run of that which was killed after the tables changed places is finished in any case.

    Before anything is deleted, `require_copied` is called with the time before which it would be; it raises if that is
    too early.

    Raises:
        UsageError: partitions are asked for, and the store is SQLite; or a table that is not ours has the name of one
            that they need.
        Unreachable: the store does not answer, or the table is in use for so long that it was given up; what was done
            before is complete.
        NotFound: the log's table is missing.
    """
    log = build_tables(contract).predictions
    if not inspect(engine).has_table(log.name):
        raise NotFound("the store has no such table", where=log.name, hint="run: ctcd migrate")
    if partitions:
        if engine.dialect.name == "sqlite":
            raise UsageError("SQLite has no partitions", where="FEATURE_STORE_URL", hint="leave out --partition")
        partition(engine, contract, today, progress=progress)
    elif engine.dialect.name != "sqlite":
        with alone(_ddl(engine), "migrate") as connection:
            _bound_waits(connection)
            _finish(connection, log, progress)
    first = None if keep_months is None else _month(today, -keep_months)
    if first is not None and require_copied:
        require_copied(_begin(first))
    added: Sequence[str] = ()
    dropped: Sequence[str] = ()
    partitioned = engine.dialect.name != "sqlite" and is_partitioned(engine, log)
    if partitioned:
        with alone(_ddl(engine), "migrate") as connection:
            _bound_waits(connection)
            added, dropped = _added(connection, log, today), _dropped(connection, log, first)
    deleted = 0 if first is None else _deleted(engine, log, _begin(first))
    return RetentionReport(
        table=log.name,
        first_month=None if first is None else f"{first:%Y-%m}",
        partitioned=partitioned,
        added=tuple(added),
        dropped=tuple(dropped),
        deleted=deleted,
    )


def partition(engine: Engine, contract: Contract, today: date, *, progress: Progress = silent) -> None:
    """Give the log a partition for each month; a MariaDB only.

    The rows are copied in small transactions to a table of the same columns, which then changes places with the log in
    one step. Until then nothing is different for those who write and read; a run that is killed is continued by the
    next one. It needs the space of the log a second time.

    Raises:
        Unreachable: the store does not answer, or the log is in use for so long that the tables cannot change places.
        NotFound: the log's table is missing.
    """
    log = build_tables(contract).predictions
    with alone(_ddl(engine), "migrate") as connection:
        _bound_waits(connection)
        _finish(connection, log, progress)
        if _bounds(connection, log.name):
            return
        new, before = (_suffixed_name(connection, log, end) for end in ("new", "old"))
        there = inspect(connection).get_table_names()
        if before in there or (new in there and not _is_ours(connection, new, log)):
            raise UsageError(
                "partitions need a table of this name, and one that is not known to be theirs has it",
                where=before if before in there else new,
                hint="give that table another name, or drop it if nothing in it is needed",
            )
        if (
            new not in there
            or not _bounds(connection, new)
            or _columns(connection, new) != _columns(connection, log.name)
        ):
            _create(connection, log, new, today)
        _copy(connection, log.name, new, progress, begin=_last(connection, new))
        quoted, other, kept = (_quote(connection, name) for name in (log.name, new, before))
        connection.exec_driver_sql(f"ALTER TABLE {other} AUTO_INCREMENT = {_last(connection, log.name) + FREE_IDS}")
        connection.exec_driver_sql(f"RENAME TABLE {quoted} TO {kept}, {other} TO {quoted}")
        _finish(connection, log, progress)


def _is_ours(connection: Connection, new: str, log: Table) -> bool:
    """Return whether a table has the mark, or is what a run leaves that is killed before it gives it one: an empty log."""
    return _is_marked(connection, new) or (
        _columns(connection, new) == _columns(connection, log.name) and not _last(connection, new)
    )


def _is_marked(connection: Connection, name: str) -> bool:
    return inspect(connection).get_table_comment(name)["text"] == _MARK


def _finish(connection: Connection, log: Table, progress: Progress) -> None:
    """Copy what the table that was the log has more than the log, drop it and take the mark away; nothing without a mark."""
    if not _is_marked(connection, log.name):
        return
    before = _suffixed_name(connection, log, "old")
    if before in inspect(connection).get_table_names():
        # What was written while the tables changed places, and what was not committed in the order of the ids.
        _copy(connection, before, log.name, progress, begin=0)
        connection.exec_driver_sql(f"DROP TABLE {_quote(connection, before)}")
    connection.exec_driver_sql(f"ALTER TABLE {_quote(connection, log.name)} COMMENT = ''")


def is_partitioned(engine: Engine, log: Table) -> bool:
    """Return whether a table of MariaDB has partitions."""
    with transaction(engine) as connection:
        return bool(_bounds(connection, log.name))


def _ddl(engine: Engine) -> Engine:
    # MariaDB commits after each of these statements: none of them is part of a transaction.
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _bound_waits(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")


def _month(day: date, later: int) -> date:
    """Return the first day of a month, so many months later."""
    years, month = divmod(day.year * 12 + day.month - 1 + later, 12)
    return date(years, month + 1, 1)


def _begin(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _quote(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _suffixed_name(connection: Connection, log: Table, end: str) -> str:
    """Return the name of a table beside the log; a name has at most 64 characters."""
    most = connection.dialect.max_identifier_length
    return f"{log.name[: most - len(end) - 1]}_{end}"


def _columns(connection: Connection, name: str) -> list[str]:
    return [each["name"] for each in inspect(connection).get_columns(name)]


def _last(connection: Connection, name: str) -> int:
    return connection.scalar(select(func.coalesce(func.max(column("id")), 0)).select_from(table(name))) or 0


def _bounds(connection: Connection, name: str) -> dict[str, date | None]:
    """Return when the partitions of a table end, the oldest first; None for the last one, which has no end."""
    query = text(
        "SELECT partition_name, partition_description FROM information_schema.partitions WHERE table_schema = DATABASE()"
        " AND table_name = :name AND partition_method = 'RANGE COLUMNS' ORDER BY partition_ordinal_position"
    )
    found = connection.execute(query, {"name": name}).all()
    return {
        partition: None if end == "MAXVALUE" else date.fromisoformat(end.strip("'")[:10]) for partition, end in found
    }


def _partitions(ends: Sequence[date]) -> dict[str, str]:
    """Return the definition of each partition that ends at one of these months, and of the last one, by name."""
    definitions = {f"p{_month(end, -1):%Y%m}": f"VALUES LESS THAN ('{end:%Y-%m-%d}')" for end in ends}
    return definitions | {_LATER: "VALUES LESS THAN (MAXVALUE)"}


def _defined(definitions: dict[str, str]) -> str:
    return ", ".join(f"PARTITION {name} {values}" for name, values in definitions.items())


def _ends(after: date, today: date) -> list[date]:
    """Return the ends of the months that end later than a day, up to those ahead."""
    last = _month(today, AHEAD_MONTHS + 1)
    months = (last.year - after.year) * 12 + last.month - after.month
    return [_month(after, later) for later in range(1, months + 1)]


def _create(connection: Connection, log: Table, new: str, today: date) -> None:
    """Create an empty table with the columns and indexes of the log, and its partitions."""
    oldest = connection.scalar(select(func.min(log.c.created_at)))
    # Not later than this month, even if a clock was wrong when the rows were written.
    begin = min(oldest.date().replace(day=1) if oldest else _month(today, 0), _month(today, 0))
    first = max(begin, _month(today, -MOST_MONTHS))
    quoted = _quote(connection, new)
    [unique] = (each["name"] for each in inspect(connection).get_unique_constraints(log.name))
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quoted}")
    connection.exec_driver_sql(f"CREATE TABLE {quoted} LIKE {_quote(connection, log.name)}")
    connection.exec_driver_sql(
        f"ALTER TABLE {quoted} DROP PRIMARY KEY, ADD PRIMARY KEY (id, created_at), DROP INDEX {unique},"
        f" ADD UNIQUE INDEX {unique} (request_id, created_at), COMMENT = '{_MARK}'"
        f" PARTITION BY RANGE COLUMNS (created_at) ({_defined(_partitions(_ends(first, today)))})"
    )


def _copy(connection: Connection, source: str, target: str, progress: Progress, *, begin: int) -> None:
    """Copy the rows with a higher id that are not there yet, one small transaction after the other."""
    names = ", ".join(_quote(connection, name) for name in _columns(connection, source))
    of, to = _quote(connection, source), _quote(connection, target)
    number: ColumnClause[int] = column("id")
    while True:
        found = select(number).select_from(table(source)).where(number > begin).order_by(number).limit(CHUNK_ROWS)
        end = connection.scalar(select(func.max(found.subquery().c.id)))
        if end is None:
            return
        # One that was sent again meanwhile has another id, and is there already: it is left out by the unique key.
        connection.exec_driver_sql(
            f"INSERT INTO {to} ({names}) SELECT {names} FROM {of} AS source WHERE id > {begin} AND id <= {end} AND NOT"  # noqa: S608 - names are quoted
            f" EXISTS (SELECT 1 FROM {to} AS there WHERE there.id = source.id AND there.created_at = source.created_at)"
            f" ON DUPLICATE KEY UPDATE {to}.id = {to}.id"
        )
        begin = int(end)
        progress("ids copied", begin, _last(connection, source))


def _added(connection: Connection, log: Table, today: date) -> list[str]:
    """Add the partitions of the months to come that are missing; return their names."""
    last = max((end for end in _bounds(connection, log.name).values() if end), default=_month(today, 0))
    definitions = _partitions(_ends(last, today))
    missing = [name for name in definitions if name != _LATER]
    if missing:
        connection.exec_driver_sql(
            f"ALTER TABLE {_quote(connection, log.name)} REORGANIZE PARTITION {_LATER} INTO ({_defined(definitions)})"
        )
    return missing


def _dropped(connection: Connection, log: Table, first: date | None) -> list[str]:
    """Drop the partitions that end before a month begins; return their names."""
    if first is None:
        return []
    expired = [name for name, end in _bounds(connection, log.name).items() if end and end <= first]
    if expired:
        connection.exec_driver_sql(f"ALTER TABLE {_quote(connection, log.name)} DROP PARTITION {', '.join(expired)}")
    return expired


def _deleted(engine: Engine, log: Table, before: datetime) -> int:
    """Delete the rows from before a time, some in each transaction; return how many."""
    deleted, expired = 0, log.c.created_at < before
    while True:
        with transaction(engine) as connection:
            ids = connection.scalars(select(log.c.id).where(expired).order_by(log.c.created_at).limit(CHUNK_ROWS)).all()
            if ids:
                connection.execute(delete(log).where(log.c.id.in_(ids), expired))
        if not ids:
            return deleted
        deleted += len(ids)
