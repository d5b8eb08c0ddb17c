"""Seeded synthetic data that fills the contract, with planted dirt of known kind and place.

A Gaussian copula: each row has a hidden score, the rank of each column, or its distance from the middle, is correlated
with it as the column's `Simulate` hint says, and the label is the hidden score with noise, cut at the shares of the classes. A group keeps most of its hidden
score and of its label noise over its months, so that its rows leak into each other as those of real customers do.

A seed draws the same rows whatever the last day is; only their days move. So what is trained on them today is trained
on them tomorrow.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.columns import Role, Simulate
from ctcd.contract.spec import Column, Contract, Kind
from ctcd.errors import UsageError
from ctcd.files import replacing

MONTH_KEPT = 0.2
"""Probability that a group's month is in the data: of 8 months, a group then has 1 to 6, about 1.9 in the mean."""
GROUP_PART = 0.85
"""Share of a row's hidden variance that its group keeps over the months."""
DRIFT = 0.2
"""How far the hidden score, in its standard deviations, moves from the first month to the last."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One planted breach of the contract.

    Args:
        table: the table whose file it is in.
        line: line of the file, the header being line 1.
        kind: what kind of breach it is.
        column: the column that breaks the contract; for a duplicate key, the key column.
        value: the text that was planted.
    """

    table: str
    line: int
    kind: str
    column: str
    value: str


@dataclass(frozen=True, kw_only=True)
class SyntheticReport:
    """What was written.

    Args:
        features_file: path of the feature table's file.
        labels_file: path of the label table's file.
        rows: rows of each file, dirt included.
        groups: distinct groups.
        shares: share of each class, 0 to 1, before dirt was planted.
        planted: for each table, planted defects by kind.
        defects: every planted defect, by table and line.
    """

    features_file: str
    labels_file: str
    rows: int
    groups: int
    shares: dict[str, float]
    planted: dict[str, dict[str, int]]
    defects: tuple[Defect, ...]


class Tables(NamedTuple):
    """The two tables as text, ready to be written; an empty text is a missing value."""

    features: pd.DataFrame
    labels: pd.DataFrame


def generate(contract: Contract, *, rows: int, seed: int, end: date, months: int = 8, dirt: float = 0.005) -> Tables:
    """Return synthetic features and labels, one row of each for every key.

    The same arguments give the same data. For the places of the dirt see `write` or `plant`.

    Args:
        contract: what to fill.
        rows: rows of each table, at least 1.
        seed: seed of everything that is drawn.
        end: last day that may occur, in the last month.
        months: months covered, at least 1.
        dirt: share of the rows of each table, 0 to 1, that break the contract.

    Raises:
        UsageError: an argument is out of range, or the contract does not say how a column is simulated.
    """
    features, labels, _ = _generate(contract, rows=rows, seed=seed, end=end, months=months, dirt=dirt)
    return Tables(features, labels)


def write(
    contract: Contract, folder: Path, *, rows: int, seed: int, end: date, months: int = 8, dirt: float = 0.005
) -> SyntheticReport:
    """Write synthetic data as `<features_table>.csv.gz` and `<labels_table>.csv.gz`, and report what was planted where.

    A file is replaced in one step, and the same arguments give the same bytes. For the arguments see `generate`.

    Raises:
        UsageError: as `generate`, or the folder cannot be written.
    """
    features, labels, defects = _generate(contract, rows=rows, seed=seed, end=end, months=months, dirt=dirt)
    files = {contract.features_table: features, contract.labels_table: labels}
    paths = {table: folder / f"{table}.csv.gz" for table in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table, frame in files.items():
            _write_csv(frame, paths[table])
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror}", where=str(folder), hint="give a folder that can be written"
        ) from error
    clean = labels[contract.label.name][labels[contract.label.name].isin(contract.classes)]
    shares = clean.value_counts(normalize=True)
    planted: dict[str, dict[str, int]] = {table: {} for table in files}
    for defect in defects:
        planted[defect.table][defect.kind] = planted[defect.table].get(defect.kind, 0) + 1
    return SyntheticReport(
        features_file=str(paths[contract.features_table]),
        labels_file=str(paths[contract.labels_table]),
        rows=rows,
        groups=int(features[contract.group.name].nunique()),
        shares={name: float(shares.get(name, 0.0)) for name in contract.classes},
        planted=planted,
        defects=defects,
    )


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    text = frame.to_csv(index=False, lineterminator="\n").encode()
    with replacing(path) as unfinished:
        # A time of 0 keeps the bytes the same from run to run.
        unfinished.write_bytes(gzip.compress(text, compresslevel=6, mtime=0))


