"""Raw tables written by hand: valid rows of text, with the changes that a test asks for, in files as they arrive."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from support.instance import CONTRACT

from ctcd.contract.spec import Column, names

Row = dict[str, str]


def _example(columns: Iterable[Column]) -> Row:
    return {column.name: "" if column in CONTRACT.personal else str(column.example) for column in columns}


def feature_row(number: int = 1, **changes: object) -> Row:
    """Return a valid row of the feature table."""
    return {
        **_example(CONTRACT.feature_columns),
        CONTRACT.key.name: str(number),
        **{k: str(v) for k, v in changes.items()},
    }


def label_row(number: int = 1, **changes: object) -> Row:
    """Return a valid row of the label table."""
    return {
        **_example(CONTRACT.label_columns),
        CONTRACT.key.name: str(number),
        **{k: str(v) for k, v in changes.items()},
    }


def feature_rows(count: int, *, first: int = 1, **changes: object) -> list[Row]:
    """Return valid rows whose keys are consecutive numbers."""
    return [feature_row(number, **changes) for number in range(first, first + count)]


def label_rows(count: int, *, first: int = 1, **changes: object) -> list[Row]:
    """Return valid rows whose keys are consecutive numbers."""
    return [label_row(number, **changes) for number in range(first, first + count)]


def write_csv(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] | None = None) -> Path:
    """Write rows to a CSV file, compressed if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = stream.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_features(folder: Path, rows: Sequence[Row], suffix: str = ".csv") -> Path:
    """Write the file of the feature table."""
    return write_csv(folder / f"{CONTRACT.features_table}{suffix}", rows, names(CONTRACT.feature_columns))


def write_labels(folder: Path, rows: Sequence[Row], suffix: str = ".csv") -> Path:
    """Write the file of the label table."""
    return write_csv(folder / f"{CONTRACT.labels_table}{suffix}", rows, names(CONTRACT.label_columns))


def write_tables(folder: Path, features: Sequence[Row], labels: Sequence[Row]) -> Path:
    """Write both files and return their folder."""
    write_features(folder, features)
    write_labels(folder, labels)
    return folder
