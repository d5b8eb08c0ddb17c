"""What the quarantine holds, counted by reason."""

from collections import Counter
from dataclasses import dataclass
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