def _generate(
    contract: Contract, *, rows: int, seed: int, end: date, months: int, dirt: float
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[Defect, ...]]:
    for name, value, wrong in (
        ("rows", rows, rows < 1),
        ("months", months, months < 1),
        ("dirt", dirt, not 0 <= dirt < 1),
    ):
        if wrong:
            raise UsageError(f"{name} {value} is out of range", where="synthetic data")
    draw = _Draw(contract, rows=rows, seed=seed, end=end, months=months)
    features = pd.DataFrame({column.name: draw.text(column) for column in contract.feature_columns}, dtype=str)
    labels = pd.DataFrame({column.name: draw.text(column) for column in contract.label_columns}, dtype=str)
    count = round(dirt * rows)
    features, in_features = plant(
        features, contract.feature_columns, contract.features_table, count=count, random=draw.random("dirt in features")
    )
    labels, in_labels = plant(
        labels, contract.label_columns, contract.labels_table, count=count, random=draw.random("dirt in labels")
    )
    return features, labels, (*in_features, *in_labels)


class _Draw:
    """Draws the columns of one data set; each from a stream of its own, so that a changed hint changes its column only."""

    def __init__(self, contract: Contract, *, rows: int, seed: int, end: date, months: int) -> None:
        self.contract, self.rows, self.seed, self.end, self.months = contract, rows, seed, end, months
        self.columns = {column.name: column for column in (*contract.feature_columns, *contract.label_columns)}

    def random(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**32, zlib.crc32(purpose.encode())])

    @cached_property
    def days(self) -> NDArray[np.datetime64]:
        """Day of each row, ascending."""
        month = self.moments.astype(int)
        first = np.datetime64(self.end, "M") - (self.months - 1) + month
        start = first.astype("datetime64[D]")
        stop = np.minimum((first + 1).astype("datetime64[D]"), np.datetime64(self.end, "D") + 1)
        days: NDArray[np.datetime64] = start + ((self.moments - month) * (stop - start).astype(int)).astype(int)
        return days

    @cached_property
    def moments(self) -> Floats:
        """Moment of each row in months since the beginning of the first one, ascending; a month has the days up to `end`."""
        return self._when_and_who[0]

    @cached_property
    def group(self) -> Indices:
        """Group of each row, counted from 0."""
        return self._when_and_who[1]

    @cached_property
    def groups(self) -> int:
        return int(self.group.max()) + 1

    @cached_property
    def _when_and_who(self) -> tuple[Floats, Indices]:
        random = self.random("months of groups")
        # Twice as many groups as are needed in the mean, and some: running short is as good as impossible.
        groups = int(2 * self.rows / (MONTH_KEPT * self.months)) + 200
        group, month = np.nonzero(random.random((groups, self.months)) < MONTH_KEPT)
        moments = month[: self.rows] + random.random(self.rows)
        order = np.argsort(moments, kind="stable")
        # Groups without a row are closed up.
        return moments[order], np.unique(group[order], return_inverse=True)[1]

    @cached_property
    def hidden_group(self) -> Floats:
        """Hidden score of each group, standard normal."""
        return self.random("hidden score of groups").standard_normal(self.groups)

    @cached_property
    def hidden(self) -> Floats:
        """Hidden score of each row."""
        noise = self.random("hidden score of rows").standard_normal(self.rows)
        place = self.moments / self.months - 0.5
        kept = np.sqrt(GROUP_PART) * self.hidden_group[self.group]
        hidden: Floats = kept + np.sqrt(1 - GROUP_PART) * noise + DRIFT * place
        return hidden

    def ranks(self, column: Column, hint: Simulate) -> Floats:
        """Rank of each row, or of each group, between 0 and 1: uniform, and it or its fold correlated with the hidden score."""
        random = self.random(column.name)
        by_group = hint.varies == "group"
        hidden = self.hidden_group if by_group else self.hidden
        noise = random.standard_normal(len(hidden))
        if column.role is Role.LABEL:
            per_group = random.standard_normal(self.groups)[self.group]
            noise = np.sqrt(GROUP_PART) * per_group + np.sqrt(1 - GROUP_PART) * noise
        score = hint.signal * hidden + np.sqrt(1 - hint.signal**2) * noise
        ranks: Floats = (np.argsort(np.argsort(score)) + 0.5) / len(score)
        if hint.folded:
            ranks = 0.5 + ranks / 2 * random.choice([-1.0, 1.0], size=len(ranks))
        return ranks

    def numbers(self, column: Column) -> Floats:
        """Values of a numeric column, one for each row."""
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
        """Values of a categorical column, one for each row."""
        hint = self._hint(column)
        shares = hint.shares or dict.fromkeys(column.categories or (), 1.0)
        if not shares:
            raise _no_hint(column, "shares")
        weights = np.cumsum(list(shares.values()))
        picks = np.searchsorted(weights / weights[-1], self.ranks(column, hint))
        if hint.varies == "group":
            picks = picks[self.group]
        values = list(shares)
        return [values[pick] for pick in picks.tolist()]

    def lists(self, column: Column) -> list[str]:
        """Values of a list column, each with as many entries as the column that counts them says."""
        assert column.list_of is not None  # noqa: S101 - a column of kind LIST has it; narrows the type
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

    def distinct(self, column: Column, count: int) -> list[int]:
        """Distinct numbers within the bounds of a key column, in no order."""
        low = int(column.minimum or 0)
        return [low + int(number) for number in self.random(column.name).permutation(5 * count)[:count]]

    def text(self, column: Column) -> list[str]:
        """The column as text, one value for each row; an empty text is a missing value."""
        match column.role:
            case Role.KEY:
                return [str(number) for number in self.distinct(column, self.rows)]
            case Role.GROUP:
                numbers = self.distinct(column, self.groups)
                return [str(numbers[group]) for group in self.group.tolist()]
            case Role.EVENT_DATE:
                return [str(day) for day in np.datetime_as_string(self.days, unit="D")]
            case Role.PERSONAL:
                people = [_nobody(column, number) for number in range(self.groups)]
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
            case _:
                return self.categories(column)

    def _without_missing(self, column: Column, values: list[str]) -> list[str]:
        share = self._hint(column).missing
        if not share:
            return values
        gone = self.random(f"missing {column.name}").random(self.rows) < share
        return ["" if is_gone else value for is_gone, value in zip(gone.tolist(), values, strict=True)]

    def _hint(self, column: Column) -> Simulate:
        return column.simulate or Simulate()


