"""Seeded synthetic data for a contract, with injected errors of known kind and position.

The generator is a Gaussian copula. Each row has a latent score. The rank of each column, or the distance of that rank
from the middle, correlates with the score as the column's `Simulate` hint says. The label is the score with noise, cut
at the class shares. A group keeps most of its latent score and of its label noise from month to month, so its rows are
alike, as those of a real group are, and leak through a random split.

The same seed draws the same rows for any last day; only the dates shift, so results can be reproduced on another day.

More than `BLOCK_ROWS` rows are several such data sets one after the other, each over all months, with keys and groups
of its own: memory holds one at a time.
"""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.columns import KEYS, Role, Simulate
from ctcd.contract.spec import Column, Contract, Kind, category_text
from ctcd.errors import UsageError, number_of
from ctcd.files import replacing, writing_to

MONTH_KEPT = 0.2
"""Probability that a group has a row in a month: over 8 months a group has 1 to 6 rows, about 1.9 on average."""
GROUP_PART = 0.85
"""Share, 0 to 1, of the variance of the latent score that is common to all rows of a group."""
DRIFT = 0.2
"""Shift of the mean latent score from the first month to the last, in standard deviations."""
BLOCK_ROWS = 100_000
"""Rows that are drawn together, at most; fewer rows than these are the same whatever this is."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class InjectedError:
    """One cell or row that was made to break the contract.

    Args:
        line: line of that file; the header is line 1.
        kind: kind of error, such as "out of bounds".
        column: column that breaks the contract; for a duplicate key, the key column.
        value: text that the cell now holds.
    """

    table: str
    line: int
    kind: str
    column: str
    value: str


@dataclass(frozen=True, kw_only=True)
class SyntheticReport:
    """The files written, and the errors in them.

    Args:
        labels_file: path of the label table's file; that of the features if it has the label too.
        rows: rows of each file, those with errors included.
        shares: share of each class, 0 to 1, among the rows whose label is a class.
        errors: every injected error, ordered by table and line.
    """

    features_file: str
    labels_file: str
    rows: int
    groups: int
    shares: dict[str, float]
    injected: dict[str, dict[str, int]]
    errors: tuple[InjectedError, ...]


class Tables(NamedTuple):
    """Both raw tables as text columns, where an empty string is a missing value, and the errors that were injected.

    The labels have no columns if the features have the label too.
    """

    features: pd.DataFrame
    labels: pd.DataFrame
    errors: tuple[InjectedError, ...]


def generate(
    contract: Contract, *, rows: int, seed: int, end: date, months: int = 8, error_rate: float = 0.005
) -> Tables:
    """Return synthetic features and labels, one row of each per key.

    The same arguments give the same data.

    Args:
        contract: contract to generate data for.
        rows: rows of each table, at least 1.
        seed: seed of all random draws.
        end: last date that may occur, in the last month.
        months: number of months covered, at least 1.
        error_rate: share of the rows of each table, 0 to 1, that break the contract.

    Raises:
        UsageError: an argument is out of range, or the contract does not say how a column is simulated.
    """
    features, labels, errors = zip(
        *_blocks(contract, rows=rows, seed=seed, end=end, months=months, error_rate=error_rate), strict=True
    )
    return Tables(
        pd.concat(features, ignore_index=True), pd.concat(labels, ignore_index=True), _in_order(contract, errors)
    )


def _blocks(contract: Contract, *, rows: int, seed: int, end: date, months: int, error_rate: float) -> Iterator[Tables]:
    """Yield the tables of `generate` in blocks of at most `BLOCK_ROWS` rows; errors have the lines of the whole.

    Raises:
        UsageError: as `generate`.
    """
    for name, value, wrong in (
        ("rows", rows, rows < 1),
        ("months", months, months < 1),
        ("error_rate", error_rate, not 0 <= error_rate < 1),
    ):
        if wrong:
            raise UsageError(f"{name} {value} is out of range", where="synthetic data")
    blocks = -(-rows // BLOCK_ROWS)
    # Nearly equal, as the ranks within a block of a few rows would be coarse.
    bounds = [rows * block // blocks for block in range(blocks + 1)]
    for block, (start, stop) in enumerate(pairwise(bounds)):
        draw = _Draw(contract, rows=stop - start, seed=seed, end=end, months=months, block=block)
        frames: list[pd.DataFrame] = []
        errors: list[InjectedError] = []
        for what, table, columns in (
            ("features", contract.features_table, contract.declared),
            ("labels", contract.labels_table, contract.declared_labels),
        ):
            # One column after the other: as Python's text each of them takes five times as much memory.
            frame = pd.DataFrame({column.name: pd.Series(draw.text(column), dtype=str) for column in columns})
            # None in a table without columns.
            count = round(error_rate * stop) - round(error_rate * start) if columns else 0
            random, across = draw.random(f"errors in {what}"), bool(contract.row_rules)
            frame, found = inject_errors(frame, columns, table, count=count, random=random, across=across)
            frames.append(frame)
            errors += [replace(error, line=error.line + start) for error in found]
        yield Tables(frames[0], frames[1], tuple(errors))


def _in_order(contract: Contract, errors: Iterable[tuple[InjectedError, ...]]) -> tuple[InjectedError, ...]:
    """Return the errors of all blocks by table, the features first."""
    return tuple(sorted(chain.from_iterable(errors), key=lambda error: error.table != contract.features_table))


def write(
    contract: Contract, folder: Path, *, rows: int, seed: int, end: date, months: int = 8, error_rate: float = 0.005
) -> SyntheticReport:
    """Write synthetic data as `<features_table>.csv.gz` and `<labels_table>.csv.gz`, and report their errors.

    A file is replaced in one step, and the same arguments give the same bytes. Memory does not grow with the rows, but
    for the list of errors. For the arguments see `generate`.

    Raises:
        UsageError: as `generate`, or the folder cannot be written.
    """
    tables = (contract.features_table, *((contract.labels_table,) if contract.labels else ()))
    paths = {table: folder / f"{table}.csv.gz" for table in tables}
    counts: Counter[str] = Counter()
    errors: list[tuple[InjectedError, ...]] = []
    groups = 0
    with writing_to(folder), ExitStack() as stack:
        files = [stack.enter_context(_packed(path)) for path in paths.values()]
        for block in _blocks(contract, rows=rows, seed=seed, end=end, months=months, error_rate=error_rate):
            for file, frame in zip(files, (block.features, block.labels), strict=False):
                frame.to_csv(file, index=False, header=not errors, lineterminator="\n", encoding="utf-8")
            given = (block.labels if contract.labels else block.features)[contract.label.name]
            counts.update({str(name): int(count) for name, count in given.value_counts().items()})
            groups += len(block.features) if contract.group.filled else block.features[contract.group.name].nunique()
            errors.append(block.errors)
    classes = sum(counts[name] for name in contract.classes)
    found = _in_order(contract, errors)
    return SyntheticReport(
        features_file=str(paths[contract.features_table]),
        labels_file=str(paths.get(contract.labels_table, paths[contract.features_table])),
        rows=rows,
        groups=groups,
        shares={name: counts[name] / classes if classes else 0.0 for name in contract.classes},
        injected={table: dict(Counter(error.kind for error in found if error.table == table)) for table in tables},
        errors=found,
    )


@contextmanager
def _packed(path: Path) -> Iterator[gzip.GzipFile]:
    """Yield a packed file; it replaces one at `path` when it is complete."""
    # Neither a name nor a time in the file, so that the bytes are the same in every run.
    with (
        replacing(path) as unfinished,
        unfinished.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
    ):
        yield packed


class _Draw:
    """Draws the columns of one block, each from its own random stream: a changed hint changes only its column."""

    def __init__(self, contract: Contract, *, rows: int, seed: int, end: date, months: int, block: int = 0) -> None:
        self.contract, self.rows, self.seed, self.end, self.months = contract, rows, seed, end, months
        self.block = block
        self.columns = {column.name: column for column in (*contract.feature_columns, *contract.label_columns)}

    def random(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(
            [self.seed % 2**32, zlib.crc32(purpose.encode()), *([self.block] if self.block else [])]
        )

    @cached_property
    def days(self) -> NDArray[np.datetime64]:
        """Date of each row, ascending; shape (rows,)."""
        month = self.moments.astype(int)
        first = np.datetime64(self.end, "M") - (self.months - 1) + month
        start = first.astype("datetime64[D]")
        stop = np.minimum((first + 1).astype("datetime64[D]"), np.datetime64(self.end, "D") + 1)
        days: NDArray[np.datetime64] = start + ((self.moments - month) * (stop - start).astype(int)).astype(int)
        return days

    @cached_property
    def moments(self) -> Floats:
        """Time of each row in months since the start of the first month, ascending; the last month ends at `end`."""
        return self._when_and_who[0]

    @cached_property
    def group(self) -> Indices:
        """Index of each row's group, from 0; shape (rows,)."""
        return self._when_and_who[1]

    @cached_property
    def groups(self) -> int:
        return int(self.group.max()) + 1

    @cached_property
    def _when_and_who(self) -> tuple[Floats, Indices]:
        random = self.random("months of groups")
        # Twice the expected number of groups, plus 200: the chance of too few rows is negligible.
        groups = int(2 * self.rows / (MONTH_KEPT * self.months)) + 200
        group, month = np.nonzero(random.random((groups, self.months)) < MONTH_KEPT)
        moments = month[: self.rows] + random.random(self.rows)
        order = np.argsort(moments, kind="stable")
        # Renumber the groups, so that none is without a row.
        return moments[order], np.unique(group[order], return_inverse=True)[1]

    @cached_property
    def latent_of_groups(self) -> Floats:
        """Latent score of each group, standard normal; shape (groups,)."""
        return self.random("hidden score of groups").standard_normal(self.groups)

    @cached_property
    def latent(self) -> Floats:
        """Latent score of each row; shape (rows,)."""
        noise = self.random("hidden score of rows").standard_normal(self.rows)
        time = self.moments / self.months - 0.5
        kept = np.sqrt(GROUP_PART) * self.latent_of_groups[self.group]
        latent: Floats = kept + np.sqrt(1 - GROUP_PART) * noise + DRIFT * time
        return latent

    def ranks(self, column: Column, hint: Simulate) -> Floats:
        """Uniform ranks between 0 and 1 of the rows, or of the groups, correlated with the latent score as hinted."""
        random = self.random(column.name)
        by_group = hint.varies == "group"
        latent = self.latent_of_groups if by_group else self.latent
        noise = random.standard_normal(len(latent))
        if column.role is Role.LABEL:
            per_group = random.standard_normal(self.groups)[self.group]
            noise = np.sqrt(GROUP_PART) * per_group + np.sqrt(1 - GROUP_PART) * noise
        score = hint.signal * latent + np.sqrt(1 - hint.signal**2) * noise
        ranks: Floats = (np.argsort(np.argsort(score)) + 0.5) / len(score)
        if hint.folded:
            ranks = 0.5 + ranks / 2 * random.choice([-1.0, 1.0], size=len(ranks))
        return ranks

    def numbers(self, column: Column) -> Floats:
        """Values of a numeric column; shape (rows,)."""
        hint = self._hint(column)
        if not hint.quantiles:
            raise _no_hint(column, "quantiles")
        ranks = self.ranks(column, hint)
        values = np.interp(ranks, np.linspace(0, 1, len(hint.quantiles)), hint.quantiles)
        if hint.varies == "group":
            values = values[self.group]
        if hint.times is not None:
            values = values * self.numbers(self.columns[hint.times])
        return np.rint(values) if hint.whole or column.kind is Kind.INTEGER else np.round(values, 4)

    def categories(self, column: Column) -> list[str]:
        """Values of a categorical column, one per row."""
        hint = self._hint(column)
        known = (False, True) if column.kind is Kind.BOOLEAN else column.categories or ()
        shares = hint.shares or dict.fromkeys(map(category_text, known), 1.0)
        if not shares:
            raise _no_hint(column, "shares")
        weights = np.cumsum(list(shares.values()))
        picks = np.searchsorted(weights / weights[-1], self.ranks(column, hint))
        if hint.varies == "group":
            picks = picks[self.group]
        values = list(shares)
        return [values[pick] for pick in picks.tolist()]

    def lists(self, column: Column) -> list[str]:
        """Values of a list column; each has as many entries as the column `counted_by` says."""
        assert column.list_of is not None  # noqa: S101 - narrows the type: a column of kind LIST has it
        list_of, counter = column.list_of, self.columns[column.list_of.counted_by]
        counts = self.numbers(counter).astype(int)
        by_group = self._hint(column).varies == self._hint(counter).varies == "group"
        if by_group:
            counts = counts[np.unique(self.group, return_index=True)[1]]
        entries = self.random(column.name).choice(list_of.items, size=int(counts.sum())).tolist()
        ends = np.cumsum(counts).tolist()
        texts = [
            list_of.separator.join(entries[end - count : end]) or list_of.empty
            for end, count in zip(ends, counts.tolist(), strict=True)
        ]
        return [texts[group] for group in self.group.tolist()] if by_group else texts

    def dates(self, column: Column) -> list[str]:
        """Values of a date column that is a feature, from its quantiles in days since 1970, or of the year before `end`."""
        hint = self._hint(column)
        end = (self.end - date(1970, 1, 1)).days
        ranks = self.ranks(column, hint)
        ranks = ranks[self.group] if hint.varies == "group" else ranks
        days = np.interp(ranks, np.linspace(0, 1, len(hint.quantiles) or 2), hint.quantiles or (end - 365, end))
        unit, scale = ("s", 86_400) if column.kind is Kind.TIME else ("D", 1)
        return [
            str(each) for each in np.datetime_as_string((days * scale).astype("int64").astype(f"datetime64[{unit}]"))
        ]

    def distinct(self, column: Column, count: int) -> list[str]:
        """Distinct values of a key column, in random order: numbers within its bounds, or texts like its example."""
        low = int(column.minimum or 0) + 5 * BLOCK_ROWS * self.block  # each block has numbers of its own
        numbers = [low + int(number) for number in self.random(column.name).permutation(5 * count)[:count]]
        stem = "" if column.kind is Kind.INTEGER else str(column.example or "").rstrip("0123456789")
        return [f"{stem}{number}" for number in numbers]

    def text(self, column: Column) -> list[str]:
        """The column as text, one value per row; an empty string is a missing value."""
        match column.role:
            case Role.KEY:
                return self.distinct(column, self.rows)
            case Role.GROUP:
                groups = self.distinct(column, self.groups)
                return [groups[group] for group in self.group.tolist()]
            case Role.EVENT_DATE:
                return [str(day) for day in np.datetime_as_string(self.days, unit="D")]
            case Role.PERSONAL:
                people = [_made_up(column, BLOCK_ROWS * self.block + number) for number in range(self.groups)]
                return [people[group] for group in self.group.tolist()]
            case _:
                return self._without_missing(column, self._feature_text(column))

    def _feature_text(self, column: Column) -> list[str]:
        match column.kind:
            case Kind.INTEGER:
                return [str(int(value)) for value in self.numbers(column).tolist()]
            case Kind.NUMBER:
                return [repr(value) for value in self.numbers(column).tolist()]
            case Kind.LIST:
                return self.lists(column)
            case Kind.DATE | Kind.TIME:
                return self.dates(column)
            case _:
                return self.categories(column)

    def _without_missing(self, column: Column, values: list[str]) -> list[str]:
        share = self._hint(column).missing
        if not share:
            return values
        missing = self.random(f"missing {column.name}").random(self.rows) < share
        return ["" if absent else value for absent, value in zip(missing.tolist(), values, strict=True)]

    def _hint(self, column: Column) -> Simulate:
        return column.simulate or Simulate()


