"""Numbers of rows and effective rows of a period."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from ctcd.contract.spec import Contract
from ctcd.model.reference import effective_rows
from ctcd.store.prediction_log import given
from ctcd.store.tables import build_tables, log_name

Model = tuple[str, str]
"""Version and training run."""
Between = tuple[datetime, datetime]
"""Beginning and end of a period; the end is exclusive."""


def made(contract: Contract, between: Between) -> ColumnElement[bool]:
    """Return the condition for the predictions of a period that were returned to clients."""
    log = build_tables(contract).predictions
    begin, end = between
    created_at = log.c.created_at
    return (created_at >= begin) & (created_at < end) & given(log)


def by_model(connection: Connection, contract: Contract, between: Between) -> dict[Model, tuple[int, float]]:
    """Return the number of predictions of a period, and of effective ones, by model in the order of versions."""
    log = build_tables(contract).predictions
    groups = [log.c[log_name(column)] for column in contract.identity]
    found = count(connection, log, groups, made(contract, between), by=(log.c.model_version, log.c.run_id))
    return {(version, run_id): sizes for (version, run_id), sizes in sorted(found.items())}


def count(
    connection: Connection,
    table: Table,
    groups: Sequence[ColumnElement[Any]],
    where: ColumnElement[bool],
    *,
    by: Sequence[ColumnElement[Any]] = (),
) -> dict[tuple[Any, ...], tuple[int, float]]:
    """Return the number of rows, and of effective ones, by the values of columns; empty if there are no rows.

    Without group columns, all rows are independent.
    """
    rows = func.count().label("_rows")
    each = select(*by, rows).select_from(table).where(where).group_by(*by, *groups).subquery()
    of_group = list(each.c)[: len(by)]
    query = select(*of_group, func.sum(each.c["_rows"]), func.sum(each.c["_rows"] * each.c["_rows"])).group_by(
        *of_group
    )
    found = {}
    for *key, total, squares in connection.execute(query):
        if total:
            found[tuple(key)] = int(total), effective_rows(int(total), int(squares if groups else total))
    return found
