"""Profiles of accepted snapshots: computed in the database and stored in a small table."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, Double, Engine, Table, case, cast, func, select

from ctcd.contract.spec import Contract
from ctcd.monitoring.expectations import ColumnProfile, Profile, nullable_columns, numeric_columns
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import build_tables
from ctcd.store.upsert import upsert


def accepted_before(engine: Engine, contract: Contract, day: date) -> Profile | None:
    """Return the profile of the last accepted snapshot that is older than `day`, or None.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the store has no tables.
    """
    table = build_tables(contract).profiles
    query = select(table).where(table.c.day < day).order_by(table.c.day.desc()).limit(1)
    with reading(engine) as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Profile.from_json(row.day, row.profile)


def accept(engine: Engine, contract: Contract, day: date) -> Profile:
    """Record the snapshot of a day as accepted, with its profile, replacing an earlier record of that day.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the store has no tables.
    """
    table = build_tables(contract).profiles
    with transaction(engine) as connection:
        profile = measure(connection, contract, day)
        upsert(connection, table, [{"day": day, "profile": profile.to_json()}])
    return profile


def measure(connection: Connection, contract: Contract, day: date) -> Profile:
    """Return the profile of the snapshot of a day, which must have rows."""
    table = build_tables(contract).snapshot
    label = table.c[contract.label.name]
    numbers = [column.name for column in numeric_columns(contract)]
    nullable = [column.name for column in nullable_columns(contract)]

    def of_the_day(*what: Any) -> Sequence[Any]:
        return connection.execute(select(*what).where(table.c[contract.snapshot_date] == day)).one() if what else ()

    counted = of_the_day(
        func.count(),
        *(func.count(case((label == name, 1))) for name in contract.classes),
        *(func.count(table.c[name]) for name in nullable),
    )
    rows, shares = int(counted[0]), counted[1 : 1 + len(contract.classes)]
    present = counted[1 + len(contract.classes) :]
    means = of_the_day(*(func.avg(cast(table.c[name], Double())) for name in numbers))
    known = [(name, float(mean)) for name, mean in zip(numbers, means, strict=True) if mean is not None]
    # In a second pass: the mean of squares minus the squared mean is inaccurate for a small spread around a large mean.
    squares = of_the_day(*(func.avg((table.c[name] - mean) * (table.c[name] - mean)) for name, mean in known))
    return Profile(
        day=day,
        rows=rows,
        shares={name: share / rows for name, share in zip(contract.classes, shares, strict=True)},
        present={name: count / rows for name, count in zip(nullable, present, strict=True)},
        numbers={
            name: ColumnProfile(
                mean=mean, spread=float(square) ** 0.5, median=_median(connection, table, contract, day, name)
            )
            for (name, mean), square in zip(known, squares, strict=True)
        },
    )


def _median(connection: Connection, table: Table, contract: Contract, day: date, name: str) -> float:
    column = table.c[name]
    there = (table.c[contract.snapshot_date] == day, column.is_not(None))
    count = int(connection.execute(select(func.count()).where(*there)).scalar_one())
    query = select(column).where(*there).order_by(column).offset((count - 1) // 2).limit(2 - count % 2)
    middle = [float(value) for value in connection.execute(query).scalars()]
    return sum(middle) / len(middle)