def _no_hint(column: Column, what: str) -> UsageError:
    return UsageError(
        f"column {column.name} has no hint for synthetic data",
        where="contract",
        hint=f"declare it with simulate=Simulate({what}=...)",
    )


def _made_up(column: Column, number: int) -> str:
    """Return a personal value that belongs to nobody: the example with its last digits replaced, or an obvious name."""
    example = str(column.example or "")
    digits = len(example) - len(example.rstrip("0123456789"))
    if digits:
        return f"{example[:-digits]}{number % 10**digits:0{digits}d}"
    return f"Synthetic Person {number}"


NONSENSE = "!@9#%8"
"""Text that replaces a category or list; it occurs in real raw data."""
DUPLICATE = "duplicate key"

Corruption = Callable[[str], str]
"""Turns a valid value into one that breaks the contract."""


def corruptions(column: Column, *, across: bool) -> Mapping[str, Corruption]:
    """Return the ways to make a cell of a column break the contract, by kind of error.

    Args:
        column: its role, kind and bounds decide which errors there are.
        across: whether the contract has rules over several columns, which alone notice a wrong number of entries.
    """
    if column.role is Role.EVENT_DATE:
        return {"impossible date": lambda value: f"{value[:4]}-02-30"}
    if column.role not in (Role.FEATURE, Role.LABEL):
        return {}
    found: dict[str, Corruption] = {}
    if not column.nullable:
        found["missing value"] = lambda _: ""
    if column.kind in (Kind.INTEGER, Kind.NUMBER):
        found["text in a number"] = lambda value: f"__{value}__"
        if column.maximum is not None:
            above = 2 * abs(column.maximum) + 1
            found["out of bounds"] = lambda _: f"{above:.0f}"
        elif column.minimum is not None:
            below = column.minimum - 1
            found["out of bounds"] = lambda _: f"{below:.0f}"
        if column.kind is Kind.INTEGER:
            found["fraction of a whole number"] = lambda value: f"{value}.5"
    if column.kind is Kind.BOOLEAN:
        found["neither true nor false"] = lambda _: NONSENSE
    if column.kind in (Kind.DATE, Kind.TIME):
        found["impossible date"] = lambda _: "2025-02-30"
    if column.list_of is not None:
        list_of = column.list_of
        found["unknown list entry"] = lambda _: NONSENSE
        if across:
            found["list count"] = lambda value: list_of.separator.join(
                [*(() if value == list_of.empty else (value,)), list_of.items[0]]
            )
    elif column.categories or (column.pattern and not re.fullmatch(column.pattern, NONSENSE)):
        found["unknown category"] = lambda _: NONSENSE
    return found


