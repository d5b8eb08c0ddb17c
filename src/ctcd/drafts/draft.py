"""Drafting a whole instance from one table of examples with their labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa

from ctcd.contract.columns import KEYS, Role, column_name
from ctcd.contract.instance import Instance, load_instance
from ctcd.contract.spec import INGESTED_ON, ROW_NUMBER, Contract, Kind, names
from ctcd.drafts.check import below, labelled, synthetic_frame, synthetic_scores, typed
from ctcd.drafts.columns import (
    ANY_TEXT,
    MAX_CLASSES,
    ONLY_DIGITS,
    Found,
    contract_names,
    examine,
    identifier,
    note_leaks,
    read,
)
from ctcd.drafts.features import SNAPSHOT_DATE, Identity, features_source
from ctcd.drafts.policies import Baselines, drafted_threshold, policies
from ctcd.drafts.signals import Signal, measure, stronger
from ctcd.errors import DataRefused, UsageError, number_of
from ctcd.promotion.policy import load_policy
from ctcd.store.rows import valid_rows
from ctcd.training.baselines import score_baselines
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import split_by_group

QUARANTINE, MAX_QUARANTINE = 0.02, 0.5
"""Drafted share of a delivery's rows, 0 to 1, that may be quarantined, and its maximum if the data require more."""
GROWTH = (1.5, 1.5, 3.0, 1_000.0)
"""Factors by which the signals of synthetic data are strengthened, in turn, until a model reaches the floors."""
NAMED = 3
"""Maximum number of columns that an error names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """A drafted instance.

    Args:
        files: content of the instance's files by path; without what is derived from the contract.
        rows: rows that were read.
        complete: whether all rows of the file were read.
        quarantined: rows that break the drafted contract.
    """

    name: str
    files: dict[str, str]
    columns: tuple[Found, ...]
    rows: int
    complete: bool
    quarantined: int
    notes: tuple[str, ...]
    baselines: Baselines


def draft(
    path: Path,
    *,
    label: str,
    key: str | None = None,
    group: str | None = None,
    date: str | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    seed: int = 42,
) -> Draft:
    """Return the draft of an instance for the data of a file.

    Args:
        path: CSV, CSV.gz or Parquet file with features and label.
        label: the column to be predicted.
        key: column that identifies the rows; by default the number of the row in the file.
        group: column with the entity that a row describes; by default each row is a separate one.
        date: column with the day that a row describes; by default the day of the ingest.
        name: name of the contract; by default derived from the file name.
        version: semantic version that the contract gets.
        seed: seed of the split by which the floors are measured; use that of the training to get the same holdout.

    Raises:
        UsageError: a named column does not exist, or cannot have the role.
        DataRefused: the file cannot be read, or has too few rows of a class.
    """
    given = {Role.LABEL: label, Role.KEY: key, Role.GROUP: group, Role.EVENT_DATE: date}
    roles = {role: header and column_name(header) for role, header in given.items()}
    cells, complete = read(path, column_name(label))
    _require_free(cells.column_names, roles)
    columns = _with_roles(examine(cells, contract_names(cells.column_names)), cells, roles, path, complete=complete)
    _require_different(cells, roles, complete=complete)
    target = next(each for each in columns if each.role is Role.LABEL)
    note_leaks(columns, target.values.astype("str").where(target.values.notna()))
    signals = measure(columns, target)
    called = identifier(name or path.name.partition(".")[0])
    taken = {source.casefold() for source in cells.column_names}
    days = (f"{SNAPSHOT_DATE}_{number}" if number > 1 else SNAPSHOT_DATE for number in count(1))
    day = next(each for each in days if each not in taken)
    identity = Identity(name=called, version=version, quarantine=QUARANTINE, snapshot_date=day)
    with TemporaryDirectory() as scratch:
        try:
            contract = _imported(features_source(identity, columns, signals), Path(scratch) / "first").contract
        except UsageError as error:
            named = error.what.startswith(("the name ", "the table name "))
            hint = "--name gives the contract another" if named else "change that in the file"
            raise UsageError(error.what, where=str(path), hint=hint) from error
        frame, refused = _valid(cells, contract)
        share = refused / len(cells)
        if share > MAX_QUARANTINE:
            raise _mostly_refused(columns, refused, len(cells), path)
        if share > QUARANTINE / 2:
            identity = replace(identity, quarantine=round(min(2 * share, MAX_QUARANTINE), 2))
        split = split_by_group(frame, contract, seed=seed)
        threshold = drafted_threshold(split, contract)
        scored = score_baselines(split, fit_encoder(split.train, contract), contract, threshold)
        baselines = Baselines(majority=scored["majority_class"], logistic=scored["logistic_regression"])
        files = policies(contract, columns, split, baselines, threshold)
        signals, learnable = _learnable(identity, columns, signals, files["promotion.toml"], Path(scratch))
    files["features.py"] = features_source(identity, columns, signals)
    notes = _notes(frame, contract, baselines)
    if identity.quarantine > QUARANTINE:
        broken = f"{refused:,} of {len(cells):,} rows break the drafted contract"
        notes.append(f"max_quarantine_share is drafted as {identity.quarantine:g} instead of {QUARANTINE:g}: {broken}")
    if not learnable:
        notes.append("synthetic data do not reach the floors: give more signal to columns (simulate=)")
    return Draft(
        name=identity.name,
        files=dict(sorted(files.items())),
        columns=tuple(columns),
        rows=len(cells),
        complete=complete,
        quarantined=refused,
        notes=tuple(notes),
        baselines=baselines,
    )


def _with_roles(
    columns: list[Found], cells: pa.Table, roles: Mapping[Role, str | None], path: Path, *, complete: bool
) -> list[Found]:
    """Give the named columns their roles, and check that they can have them."""
    by_source = {each.source: each for each in columns}
    given = [source for source in roles.values() if source is not None]
    if twice := next((source for source in given if given.count(source) > 1), None):
        raise UsageError("cannot have two roles", where=twice)
    for role, source in roles.items():
        if source is None:
            continue
        if source not in by_source:
            raise UsageError(f"there is no column {source!r}", where=str(path), hint=f"it has {', '.join(by_source)}")
        found = by_source[source]
        found.role, found.notes = role, [note for note in found.notes if "kept out" not in note]
        if role is not Role.LABEL and found.missing + found.malformed:
            raise UsageError(
                f"has missing or malformed values in {_rows(found.values.isna(), complete)}, "
                f"which the {role.value.replace('_', ' ')} may not have",
                where=source,
                hint="correct these rows or leave them out",
            )
        if role in (Role.KEY, Role.GROUP):
            _open(found, cells)
        if role is Role.EVENT_DATE and found.kind is not Kind.DATE:
            raise UsageError("does not hold dates such as 2025-01-31", where=source, hint="write dates in ISO 8601")
    for found in columns:
        if found.list_of and by_source[found.list_of.counted_by].role is not Role.FEATURE:
            _open(found, cells)
            found.pattern = ANY_TEXT
    _classify(by_source[str(roles[Role.LABEL])])
    return columns


def _classify(target: Found) -> None:
    """Make the values of a column the classes of the label."""
    if target.list_of:
        target.kind = Kind.CATEGORY
    if not 2 <= target.distinct <= MAX_CLASSES:
        raise UsageError(
            f"has {number_of(target.distinct, 'distinct value')}; a label has 2 to {MAX_CLASSES} classes",
            where=target.source,
            hint="give the column to predict: --label COLUMN",
        )
    whole = target.number and bool((target.values.dropna() % 1 == 0).all())
    if target.number and not whole:
        raise UsageError(
            "holds fractions, which cannot be classes",
            where=target.source,
            hint="turn its numbers into classes, such as ranges",
        )
    ordered = sorted(target.values.dropna().unique())
    target.categories = tuple(str(int(value)) if whole else str(value) for value in ordered)
    if whole:
        target.values = target.values.astype("Int64")
    target.pattern = target.max_length = target.list_of = None


def _open(found: Found, cells: pa.Table) -> None:
    """Allow values of a column that were not seen, as in a key."""
    found.categories = found.list_of = found.pattern = None
    if found.kind is not Kind.INTEGER:  # numbers of more than 53 bits are text, too
        found.kind, found.low, found.high = Kind.CATEGORY, None, None
        found.values = pd.Series(cells[found.source].to_pandas(), dtype="str")
        found.max_length = max(64, 2 * int(found.values.dropna().str.len().max()))
        # A spreadsheet shortens such numbers to 1.2346E+18, which would merge many identities.
        found.pattern = ONLY_DIGITS if found.values.dropna().str.fullmatch(ONLY_DIGITS).all() else None
    else:  # it may grow to the maximum of 32 bits, or to the largest integer that a float holds exactly
        found.low, found.high = min(0.0, found.low or 0.0), 2.0**31 - 1 if (found.high or 0.0) < 2**31 else 2.0**53


def _require_different(cells: pa.Table, roles: Mapping[Role, str | None], *, complete: bool) -> None:
    """Check that key, group and date together identify the rows if there is a key."""
    given = [source for role in KEYS if (source := roles[role]) is not None]
    if roles[Role.KEY] is None:
        return
    copies = cells.select(given).to_pandas().duplicated()
    if copies.any():
        others = [source for source in given if source != roles[Role.KEY]]
        together = f" together with {' and '.join(others)}" if others else ""
        raise UsageError(
            f"is not unique{together}, as a key must be: it repeats in {_rows(copies, complete)}",
            where=str(roles[Role.KEY]),
            hint="leave out the copies"
            + ("" if roles[Role.GROUP] else ", or give the column with --group in place of --key"),
        )


def _rows(chosen: pd.Series, complete: bool) -> str:
    """Return how many rows are chosen, and which is the first, unless only some rows of the file were read."""
    first = f" (first: row {int(chosen.to_numpy().argmax()) + 1:,})" if complete else ""
    return f"{number_of(int(chosen.sum()), 'row')}{first}"


def _require_free(sources: Iterable[str], roles: Mapping[Role, str | None]) -> None:
    """Check that no column has the name of a column that ingest adds."""
    added = {}
    if roles[Role.KEY] is None:
        added[ROW_NUMBER] = ", or name it with --key"
    if roles[Role.EVENT_DATE] is None:
        added[INGESTED_ON] = ", or name it with --date"
    for source in sources:
        if (name := source.casefold()) in added:
            raise UsageError(
                f"the store adds a column named {name}", where=source, hint=f"rename it in the file{added[name]}"
            )


def _imported(source: str, folder: Path) -> Instance:
    folder.mkdir()
    (folder / "features.py").write_text(source, encoding="utf-8")
    payload = (
        "from ctcd.contract import make_payload\n\nfrom .features import CONTRACT\n\nPAYLOAD = make_payload(CONTRACT)\n"
    )
    (folder / "payload.py").write_text(payload, encoding="utf-8")
    return load_instance(folder)


def _valid(cells: pa.Table, contract: Contract) -> tuple[pd.DataFrame, int]:
    """Return the valid labelled rows, and the number of invalid rows."""
    frame, failures = typed(cells, contract)
    valid = frame.iloc[valid_rows(len(frame), failures)]
    return labelled(valid, contract), len(frame) - len(valid)


def _mostly_refused(columns: Iterable[Found], refused: int, rows: int, path: Path) -> DataRefused:
    malformed = [each.source for each in sorted(columns, key=lambda each: -each.malformed) if each.malformed]
    more = f" and {number_of(len(malformed) - NAMED, 'other column')}" if len(malformed) > NAMED else ""
    because = f", because of {', '.join(malformed[:NAMED])}{more}" if malformed else ""
    clean = "pandas.read_csv(FILE, dtype=str, na_values='?').to_csv(NEW, index=False)"
    return DataRefused(
        f"{refused:,} of {rows:,} rows would be quarantined{because}",
        where=str(path),
        hint=f"empty the cells that mean a missing value, such as with {clean}",
    )


def _learnable(
    identity: Identity, columns: list[Found], signals: dict[str, Signal], promotion: str, scratch: Path
) -> tuple[dict[str, Signal], bool]:
    """Return signals with which a small model reaches the floors on synthetic data, and whether it does."""
    label = next(each.name for each in columns if each.role is Role.LABEL)
    for turn, factor in enumerate((1, *GROWTH)):
        signals = stronger(signals, label, factor)
        instance = _imported(features_source(identity, columns, signals), scratch / f"turn_{turn}")
        instance.promotion_policy.write_text(promotion, encoding="utf-8")
        policy, contract = load_policy(instance), instance.contract
        if not below(synthetic_scores(contract, synthetic_frame(contract), policy.threshold), policy):
            return signals, True
    return signals, False


def _notes(frame: pd.DataFrame, contract: Contract, baselines: Baselines) -> list[str]:
    notes = []
    columns = names((*contract.model_inputs, contract.label))
    if copies := int(frame.duplicated(columns).sum()):
        notes.append(f"rows that repeat another one in every feature and in the label: {copies:,}")
    if baselines.logistic.macro_f1 < baselines.majority.macro_f1 + 2 * baselines.chance:
        notes.append("a logistic regression learns nothing from the features: there may be nothing to learn")
    return notes