def _no_hint(column: Column, what: str) -> UsageError:
    return UsageError(
        f"column {column.name} does not say how it is simulated",
        where="contract",
        hint=f"give it simulate=Simulate({what}=...)",
    )


def _nobody(column: Column, number: int) -> str:
    """Return a value that nobody has: the example's last digits counted up, or a name that says what it is."""
    example = str(column.example or "")
    digits = len(example) - len(example.rstrip("0123456789"))
    if digits:
        return f"{example[:-digits]}{number % 10**digits:0{digits}d}"
    return f"Synthetic Person {number}"


NONSENSE = "!@9#%8"
"""What a category or list turns into; real raw data holds this very text."""
DUPLICATE = "duplicate key"

Breach = Callable[[str], str]
"""Turns a value that keeps the contract into one that breaks it."""


def breaches(column: Column) -> Mapping[str, Breach]:
    """Return the ways in which one cell of a column can break the contract, by kind."""
    if column.role is Role.EVENT_DATE:
        return {"impossible date": lambda value: f"{value[:4]}-02-30"}
    if column.role not in (Role.FEATURE, Role.LABEL):
        return {}
    found: dict[str, Breach] = {}
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
    if column.list_of is not None:
        list_of = column.list_of
        found["unknown list entry"] = lambda _: NONSENSE
        found["list count"] = lambda value: list_of.separator.join(
            [*(() if value == list_of.empty else (value,)), list_of.items[0]]
        )
    elif column.categories or (column.pattern and not re.fullmatch(column.pattern, NONSENSE)):
        found["unknown category"] = lambda _: NONSENSE
    return found


def plant(
    frame: pd.DataFrame, columns: Iterable[Column], table: str, *, count: int, random: np.random.Generator
) -> tuple[pd.DataFrame, tuple[Defect, ...]]:
    """Return a copy of a clean table in which exactly `count` rows break the contract, and what was planted.

    Kinds take turns; the place and the column of each are drawn. The first row stays clean. The row whose key another
    one repeats is clean and stands before it: reading in order, the second is the bad one.

    Raises:
        UsageError: there are more defects than rows to carry them.
    """
    if count >= len(frame) and count:
        raise UsageError(f"{count} dirty rows do not fit into {len(frame)}", where="synthetic data")
    columns = tuple(columns)
    ways: dict[str, list[tuple[Column, Breach]]] = {}
    for column in columns:
        for kind, breach in breaches(column).items():
            ways.setdefault(kind, []).append((column, breach))
    keys = [column.name for column in columns if column.role in (Role.KEY, Role.GROUP, Role.EVENT_DATE)]
    kinds = [*ways, DUPLICATE]
    cells = {column.name: frame[column.name].to_numpy(dtype=object, copy=True) for column in columns}
    places = np.sort(random.permutation(np.arange(1, len(frame)))[:count])
    clean = np.setdiff1d(np.arange(len(frame)), places)
    defects = []
    for turn, place in enumerate(places.tolist()):
        kind = kinds[turn % len(kinds)]
        if kind == DUPLICATE:
            name = keys[0]
            original = clean[np.searchsorted(clean, place) - 1]
            for key in keys:
                cells[key][place] = cells[key][original]
        else:
            column, breach = ways[kind][int(random.integers(len(ways[kind])))]
            name = column.name
            cells[name][place] = breach(cells[name][place])
        # The header is line 1; no cell holds a line break.
        defects.append(Defect(table=table, line=place + 2, kind=kind, column=name, value=cells[name][place]))
    return pd.DataFrame(cells, dtype=str), tuple(defects)
