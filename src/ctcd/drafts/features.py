"""The draft of `features.py`, formatted like code written by hand."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ctcd.contract.columns import Role
from ctcd.contract.spec import Kind
from ctcd.drafts.columns import Found
from ctcd.drafts.signals import MADE_UP, Signal
from ctcd.drafts.source import Call, Name, python

SNAPSHOT_DATE = "base_dt"
"""Column that a snapshot adds, unless the table has one of that name."""
RANKS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Ranks of the quantiles that describe a number."""
RAREST = 0.01
"""Smallest share of a category in synthetic data, so that a small sample has it."""
_TYPES = {
    Kind.INTEGER: ("int", "pd.Int64Dtype"),
    Kind.NUMBER: ("float", "float"),
    Kind.BOOLEAN: ("bool", "pd.BooleanDtype"),
    Kind.DATE: ("pa.DateTime", "pa.DateTime"),
    Kind.TIME: ("pa.DateTime", "pa.DateTime"),
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Name and version of a drafted contract, its maximum quarantined share, 0 to 1, and the date column of its snapshots."""

    name: str
    version: str
    quarantine: float
    snapshot_date: str = SNAPSHOT_DATE


def features_source(identity: Identity, columns: Iterable[Found], signals: Mapping[str, Signal]) -> str:
    """Return the source of `features.py` for the columns of a table, one of which is the label."""
    columns = list(columns)
    label = next(each for each in columns if each.role is Role.LABEL)
    personal = any(each.role is Role.PERSONAL for each in columns)
    title = "".join(word.capitalize() for word in identity.name.split("_"))
    lists = {each.name: each.name.upper() for each in columns if each.kind is Kind.LIST}
    declarations = [_declaration(each, label, signals.get(each.name), lists) for each in columns]
    pandas = "import pandas as pd\n" if any("pd." in text for text in declarations) else ""
    names = ["Contract", *(["ListOf"] if lists else []), "Role", "Simulate", "column"]
    constants = "".join(
        f"{constant} = {python(_list_of(each), before=len(constant) + 3)}\n\n"
        for each in columns
        if (constant := lists.get(each.name))
    )
    contract = Call(
        "Contract",
        {
            "name": identity.name,
            "version": identity.version,
            "features": Name(f"{title}Row"),
            "features_table": identity.name,
            "labels_table": f"{identity.name}_labels",
            "personal_table": f"{identity.name}_personal" if personal else None,
            "snapshot_table": f"{identity.name}_training",
            "predictions_table": f"{identity.name}_predictions",
            "snapshot_date": identity.snapshot_date,
            "max_quarantine_share": identity.quarantine,
            "draft": "roles and personal columns; floors, slices and speed of promotion.toml",
        },
    )
    return (
        '"""The data contract: the columns of the feature store. Everything else that uses columns is derived from it."""\n\n'
        f"{pandas}import pandera.pandas as pa\nfrom pandera.typing import Series\n\n"
        f"from ctcd.contract import {', '.join(names)}\n\n{constants}\n"
        f"class {title}Row(pa.DataFrameModel):\n"
        f'    """A row of {identity.name}.\n\n'
        "    A `draft` says what has to be confirmed; delete it when that is done. Drafted bounds are the range of the data,\n"
        '    extended on both sides by its width, but not across zero.\n    """\n\n'
        f"{''.join(declarations)}\n\nCONTRACT = {python(contract, exploded=True)}\n"
    )


