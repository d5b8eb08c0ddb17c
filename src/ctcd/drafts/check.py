"""Fast check of an instance before anything is trained: its parts and its synthetic data are consistent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pydantic import ValidationError

from ctcd.contract.instance import Instance
from ctcd.contract.policy_file import in_one_line, read_toml
from ctcd.contract.schemas import table_schema
from ctcd.contract.service_levels import load_service_levels
from ctcd.contract.spec import Column, Contract, Kind, names
from ctcd.contract.traffic import load_traffic
from ctcd.contract.validation import Failure
from ctcd.derived import synthetic
from ctcd.derived.lock import CANONICAL
from ctcd.errors import CtcdError, DataRefused, UsageError, number_of
from ctcd.model.metrics import Scores, scores
from ctcd.model.threshold import Threshold
from ctcd.model.trees import CatBoost, TreeParams
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.promotion.policy import Disabled, Policy, load_policy
from ctcd.store.conversion import trim
from ctcd.store.rows import check as check_rows
from ctcd.store.tables import KEY_BYTES, build_tables, long_keys
from ctcd.training.grid import load_profile
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import split_by_group
from ctcd.training.trial import fit_trial, labelled_part, prepared

ROWS = 3_000
"""Rows of synthetic data that are checked."""
TREES = TreeParams(iterations=60, early_stopping_rounds=20, learning_rate=0.3, depth=4, l2_leaf_reg=3.0, rsm=1.0)
"""Parameters of a model that trains in about a second."""
EFFORT = 2_000
"""Columns times classes above which each split considers a sample of the columns, to keep the check fast."""
COST_OF_CATEGORIES = 20
"""Number of numeric columns that cost as much as one column of categories."""
PROFILES, SHAPES = ("baseline", "fast", "full"), ("reference", "smoke")
"""Profiles and load shapes that commands, DAGs and workflows name."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with an instance.

    Args:
        where: file with column or key.
        what: the rule that is broken.
        hint: how to solve it; empty if that follows from the rule.
    """

    where: str
    what: str
    hint: str = ""


def problems(instance: Instance) -> tuple[Problem, ...]:
    """Return the problems of an instance; checks that depend on an earlier, failed one are skipped.

    It checks the name against the other instances, the policies by themselves and against the contract, the payload
    against the examples, categories and bounds, and synthetic data against the contract, the floors and the minimum
    share of a class. `load_instance` has checked the contract itself.
    """
    found: list[Problem] = []
    with _noted(found, "promotion.toml"):
        load_policy(instance)
    with _noted(found, "training.toml"):
        for name in dict.fromkeys((*read_toml(instance.training_profiles), *PROFILES)):
            with _noted(found, "training.toml"):
                load_profile(name, instance)
    with _noted(found, "service.toml"):
        levels = load_service_levels(instance)
        for name in SHAPES:
            with _noted(found, "service.toml"):
                levels.shape(name)
    with _noted(found, "monitoring.toml"):
        load_tolerances(instance)
    with _noted(found, "traffic.toml"):
        load_traffic(instance.traffic_policy, instance.contract)
    with _noted(found, "features.py, the name"):
        same = namesakes(instance.folder, instance.contract.name)
        found += [Problem(where="features.py, the name", what=what) for what in same]
    found += _payload_problems(instance)
    for table, (column, size) in long_keys(build_tables(instance.contract)).items():
        what = f"its key takes up to {size:,} bytes, {KEY_BYTES:,} are allowed: lower max_length of {column.name}"
        found.append(Problem(where=f"table {table}", what=what))
    if not found:
        with _noted(found, "synthetic data"):
            found += _synthetic_problems(instance)
    return tuple(found)


@contextmanager
def _noted(found: list[Problem], where: str) -> Iterator[None]:
    try:
        yield
    except CtcdError as error:
        found.append(Problem(where=error.where or where, what=error.what, hint=error.hint))
    except (TypeError, ValueError, OSError) as error:
        found.append(Problem(where=where, what=str(error)))


def namesakes(folder: Path, name: str) -> list[str]:
    """Return a problem for each other instance beside a folder that has this name, according to the locks.

    Raises:
        UsageError: a lock has no name.
    """
    others = sorted(folder.parent.glob("contracts*")) if folder.name.startswith("contracts") else ()
    found = []
    for lock in (other / "lock" / CANONICAL for other in others if other != folder):
        try:
            same = lock.is_file() and json.loads(lock.read_text(encoding="utf-8"))["name"] == name
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError("has no name of a contract", where=str(lock), hint="restore or delete it") from error
        if same:
            found.append(f"{lock.parents[1].name} has the name {name!r}, too: give each instance its own")
    return found


def _payload_problems(instance: Instance) -> Iterator[Problem]:
    """Yield what the payload refuses of the example, the categories and entries, and the bounds."""
    row: Any = instance.payload.row
    example: dict[str, Any] = {column.name: column.example for column in instance.contract.request_columns}
    refused = _refusal(row, example)
    if refused:
        yield Problem(where="features.py, the examples", what=f"the payload refuses them: {refused}")
        return
    values = {column.name: _bounds(column) for column in instance.contract.model_inputs}
    for place in range(max(map(len, values.values()), default=0)):
        of_each = {name: some[place] for name, some in values.items() if place < len(some)}
        if not _refusal(row, example | of_each):  # a row for each value would take most of the whole check's time
            continue
        for name, value in of_each.items():
            if refused := _refusal(row, example | {name: value}):
                yield Problem(where=f"payload, {name}", what=f"refuses {value!r} of the contract: {refused}")


def _bounds(column: Column) -> list[Any]:
    """Return the values that a contract names of a column: categories, entries of lists, bounds, and null."""
    values: list[Any] = list(column.categories or ())
    if column.list_of is not None:
        values += [column.list_of.empty, *column.list_of.items]
    if column.kind in (Kind.INTEGER, Kind.NUMBER):
        values += [bound for bound in (column.minimum, column.maximum) if bound is not None]
    return values + [None] * column.nullable


def _refusal(row: Any, values: dict[str, Any]) -> str:
    try:
        row.model_validate_json(json.dumps(values))
    except ValidationError as error:
        return in_one_line(error)
    return ""


def _synthetic_problems(instance: Instance) -> Iterator[Problem]:
    contract, where = instance.contract, "synthetic data"
    policy, lowest = load_policy(instance), load_tolerances(instance).min_class_share
    frame = synthetic_frame(contract)
    for name, share in frame[contract.label.name].value_counts(normalize=True).items():
        if share < lowest:
            yield Problem(
                where=f"{where}, {name}",
                what=f"a share of {share:.3f} of the rows, min_class_share of monitoring.toml is {lowest:g}",
            )
    for name, value, floor in below(synthetic_scores(contract, frame, policy.threshold), policy):
        yield Problem(
            where=f"{where}, {name}",
            what=f"a small model reaches {value:.2f}, the floor of promotion.toml is {floor:.2f}: give signal to columns",
        )


def below(reached: Scores, policy: Policy) -> list[tuple[str, float, float]]:
    """Return name, score and limit of each floor that scores do not reach."""
    floors, binary = policy.floors, policy.binary
    pairs = [("accuracy", reached.accuracy, floors.accuracy), ("macro F1", reached.macro_f1, floors.macro_f1)]
    if binary is not None:
        pairs.append(("ROC AUC", reached.roc_auc or 0.0, binary.roc_auc))
        pairs.append(("average precision", reached.average_precision or 0.0, binary.average_precision))
    pairs += [(f"recall of {name}", reached.recall.get(name, 0.0), floor) for name, floor in floors.recall.items()]
    return [(name, value, floor) for name, value, floor in pairs if not isinstance(floor, Disabled) and value < floor]


def synthetic_frame(contract: Contract, *, rows: int = ROWS, seed: int = 42) -> pd.DataFrame:
    """Return synthetic rows with features and a label, typed.

    Raises:
        DataRefused: the synthetic data break the contract; names column and rule.
        UsageError: a column has no hint for synthetic data.
    """
    made = synthetic.generate(contract, rows=rows, seed=seed, end=date(2025, 8, 31), error_rate=0.0)
    texts = made.features.copy()
    if contract.labels:
        texts[contract.label.name] = made.labels[contract.label.name]
    frame, failures = typed(trim(pa.Table.from_pandas(texts, preserve_index=False)), contract)
    if failures:
        worst = failures[0]
        raise DataRefused(
            f"{worst.rule} in {number_of(len(worst.rows), 'row')}",
            where=f"synthetic data, {worst.column}",
            hint="change the column's simulate=, or the rule",
        )
    return labelled(frame, contract)


def labelled(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the rows that have a label, numbered anew."""
    return frame[frame[contract.label.name].notna()].reset_index(drop=True)


