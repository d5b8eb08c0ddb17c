"""Counts close: what was read is what was written, quarantined or repeated, and the quarantine holds exactly the rest."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Table
from support.examples import at_most
from support.instance import CONTRACT
from support.raw import Row, feature_row, label_row, write_features, write_labels
from support.stores import PEOPLE, TABLES, rows_of

from ctcd.contract.spec import names
from ctcd.errors import DataRefused
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest

ANY_SHARE = replace(CONTRACT, max_quarantine_share=1.0)
"""The contract, with no limit on the share of bad rows."""
NAME = "Jane Doe"


@dataclass
class Expected:
    """A file as it is written, line by line, and what has to become of each line.

    Args:
        lines: the lines after the header.
        keys: key of every row that has to be written, in order.
        personal: number of rows written that have a personal value.
        reasons: the reasons of every other line, by its number.
    """

    lines: list[str] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    personal: int = 0
    reasons: dict[int, list[str]] = field(default_factory=dict)

    def add(self, row: Row, columns: Sequence[str], reasons: Sequence[str], *, cut: int = 0) -> None:
        cells = [f'"{row[name]}"' for name in columns] + ["x"] * max(cut, 0)
        self.lines.append(",".join(cells[:cut] if cut < 0 else cells))
        if reasons:
            self.reasons[len(self.lines) + 1] = list(reasons)
            return
        self.keys.append(int(row[CONTRACT.key.name]))
        self.personal += any(row.get(name) for name in names(CONTRACT.personal))


@dataclass(frozen=True)
class Kind:
    """A kind of row: how it differs from a valid one, and the reasons for which it is quarantined.

    Args:
        changes: cells by column, for a table.
        reasons: in the order in which they are found.
        repeats: whether it has the key of a row before it.
        cut: number of cells too many, or, negative, too few.
    """

    changes: dict[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    repeats: bool = False
    cut: int = 0


SHARED = {
    "good": Kind(),
    "date": Kind({"day": "2025-02-29"}, ("day is not a calendar date",)),
    "key": Kind({"machine": "0"}, ("machine is below 1",)),
    "few": Kind({}, ("the row has too few fields",), cut=-1),
    "many": Kind({}, ("the row has too many fields",), cut=2),
    "again": Kind({}, ("duplicate key",), repeats=True),
}
KINDS = {
    CONTRACT.features_table: SHARED
    | {
        "named": Kind({"operator": NAME}),
        "type": Kind({"hours": "x"}, ("hours is not a number",)),
        "two": Kind({"hours": "x", "power": "much"}, ("hours is not a number", "power is not a number")),
        "rule": Kind({"num_parts": "3"}, ("breaks one_entry_per_part: parts has as many entries as num_parts says",)),
        "personal": Kind({"badge": "9" * 21}, ("badge is longer than 20 characters",)),
    },
    CONTRACT.labels_table: SHARED
    | {"class": Kind({"condition": "fair"}, ("condition is not one of failing, worn, sound",))},
}
MADE: dict[str, Callable[..., Row]] = {CONTRACT.features_table: feature_row, CONTRACT.labels_table: label_row}


def expected(table: str, runs: Sequence[tuple[str, int]]) -> Expected:
    """Return the file of some runs of rows of one kind each."""
    columns = names(CONTRACT.feature_columns if table == CONTRACT.features_table else CONTRACT.label_columns)
    file, number = Expected(), 0
    for name, length in runs:
        kind = KINDS[table][name]
        for _ in range(length):
            number += 1
            # A key that only bad rows had is not taken: the first valid row with it is written.
            key = file.keys[-1] if kind.repeats and file.keys else number
            reasons = kind.reasons if not kind.repeats or file.keys else ()
            file.add(MADE[table](key, **kind.changes), columns, reasons, cut=kind.cut)
    return file


def runs_of(table: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return runs of rows, from single ones to more than a chunk holds."""
    lengths = st.one_of(st.integers(1, 4), st.sampled_from([30, 101, 130]))
    return st.lists(st.tuples(st.sampled_from(sorted(KINDS[table])), lengths), min_size=1, max_size=5)


