"""Probes: rows stored with a model and its answers to them, which it must reproduce wherever it is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ctcd.contract.spec import Column, Contract, Kind
from ctcd.errors import UsageError
from ctcd.model.artifact import reading
from ctcd.model.scorer import Scorer

PROBES_FILE = "probes.json"
"""File in the scorer's folder."""
TOLERANCE = 1e-9
"""Largest difference of a probability: another processor may round the last digits differently."""
UNSEEN = "(unseen)"
RETRAIN = "train again: ctcd train --force"


def save_probes(scorer: Scorer, contract: Contract, folder: Path) -> None:
    """Write rows derived from the contract, and the scorer's probabilities for them, into the scorer's folder."""
    rows = list(_rows(contract))
    probes = {"rows": rows, "probabilities": scorer.probabilities_of(rows).tolist()}
    (folder / PROBES_FILE).write_text(json.dumps(probes, allow_nan=False) + "\n", encoding="utf-8")


def verify_probes(scorer: Scorer, folder: Path) -> None:
    """Check that a scorer reproduces the answers to its probes.

    Raises:
        NotFound: the folder has no probes.
        Unreachable: they cannot be read now.
        UsageError: the file has no valid probes, the model cannot answer them, or an answer differs; says by how much.
    """
    path = folder / PROBES_FILE
    with reading(path, "holds no probes that the model can answer", missing="the model has no probes", hint=RETRAIN):
        probes = json.loads(path.read_text(encoding="utf-8"))
        rows, expected = probes["rows"], np.array(probes["probabilities"], dtype=np.float64)
        found = scorer.probabilities_of(rows)
        # NaN makes the comparison false.
        same = bool(rows) and found.shape == expected.shape and bool((np.abs(found - expected) <= TOLERANCE).all())
    if not same:
        gap = float(np.abs(found - expected).max(initial=0)) if found.shape == expected.shape else float("nan")
        raise UsageError(
            f"the model does not answer its probes as it did when it was made (largest difference {gap:.3g})",
            where=str(folder),
            hint="train and promote again with the packages that the service has",
        )


def _rows(contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield the contract's example row, and variants of it in which one column has another value."""
    example = {column.name: column.example for column in contract.model_inputs}
    yield example
    for column in contract.model_inputs:
        for value in _values(column):
            yield example | {column.name: value}


def _values(column: Column) -> Iterator[Any]:
    # A model accepts nulls in every column, even where the contract does not.
    yield None
    if column.minimum is not None:
        yield column.minimum
    if column.maximum is not None:
        yield column.maximum
    if column.list_of is not None:
        yield column.list_of.empty
        yield from column.list_of.items
        yield column.list_of.separator.join(column.list_of.items)
    elif column.kind is Kind.BOOLEAN:
        yield from (False, True)
    elif column.kind is Kind.CATEGORY:
        yield from column.categories or ()
        yield UNSEEN