def inject_errors(
    frame: pd.DataFrame, columns: Iterable[Column], table: str, *, count: int, random: np.random.Generator, across: bool
) -> tuple[pd.DataFrame, tuple[InjectedError, ...]]:
    """Return a copy of a valid table in which exactly `count` rows break the contract, and the errors injected.

    The kinds of error take turns; the row and the column of each are drawn at random. The first row stays valid. A
    duplicate key is that of an earlier, valid row, so a reader that goes from top to bottom refuses the later one. For
    `across` see `corruptions`.

    Raises:
        UsageError: there are fewer than `count + 1` rows.
    """
    if count >= len(frame) and count:
        raise UsageError(
            f"{number_of(count, 'row')} with errors cannot be among {number_of(len(frame), 'row')}",
            where="synthetic data",
        )
    columns = tuple(columns)
    ways: dict[str, list[tuple[Column, Corruption]]] = {}
    for column in columns:
        for kind, corrupt in corruptions(column, across=across).items():
            ways.setdefault(kind, []).append((column, corrupt))
    roles = {column.role: column.name for column in columns}
    # Without a key, rows are numbered: no two can have the same key.
    keys = [roles[each] for each in KEYS if each in roles and Role.KEY in roles]
    kinds = [*ways, *([DUPLICATE] if keys else [])]
    changed: dict[str, dict[int, str]] = {column.name: {} for column in columns}
    places = np.sort(random.permutation(np.arange(1, len(frame)))[:count])
    clean = np.setdiff1d(np.arange(len(frame)), places)
    errors = []
    for turn, place in enumerate(places.tolist()):
        kind = kinds[turn % len(kinds)]
        if kind == DUPLICATE:
            name = keys[0]
            original = clean[np.searchsorted(clean, place) - 1]
            for key in keys:
                changed[key][place] = frame[key].iloc[original]
        else:
            column, corrupt = ways[kind][int(random.integers(len(ways[kind])))]
            name = column.name
            changed[name][place] = corrupt(frame[name].iloc[place])
        # The header is line 1; no cell holds a line break.
        errors.append(InjectedError(table=table, line=place + 2, kind=kind, column=name, value=changed[name][place]))
    frame = frame.copy()
    for name, values in changed.items():
        cells = frame[name].copy()
        cells.iloc[list(values)] = list(values.values())
        frame[name] = cells
    return frame, tuple(errors)