def _declaration(found: Found, label: Found, signal: Signal | None, lists: Mapping[str, str]) -> str:
    role = None if found.role is Role.FEATURE else Name(f"Role.{found.role.name}")
    drafts = ["meaning"]
    if found.protected and found.role is Role.FEATURE:
        drafts.append("protected?")
    if found.number and found.role is Role.FEATURE:
        drafts += ["unit", f"bounds ({plain(found.values.min())} to {plain(found.values.max())} in the data)"]
    if found.categories and found is not label:
        drafts.append("closed set of categories")
    if found.role is Role.PERSONAL:
        drafts.append("role")
    nullable = bool(found.missing) or found.role is Role.PERSONAL
    kind = Kind.TEXT if found.role is Role.PERSONAL else found.kind
    arguments: dict[str, Any] = {
        "role": role,
        "meaning": found.name.replace("_", " "),
        "unit": _unit(found, kind),
        "minimum": _number(found.low, found) if kind is not Kind.TEXT else None,
        "maximum": _number(found.high, found),
        "categories": _categories(found) if kind is not Kind.BOOLEAN else None,
        "pattern": None if found.role in (Role.PERSONAL, Role.LABEL) else found.pattern,
        "max_length": found.max_length,
        "time_of_day": True if kind is Kind.TIME else None,
        "list_of": Name(lists[found.name]) if found.name in lists else None,
        "nullable": nullable or None,
        "alias": found.source if found.source != found.name else None,
        "example": _example(found),
        "simulate": _simulate(found, signal, lists),
        "draft": ", ".join(drafts),
    }
    if kind is Kind.TEXT:
        arguments |= {"maximum": None, "max_length": found.max_length or 64}
    dtype = _TYPES.get(kind, ("str", "str"))[nullable]
    return f"    {found.name}: Series[{dtype}] = {python(Call('column', arguments), indent=4, exploded=True)}\n"


def _unit(found: Found, kind: Kind) -> str:
    if kind in (Kind.DATE, Kind.TIME):
        return "ISO 8601 date" if kind is Kind.DATE else "ISO 8601 date and time"
    return "?" if found.number and found.role is Role.FEATURE else "1"


def _categories(found: Found) -> tuple[Any, ...] | None:
    if found.categories is None or not found.number:
        return found.categories
    return tuple(int(each) for each in found.categories)


def _number(value: float | None, found: Found) -> float | int | None:
    if value is None or found.categories:
        return None
    return int(value) if float(value).is_integer() else value


def plain(value: Any) -> str:
    """Return a number in few characters, without an exponent if it is large."""
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


def rounded(value: float, digits: int = 4) -> float | int:
    """Return a number with a few significant digits; an integer if it is one."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _example(found: Found) -> Any:
    """Return a typical value instead of that of one row, which may be personal data."""
    if found.role is Role.PERSONAL:
        return None
    values = found.values.dropna()
    usual = values.mode().iloc[0]
    example: Any
    if found.role in (Role.KEY, Role.GROUP):
        example = 1 if found.number else re.sub(r"\w", "0", str(usual))
    elif found.kind is Kind.DATE:
        example = f"{usual:%Y-%m-%d}"
    elif found.kind is Kind.TIME:
        example = f"{values.median():%Y-%m-%dT%H:00:00}"
    elif found.kind is Kind.BOOLEAN:
        example = usual == "true"
    elif found.number and found.categories:
        example = int(usual)
    elif found.number:
        middle = float(values.quantile(0.5, interpolation="nearest"))
        example = int(middle) if found.kind is Kind.INTEGER else float(rounded(middle))
    elif found.categories or found.list_of:
        example = str(usual)
    else:
        example = next(iter(MADE_UP))
    return example


def _simulate(found: Found, signal: Signal | None, lists: Mapping[str, str]) -> Call | None:
    if signal is None:
        return None
    quantiles: tuple[float, ...] = ()
    if found.kind in (Kind.DATE, Kind.TIME):
        days = (found.values - pd.Timestamp(0)).dt.days
        quantiles = tuple(int(days.quantile(rank)) for rank in RANKS)
    elif found.number and not found.categories:
        low, high = found.low or 0.0, found.high or 0.0
        measured = (rounded(float(found.values.quantile(rank))) for rank in RANKS)
        quantiles = tuple(
            min(max(value, math.ceil(low)), high) if value < low else min(value, high) for value in measured
        )
    shares = {name: max(RAREST, round(share, 3)) for name, share in signal.shares.items()}
    return Call(
        "Simulate",
        {
            "quantiles": quantiles,
            "shares": (shares or None) if found.name not in lists else None,
            "signal": signal.value or None,
            "missing": max(0.001, round(found.missing, 3)) if found.missing else None,
        },
    )


def _list_of(found: Found) -> Call:
    assert found.list_of is not None  # noqa: S101 - narrows the type: a column of kind LIST has it
    facts = vars(found.list_of)
    return Call("ListOf", facts | {"separator": facts["separator"] if facts["separator"] != "," else None})