def typed(cells: pa.Table, contract: Contract) -> tuple[pd.DataFrame, list[Failure]]:
    """Return raw rows of trimmed text in the format of a snapshot, and their violations of the contract."""
    schema, columns = table_schema(contract), list(contract.declared)
    if contract.labels:
        columns.append(contract.label)
        label = table_schema(contract, labels=True).columns[contract.label.name]
        schema = schema.add_columns({contract.label.name: label})
    as_ingest = pandera.DataFrameSchema(schema.columns, checks=schema.checks, coerce=True)
    frame, failures = check_rows(cells, columns, as_ingest, contract)
    if contract.key.filled:
        frame[contract.key.name] = np.arange(1, len(frame) + 1)
    return frame[names((*contract.row_keys, *contract.model_inputs, contract.label))], failures


def synthetic_scores(contract: Contract, frame: pd.DataFrame, threshold: Threshold | None) -> Scores:
    """Return the scores of a small model on a holdout of the rows; the threshold decides between two classes.

    Raises:
        DataRefused: there are too few rows of a class.
    """
    split = split_by_group(frame, contract, seed=42)
    trees = prepared(CatBoost, split.train, fit_encoder(split.train, contract))
    train, validation, holdout = (labelled_part(part, trees, contract) for part in split.parts().values())
    columns = len(trees.encoder.number_names) + COST_OF_CATEGORIES * len(trees.encoder.categorical)
    share = min(1.0, EFFORT / (columns * len(contract.classes)))
    params = TREES.model_copy(update={"rsm": share})
    model, _ = fit_trial(trees, train, validation, params, classes=contract.classes, seed=42, threads=1)
    return scores(holdout.truth, model.predict_proba(holdout.features), contract.classes, threshold)
