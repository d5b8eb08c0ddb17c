"""What was ingested: the files, and the rows that were refused, counted by reason."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from sqlalchemy import Engine, select

from ctcd.contract.spec import Contract
from ctcd.store.engine import reading
from ctcd.store.tables import build_tables


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """Rows that ingest refused for the same reason.

    Args:
        table: the table that they were meant for.
        file: name of the file that they are from, without its folder.
        reason: column and broken rule, without a value; a row may have several.
        rows: their number.
    """

    table: str
    file: str
    reason: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that was ingested.

    Args:
        table: the table that its rows were meant for.
        file: its name, without its folder.
        sha256: SHA-256 of its content, in hexadecimal digits.
        read: number of its rows.
        written: number of those that were accepted.
        ingested_at: when it was ingested first, UTC.
    """

    table: str
    file: str
    sha256: str
    read: int
    written: int
    ingested_at: datetime


def source_files(engine: Engine, contract: Contract) -> tuple[SourceFile, ...]:
    """Return the files that were ingested, the newest first; not those of releases that did not record them.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).sources
    with reading(engine) as connection:
        found = connection.execute(select(table).order_by(table.c.ingested_at.desc(), table.c.table_name)).all()
    return tuple(
        SourceFile(
            table=row.table_name,
            file=PurePath(row.source).name,
            sha256=row.sha256,
            read=row.read_rows,
            written=row.written_rows,
            ingested_at=row.ingested_at,
        )
        for row in found
    )


def quarantined(engine: Engine, contract: Contract) -> tuple[Quarantined, ...]:
    """Return the rows in the quarantine by table, file and reason, the most frequent first.

    Raises:
        Unreachable: the store does not answer.
    """
    table = build_tables(contract).quarantine
    counts: Counter[tuple[str, str, str]] = Counter()
    with reading(engine) as connection:
        for name, source, reasons in connection.execute(select(table.c.table_name, table.c.source, table.c.reasons)):
            # A column may break the same rule once in each of several entries; the row counts once.
            texts = {f"{each['column']} {each['rule']}".strip() for each in reasons}
            counts.update((name, PurePath(source).name, text) for text in texts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Quarantined(table=name, file=file, reason=reason, rows=rows) for (name, file, reason), rows in ordered)
