"""Instances of small contracts, written from a short description: the forms of tables that the engine has to carry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from textwrap import indent

from support.instance import FOLDER

from ctcd.contract.instance import Instance, load_instance
from ctcd.store import migrations

_FEATURES = '''"""A small contract."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from ctcd.contract import Contract, ListOf, Role, Simulate, column


class Rows(pa.DataFrameModel):
    """The rows of {name}."""

{columns}

{labels}
CONTRACT = Contract(
    name="{name}",
    version="1.0.0",
    features=Rows,
    {labels_argument}
    features_table="{name}_rows",
    {personal_argument}
    snapshot_table="{name}_snapshots",
    predictions_table="{name}_log",
    snapshot_date="snapshot_day",
    max_quarantine_share=0.05,
)
'''
_LABELS = '''
class Labels(pa.DataFrameModel):
    """The labels."""

{columns}


'''
_PAYLOAD = '''"""Its payload."""

from ctcd.contract import make_payload

from .features import CONTRACT

PAYLOAD = make_payload(CONTRACT)
'''
_OFF = '{ disabled = true, reason = "a small test has no use for it" }'


@dataclass(frozen=True, kw_only=True)
class Small:
    """A small contract.

    Args:
        columns: the columns of the feature table: the type, and the arguments of `column` beside meaning and unit.
        labels: those of the label table; empty: the feature table has the label.
        classes: the classes, as text.
        rows: number of rows of synthetic data.
        threshold: from which probability of the last one of two classes on that class is predicted; None: the more
            probable one is.
    """

    name: str
    columns: Mapping[str, tuple[str, str]]
    classes: tuple[str, ...]
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rows: int = 400
    threshold: float | None = None


def write_instance(small: Small, folder: Path) -> Instance:
    """Write the files of an instance, with its first migration, and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    source = _FEATURES.format(
        name=small.name,
        columns=_columns(small.columns),
        labels=_LABELS.format(columns=_columns(small.labels)) if small.labels else "",
        labels_argument=f'labels=Labels,\n    labels_table="{small.name}_labels",' if small.labels else "",
        personal_argument=f'personal_table="{small.name}_people",' if "PERSONAL" in str(small.columns) else "",
    )
    (folder / "features.py").write_text(source)
    (folder / "payload.py").write_text(_PAYLOAD)
    for name in ("training.toml", "service.toml"):
        copyfile(FOLDER / name, folder / name)
    monitoring = (FOLDER / "monitoring.toml").read_text()
    (folder / "monitoring.toml").write_text(monitoring.replace("min_class_share = 0.02", "min_class_share = 0.001"))
    (folder / "promotion.toml").write_text(_policy(small))
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    instance = load_instance(folder)
    scratch = folder / "scratch.db"
    migrations.revision(f"sqlite:///{scratch}", "first", instance.contract, versions)
    scratch.unlink()
    return instance


def _columns(columns: Mapping[str, tuple[str, str]]) -> str:
    lines = [
        f'{name}: Series[{kind}] = column(meaning="a column", unit="1", {arguments})'
        for name, (kind, arguments) in columns.items()
    ]
    return indent("\n".join(lines), "    ")


def _policy(small: Small) -> str:
    """Return a policy that a model passes if it works at all."""
    recall = "\n".join(f'"{name}" = {_OFF}' for name in small.classes)
    binary = f'[binary]\npositive = "{small.classes[-1]}"\nthreshold = {small.threshold}\nroc_auc = 0.5\n'
    return f"""
comparison = {_OFF}
slices = {_OFF}

[floors]
accuracy = 0.01
macro_f1 = 0.001

[floors.recall]
{recall}

[calibration]
max_ece = {_OFF}

[speed]
max_row_p95_ms = {_OFF}
max_batch_row_ms = {_OFF}

[artifact]
max_mb = 100.0

[contract]
version_must_match = true

[freshness]
max_age_days = 7

{f"{binary}average_precision = {_OFF}" if small.threshold else ""}
"""


def _number(low: float, high: float, *, signal: float = 0.7, more: str = "") -> tuple[str, str]:
    simulate = f"Simulate(quantiles=({low}, {high}), signal={signal})"
    return "float", f"minimum={low}, maximum={high}, example={(low + high) / 2}, {more}simulate={simulate}"


def _alias(name: str) -> str:
    return f"alias={name!r}, "


_TWO = ("no", "yes")
_LABEL = 'role=Role.LABEL, categories=("no", "yes"), example="no", simulate=Simulate(signal=0.95)'
ODD = ("car (new)", "car (used)", "1.5", "a|b", "c++", "[x]", "$5", "back\\slash")
_EXTRAS = 'ListOf(items=("wifi (5 ghz)", "a/c", "1.5 m"), empty="(none)", counted_by="how_many", separator="|")'
_NAMES = (
    "Größe (cm)",
    "2nd value",
    "class",
    "index",
    "json",
    "model_config",
    "base_dt",
    "_private",
    "a,b",
    "co:lon",
    "it's",
    'quote"d',
    "request",
    "self",
)
"""Names that a table may have and a Python class, a body or a statement may stumble over."""

BARE = Small(
    name="bare",
    columns={
        "width": _number(0, 10),
        "height": _number(-5, 5, signal=0.5),
        "good": ("bool", "role=Role.LABEL, example=True, simulate=Simulate(signal=0.95)"),
    },
    classes=("false", "true"),
    threshold=0.1,
)
"""Numbers and a label that is true or false, and nothing else; decided by a threshold."""
CODED = Small(
    name="coded",
    columns={
        "number": ("int", "role=Role.KEY, minimum=1, maximum=9_999, example=1"),
        "open_now": ("bool", "example=True, simulate=Simulate(signal=0.6)"),
        "asked": ("pd.BooleanDtype", "nullable=True, example=False, simulate=Simulate(missing=0.1)"),
        "code": ("int", "categories=(1, 2, 30), example=2, simulate=Simulate(signal=0.6)"),
        "other": ("pd.Int64Dtype", "categories=(0, 7), nullable=True, example=7, simulate=Simulate(missing=0.1)"),
        "count": (
            "pd.Int64Dtype",
            "minimum=0, maximum=9, nullable=True, example=3, simulate=Simulate(quantiles=(0, 9), missing=0.1)",
        ),
        "since": ("pa.DateTime", 'example="2024-02-29", simulate=Simulate(signal=0.6)'),
        "seen": (
            "pa.DateTime",
            'time_of_day=True, nullable=True, example="2025-03-01T12:30:00", simulate=Simulate(missing=0.1)',
        ),
    },
    labels={
        "number": ("int", "role=Role.KEY, minimum=1, maximum=9_999, example=1"),
        "stars": ("int", "role=Role.LABEL, categories=(0, 1, 2), example=1, simulate=Simulate(signal=0.95)"),
    },
    classes=("0", "1", "2"),
)
"""Truths, codes, dates and times; a key without group or date; classes that are whole numbers in a table of their own."""
NAMED = Small(
    name="named",
    columns={
        "group": ("int", f"role=Role.GROUP, {_alias('Kunden-Nr.')}minimum=1, maximum=99_999, example=7"),
        "person": ("str", f"role=Role.PERSONAL, {_alias('full name')}nullable=True, max_length=50, example='Jane Doe'"),
        **{f"x{place}": _number(0, 10, signal=0.4, more=_alias(name)) for place, name in enumerate(_NAMES)},
        "remark": ("str", 'max_length=20_000, example="any", simulate=Simulate(shares={"any": 1.0, "o\'clock": 1.0})'),
        "label": ("str", _LABEL + ", " + _alias("What is it")),
    },
    classes=_TWO,
)
"""Awkward names, and a text that no row of MariaDB can hold; a group and personal data without a key or a date."""
WORDS = Small(
    name="words",
    columns={
        "id": ("str", 'role=Role.KEY, max_length=20, example="row-1"'),
        "day": ("pa.DateTime", 'role=Role.EVENT_DATE, example="2025-01-01"'),
        "purpose": (
            "str",
            f'categories={ODD!r}, example="1.5", simulate=Simulate(signal=0.6)',
        ),
        "free": ("str", 'max_length=30, example="any", simulate=Simulate(shares={"é à": 1.0, "o\'clock": 1.0})'),
        "label": ("str", _LABEL),
    },
    classes=_TWO,
)
"""Categories only, with the characters of regular expressions; a text as key, and a date without a group."""
WIDE = Small(
    name="wide",
    columns={**{f"v{place}": _number(0, 1, signal=0.5) for place in range(200)}, "label": ("str", _LABEL)},
    classes=_TWO,
    rows=200,
)
"""200 numbers."""
MANY = Small(
    name="many",
    columns={
        "width": _number(0, 1, signal=0.9),
        "label": ("int", "role=Role.LABEL, categories=tuple(range(100)), example=0, simulate=Simulate(signal=0.95)"),
    },
    classes=tuple(map(str, range(100))),
    rows=1_200,
)
"""100 classes."""
LISTED = Small(
    name="listed",
    columns={
        "how_many": (
            "int",
            "minimum=0, maximum=4, example=2, simulate=Simulate(quantiles=(0, 4), signal=0.8, whole=True)",
        ),
        "extras": (
            "str",
            f'list_of={_EXTRAS}, max_length=200, example="a/c|1.5 m", simulate=Simulate()',
        ),
        "label": ("str", _LABEL),
    },
    classes=_TWO,
)
"""A list whose entries and separator have the characters of regular expressions."""
ALL = (BARE, CODED, NAMED, WORDS, WIDE, MANY, LISTED)
