"""Infers the columns of a table from their values: kind, bounds, categories, and anything suspicious."""

import keyword
import math
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel

from ctcd.contract.columns import ListOf, Role
from ctcd.contract.rules import MISSING
from ctcd.contract.spec import Column, Kind
from ctcd.errors import DataRefused, UsageError, number_of
from ctcd.store.conversion import convert, trim
from ctcd.store.sources import SUFFIXES, Source, regular, suffix_of


def words(name: str) -> frozenset[str]:
    """Return the words of a column's name."""
    return frozenset(identifier(name).split("_"))


def identifier(text: str) -> str:
    """Return a name in lower case with underscores, in ASCII, that begins with a letter."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", ascii_only)
    name = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return f"column_{name}".rstrip("_") if not name[:1].isalpha() else name


MAX_ROWS = 200_000
"""Maximum number of rows that are analysed."""
SEPARATORS = ";\t|"
"""Characters that separate the fields of a table if its header has no comma."""
CHUNK = 50_000
"""Rows read at a time."""
MAX_CLASSES = 100
MAX_MALFORMED = 0.1
"""Maximum share, 0 to 1, of malformed values in a column that is not text."""
CLOSED = 30
"""Maximum number of distinct values of a text column that is drafted as a closed set."""
COPIES = 10
"""Minimum average number of rows for each value of a closed set."""
PERSONAL = words(
    "name firstname lastname forename surname fullname email mail phone telephone mobile tel passport address street zip"
    " zipcode postcode postal birth birthday birthdate dob dateofbirth iban social"
)
"""Words in names of columns that may hold personal data."""
PROTECTED = words(
    "age sex gender race ethnicity ethnic religion nationality citizenship foreign disability marital maritl orientation"
    " pregnant"
)
"""Words in names of columns with protected characteristics."""
NUMBERING = words("id ids no number nr key code index row uuid guid unnamed")
"""Words in names of columns that may number the rows."""
WHOM = words("client patient user person member account subject employee student household")
"""Words for entities that several rows may be about."""
CODE = re.compile(r"[A-Za-z]{0,4}[-_ ]?[0-9]{4,}")
"""An identifier of a person or thing: a number with a prefix of letters or with leading zeros."""
PADDED = "^[+-]?0[0-9]+$"
"""A number with leading zeros, which are part of a code."""
PERSONAL_TEXT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|\d{3}-\d{2}-\d{4}")
"""An e-mail address, or a US social security number."""
WRITTEN = {
    r"[+-]?(\d+(\.\d{3})*,\d+|\d{1,3}(,\d{3})+(\.\d+)?)": "numbers with commas: write 1234.5",
    r"(\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|\d{4}[./]\d{1,2}[./]\d{1,2})": "dates: write them as 2025-01-31",
}
"""Notations that are read as text, by their pattern, and how to write them instead."""
DIGITS, FEW_DIGITS = 8, 5
SHARE = 0.85
"""Integers may identify persons if this share of them, 0 to 1, is distinct and has the same length of at least `DIGITS`
digits; with `FEW_DIGITS` or more they may as well be amounts."""
ANY_TEXT = r"\S(?:[\s\S]*\S)?"
"""Pattern of an open set; unlike `.`, `[\\s\\S]` takes line breaks too, in every dialect."""
ONLY_DIGITS = "[0-9]+"
"""Pattern of numeric identifiers that are too large for an integer."""
RESERVED = frozenset(
    {"bool", "column", "float", "int", "pa", "pd", "str", "index", "base_dt", "row", "entity", "day", "data"}
)
"""Names that have another meaning in a drafted `features.py` or in the tables of the store."""


@dataclass(kw_only=True, eq=False)
class Found:
    """What was inferred about one column.

    Args:
        source: name in the file.
        name: name in the contract, an identifier in lower case.
        values: the values; missing and malformed ones are null; shape (rows,).
        missing: share of missing values, 0 to 1.
        malformed: number of values that are not of the column's kind.
        low: lower bound of a number: the lowest value minus a margin; `high` likewise.
        categories: the values of a closed set of text.
        pattern: regular expression of an open set.
        max_length: maximum number of characters of an open set.
        notes: remarks for the user.
    """

    source: str
    name: str
    role: Role = Role.FEATURE
    kind: Kind
    values: "pd.Series[Any]"
    missing: float = 0.0
    malformed: int = 0
    distinct: int = 0
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None
    pattern: str | None = None
    max_length: int | None = None
    list_of: ListOf | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in (Kind.INTEGER, Kind.NUMBER)

    @property
    def protected(self) -> bool:
        """Whether the name suggests a protected characteristic."""
        return bool(PROTECTED & words(self.name))


def read(path: Path, label: str = "") -> tuple[pa.Table, bool]:
    """Return rows of a CSV, CSV.gz or Parquet file as trimmed text, and whether these are all rows.

    For a large file, it is every second, fourth, eighth ... row, because the file may be sorted by class.

    Raises:
        UsageError: the file name has an extension that ingest does not support, or it is no regular file.
        DataRefused: the file cannot be read, has another separator than commas, has no rows, or a row has another
            number of fields than the header; or a class of the label has none of the rows.
    """
    if not suffix_of(path):
        ends = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise UsageError(
            f"the name of a table ends in {ends}",
            where=str(path),
            hint="export it as CSV or Parquet; if it is one, rename it",
        )
    source, cells, rows, step, classes = Source(path.stem, regular(path)), pa.table({}), 0, 1, set[str | None]()
    if len(source.header) == 1 and (other := next((each for each in SEPARATORS if each in source.header[0]), "")):
        raise DataRefused(
            f"its fields are separated by {other!r}, not by commas",
            where=str(path),
            hint=f"pandas.read_csv(FILE, sep={other!r}, dtype=str).to_csv(NEW, index=False) writes commas; "
            "for decimal commas, give it decimal=',' in place of dtype=str",
        )
    for chunk in source.chunks(CHUNK):
        if chunk.malformed:
            record = chunk.malformed[0]
            raise DataRefused(
                f"line {record.first} has {number_of(len(record.cells), 'field')}, the header {len(source.columns)}",
                where=str(path),
                hint="fields are separated by commas, texts with commas are quoted",
            )
        if label in chunk.cells.column_names and len(classes) <= MAX_CLASSES:
            classes.update(trim(chunk.cells.select([label]))[label].unique().to_pylist())
        taken = _each(step, trim(chunk.cells), first=-rows % step)
        cells = pa.concat_tables([cells, taken]) if rows else taken
        rows += len(chunk.cells)
        while len(cells) > MAX_ROWS:
            cells, step = _each(2, cells), 2 * step
    if not rows:
        raise DataRefused("the file has no rows", where=str(path))
    if len(classes) <= MAX_CLASSES and (lost := classes - {None, *(cells[label].to_pylist() if classes else [])}):
        few = f"the class {min(map(str, lost))} has too few of the {rows:,} rows to be among the {len(cells):,} that are read"
        raise DataRefused(few, where=label, hint="leave out the rows of rare classes")
    return cells, step == 1


def _each(step: int, cells: pa.Table, first: int = 0) -> pa.Table:
    return cells if step == 1 else cells.take(pa.array(range(first, len(cells), step), pa.int64()))


def contract_names(sources: Collection[str]) -> dict[str, str]:
    """Return a unique name for each column of a file that does not conflict with Python or a library."""
    chosen: dict[str, str] = {}
    for source in sources:
        name = identifier(source)
        taken = keyword.iskeyword(name) or hasattr(pandera.DataFrameModel, name) or hasattr(BaseModel, name)
        if taken or name in RESERVED or name.startswith("model_"):
            name = f"{name}_value"
        base, number = name, 2
        while name in chosen.values():
            name, number = f"{base}_{number}", number + 1
        chosen[source] = name
    return chosen


def examine(cells: pa.Table, names: dict[str, str]) -> list[Found]:
    """Return what can be inferred about each column."""
    found = [_examined(cells, source, name) for source, name in names.items()]
    _find_lists(found)
    _note_copies(found)
    return found


def _examined(cells: pa.Table, source: str, name: str) -> Found:
    text = cells.select([source])
    filled = len(text) - text[source].null_count
    found = Found(source=source, name=name, kind=Kind.CATEGORY, values=text[source].to_pandas().astype("str"))
    found.missing = 1 - filled / len(text)
    padded, odd = bool(pc.any(pc.match_substring_regex(text[source], PADDED)).as_py()), ""
    for kind in () if padded else (Kind.INTEGER, Kind.NUMBER, Kind.DATE, Kind.TIME):
        frame, failures = convert(text, [_as(kind, source)])
        bad = sorted({row for failure in failures for row in failure.rows.tolist()})
        token = _token(found.values.iloc[bad])
        if len(bad) <= MAX_MALFORMED * filled and len(bad) < filled:
            odd = token and f" ({token!r})"
            values = frame[source].astype("float64") if kind in (Kind.INTEGER, Kind.NUMBER) else frame[source]
            values.iloc[bad] = None
            found.kind, found.values, found.malformed = kind, values, len(bad)
            break
        if token and not odd and len(bad) < filled:
            odd = f"{token!r} is {len(bad) / len(text):.1%} of the values, the others are of kind {kind.value}: if it means a missing value, empty those cells"
    found.distinct = int(found.values.nunique())
    named = bool(PERSONAL & words(found.name)) and found.distinct > 2
    if named or (found.kind is Kind.CATEGORY and found.values.dropna().str.fullmatch(PERSONAL_TEXT).mean() > 0.5):
        found.role = Role.PERSONAL
        found.notes.append("looks personal: stored apart and kept out of the model")
    elif found.malformed:
        found.notes.append(
            f"ingest quarantines {number_of(found.malformed, 'row')} whose value is no {found.kind.value}{odd}"
        )
    elif odd or padded:
        found.notes.append(odd or "has leading zeros: text, not a number")
    elif found.kind is Kind.CATEGORY and (notation := _notation(found.values.dropna())):
        found.notes.append(f"is read as text, but looks like {notation}")
    if found.number:
        _bound(found)
    elif found.kind is Kind.CATEGORY:
        _describe_text(found)
    if found.role is Role.FEATURE and _identifies(found):
        found.role = Role.PERSONAL
        found.notes.append("looks like whom or what a row is about: kept out of the model; name it with --group if so")
    if not filled:
        found.role = Role.PERSONAL
        found.notes.append("has no value at all: kept out of the model")
    elif found.distinct == 1 and filled == len(text):
        found.notes.append("constant")
    return found


def _token(texts: "pd.Series[Any]") -> str:
    """Return the text that nearly all cells have; empty if there is none, or if it occurs only once, as a secret may."""
    counts = texts.value_counts()
    return str(counts.index[0]) if len(texts) and counts.iloc[0] > max(1, 0.9 * len(texts)) else ""


def _notation(texts: "pd.Series[Any]") -> str:
    """Return what most texts look like, and how to write it; empty if that is nothing known."""
    return next((what for pattern, what in WRITTEN.items() if texts.str.fullmatch(pattern).mean() > 0.5), "")


def _identifies(found: Found) -> bool:
    """Return whether values seem to identify persons or things with several rows each."""
    if found.kind not in (Kind.INTEGER, Kind.CATEGORY) or found.distinct <= CLOSED:
        return False
    last = found.name.rpartition("_")[2]
    if found.name in WHOM or last in ("uuid", "guid") or last in ("id", *(f"{whom}id" for whom in WHOM)):
        return True
    values = found.values.dropna()
    return _one_length(values, DIGITS + 1) if found.number else bool(values.str.fullmatch(CODE).mean() > SHARE)


def _as(kind: Kind, name: str) -> Column:
    return Column(name=name, kind=kind, written=kind, role=Role.FEATURE, meaning="", unit="", nullable=True)


def _bound(found: Found) -> None:
    values = found.values.dropna()
    if values.empty:
        return
    found.low, found.high = margins(float(values.min()), float(values.max()))
    whole = bool((values % 1 == 0).all())  # also numbers of more than 53 bits, which are of no integer column
    if whole and set(values.unique()) <= {0.0, 1.0}:
        found.low, found.high = 0.0, 1.0
    steps = np.diff(values.to_numpy())
    numbered = whole and len(values) > 2 and (bool(np.all(steps == steps[0])) or bool(NUMBERING & words(found.name)))
    if numbered and found.distinct == len(values) == len(found.values):
        found.role = Role.PERSONAL
        found.notes.append("numbers the rows: kept out of the model; name it with --key if it is the key")
    elif (
        whole
        and found.role is Role.FEATURE
        and found.distinct > SHARE * len(values)
        and _one_length(values, FEW_DIGITS)
    ):
        alike = "numbers, almost none of them twice, as persons have:"
        if _one_length(values):
            found.role = Role.PERSONAL
            found.notes.append(f"long {alike} kept out of the model")
        else:
            found.notes.append(f"{alike} if they are no amounts, give the column the role personal")


def _one_length(values: "pd.Series[Any]", least: int = DIGITS) -> bool:
    lengths = np.log10(values.clip(lower=1)).astype("int64") + 1
    usual = lengths.mode().iloc[0]
    return bool(usual >= least and (lengths == usual).mean() > SHARE)


def margins(lowest: float, highest: float) -> tuple[float, float]:
    """Return plausible bounds: the range of the values, extended by its width on both sides and rounded outwards.

    The bounds do not cross zero if the values have only one sign.
    """
    span = highest - lowest or abs(highest) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    low = 0.0 if lowest >= 0 > lowest - span else lowest - span
    high = 0.0 if lowest < 0 and highest <= 0 < highest + span else highest + span
    digits = max(0, -round(math.log10(step)))
    return round(math.floor(low / step) * step, digits), round(math.ceil(high / step) * step, digits)


def _describe_text(found: Found) -> None:
    values = found.values.dropna()
    if values.empty:
        return
    if set(values.str.lower().unique()) == {"false", "true"}:
        found.kind, found.values = Kind.BOOLEAN, found.values.str.lower()
        return
    counts, longest = values.value_counts(), int(values.str.len().max())
    if found.role is Role.FEATURE and found.distinct > max(CLOSED, len(values) / 2):
        found.role = Role.PERSONAL
        found.notes.append("nearly every row has a text of its own: kept out of the model")
    closed = found.distinct <= CLOSED and len(values) >= COPIES * found.distinct and MISSING not in counts
    if found.role is Role.FEATURE and closed:
        found.categories = tuple(counts.index)
        return
    found.max_length = max(64, 2 * longest)
    found.pattern = ANY_TEXT


def _find_lists(columns: list[Found]) -> None:
    """Turn text columns into list columns if another column contains the number of entries."""
    counters = [each for each in columns if each.kind is Kind.INTEGER and each.role is Role.FEATURE]
    for found in columns:
        if found.kind is not Kind.CATEGORY or found.role is not Role.FEATURE:
            continue
        for separator in (",", ";", "|"):
            entries = found.values.dropna().str.split(separator)
            sizes = entries.map(len)
            if entries.empty or (sizes > 1).mean() < MAX_MALFORMED:
                continue
            for counter in counters:
                counted = counter.values.loc[entries.index]
                empty = entries[counted == 0].str.join(separator).unique()
                items = sorted({item.strip().casefold() for each in entries[counted > 0] for item in each})
                if (
                    len(empty) == 1
                    and len(items) <= CLOSED
                    and "" not in items
                    and (sizes[counted > 0] == counted[counted > 0]).mean() > 0.95
                ):
                    found.kind, found.categories, found.pattern = Kind.LIST, None, None
                    found.max_length = max(64, 2 * int(found.values.str.len().max()))
                    found.list_of = ListOf(
                        items=tuple(items), empty=str(empty[0]), counted_by=counter.source, separator=separator
                    )


def _note_copies(columns: list[Found]) -> None:
    """Note columns with the same order of rows as an earlier one: a copy, or the same quantity in another unit."""
    seen: dict[bytes, str] = {}
    for found in columns:
        if found.distinct < 2:
            continue
        ranks: NDArray[np.intp] = pd.factorize(found.values, sort=True)[0]
        first = seen.setdefault(ranks.tobytes(), found.source)
        if first != found.source:
            found.notes.append(f"says the same as {first}")


def note_leaks(columns: list[Found], label: "pd.Series[str]") -> None:
    """Note columns that predict the label nearly perfectly: they may have been recorded after it."""
    from sklearn.tree import DecisionTreeClassifier

    known = label.notna().to_numpy()
    truth = label[known].to_numpy(dtype=object)
    half = np.arange(len(truth)) % 2 == 0
    most = pd.Series(truth).value_counts(normalize=True).iloc[0]
    for found in columns:
        if found.role is not Role.FEATURE or found.distinct < 2:
            continue
        # Ranks of the values, because trees use single precision, in which large numbers overflow or become equal.
        x = pd.factorize(found.values, sort=True)[0][known].reshape(-1, 1)
        tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).fit(x[half], truth[half])
        right = float((tree.predict(x[~half]) == truth[~half]).mean())
        if right > max(0.97, (1 + most) / 2):
            found.notes.append(f"predicts {right:.1%} of the labels alone: is it known before the label is?")