@pytest.mark.slow
@hypothesis_settings(deadline=None, max_examples=at_most(15))
@given(runs_of(CONTRACT.features_table), runs_of(CONTRACT.labels_table), st.sampled_from([50, 101, 1_000]))
@example([("good", 1), ("type", 150), ("two", 101)], [("many", 101), ("good", 1), ("again", 120)], 1_000)
@example([("rule", 130)], [("few", 101), ("date", 150)], 1_000)  # none of them good
@example([("again", 1), ("good", 2), ("personal", 3)], [("good", 1)], 1)
@example([("good", 1), ("again", 1)], [("good", 1), ("again", 1)], 1)  # the key of a chunk before
def test_every_row_is_written_or_in_the_quarantine(
    migrated_file: bytes, features: list[tuple[str, int]], labels: list[tuple[str, int]], chunk_rows: int
) -> None:
    """At any share and pattern of bad rows, in chunks of any size: per table and reason, and line by line."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "store.db").write_bytes(migrated_file)
        files = {CONTRACT.features_table: expected(CONTRACT.features_table, features)}
        files[CONTRACT.labels_table] = expected(CONTRACT.labels_table, labels)
        (folder / "raw").mkdir()
        for write, table in ((write_features, CONTRACT.features_table), (write_labels, CONTRACT.labels_table)):
            path = write(folder / "raw", [MADE[table]()])
            header = path.read_text().partition("\n")[0]
            path.write_text("\n".join([header, *files[table].lines]) + "\n")
        engine = connect(f"sqlite:///{folder / 'store.db'}")
        report = ingest(engine, ANY_SHARE, folder / "raw", chunk_rows=chunk_rows)
        quarantine = rows_of(engine, TABLES.quarantine)
        stored: dict[str, Table] = {CONTRACT.features_table: TABLES.features, CONTRACT.labels_table: TABLES.labels}
        assert [each.table for each in report.tables] == list(files)
        for each in report.tables:
            file = files[each.table]
            counted = Counter(reason for reasons in file.reasons.values() for reason in reasons)
            assert each.read == len(file.lines) == each.written + each.quarantined
            assert (each.written, each.quarantined) == (len(file.keys), len(file.reasons))
            assert each.reasons == dict(counted)
            assert each.personal == file.personal
            assert [row[CONTRACT.key.name] for row in rows_of(engine, stored[each.table])] == sorted(file.keys)
            mine = [row for row in quarantine if row["table_name"] == each.table]
            assert {row["line"]: _texts(row) for row in mine} == file.reasons
            assert {row["source"] for row in mine} <= {each.source}
        assert len(quarantine) == sum(len(file.reasons) for file in files.values())
        assert len(rows_of(engine, PEOPLE)) == files[CONTRACT.features_table].personal
        engine.dispose()


def _texts(row: dict[str, object]) -> list[str]:
    reasons = row["reasons"]
    assert isinstance(reasons, list)
    return [f"{reason['column']} {reason['rule']}".strip() for reason in reasons]


@pytest.mark.slow
@pytest.mark.parametrize("chunk_rows", [40, 1_000])
def test_a_refusal_counts_every_bad_row(migrated_file: bytes, tmp_path: Path, chunk_rows: int) -> None:
    """However many there are, in however many chunks, the message has the number of all of them, by reason."""
    (tmp_path / "store.db").write_bytes(migrated_file)
    file = expected(CONTRACT.labels_table, [("good", 50), ("date", 150), ("class", 120), ("again", 7)])
    path = write_labels(tmp_path, [label_row()])
    path.write_text("\n".join([path.read_text().partition("\n")[0], *file.lines]) + "\n")
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(DataRefused) as refused:
        ingest(engine, CONTRACT, path, chunk_rows=chunk_rows)
    engine.dispose()
    assert "277 of 327 rows (84.71%)" in str(refused.value)
    for part in ("day is not a calendar date (150 rows, first in line 52", "(120 rows", "duplicate key (7 rows"):
        assert part in str(refused.value)
