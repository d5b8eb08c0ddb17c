"""Split of a snapshot by group, stratified by class."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.spec import Contract, names
from ctcd.errors import DataRefused, number_of

VALIDATION, HOLDOUT = 0.2, 0.2
"""Shares of the groups, 0 to 1; the model is trained on the others."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts of a snapshot. No group is in two parts; rows are sorted by the row keys."""

    train: pd.DataFrame
    """For fitting the encoder and the trees."""
    validation: pd.DataFrame
    """For early stopping and for selecting the best trial."""
    holdout: pd.DataFrame
    """For the final scores and the gate; nothing is selected on it."""

    def parts(self) -> dict[str, pd.DataFrame]:
        """Return the parts by name."""
        return {"train": self.train, "validation": self.validation, "holdout": self.holdout}


def columns(contract: Contract) -> list[str]:
    """Return the columns that a training reads."""
    return [*names(contract.row_keys), *names(contract.model_inputs), contract.label.name]


def kept(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the columns of a frame that a training reads, and the date of each row if it has one."""
    return frame[[*columns(contract), *(each for each in names(contract.dated) if each in frame)]]


def split_by_group(frame: pd.DataFrame, contract: Contract, *, seed: int) -> Split:
    """Split rows by group, stratified by the most frequent class of each group.

    Within a stratum, groups are sorted by a hash of seed and group and divided by the shares. So the split depends
    neither on the order of rows nor on the process or machine, and an added group moves only the groups next to a
    boundary: nearly all of the holdout stays in the holdout when the data grow.

    Args:
        frame: rows with the row keys and the label; other columns are kept.
        contract: the contract in force.
        seed: hashed with each group, so that another one gives another split.

    Raises:
        DataRefused: there is too little data for every part to have a row of every class, or a label is unknown.
    """
    keys = names(contract.row_keys)
    # Each row is copied once: from its place into its part.
    places = frame[keys].reset_index(drop=True).sort_values(keys).index.to_numpy()
    rows = frame[[contract.group.name, contract.label.name]].iloc[places]
    groups, position = np.unique(rows[contract.group.name].to_numpy(), return_inverse=True)
    strata = _most_frequent_class(rows, position, len(groups), contract)
    part = np.zeros(len(groups), dtype=np.int8)
    order = np.argsort(np.array([_hash(seed, group) for group in groups.tolist()], dtype=np.uint64))
    for stratum in range(len(contract.classes)):
        members = order[strata[order] == stratum]
        first, second = round(HOLDOUT * len(members)), round((HOLDOUT + VALIDATION) * len(members))
        part[members[:first]] = 2
        part[members[first:second]] = 1
    train, middle, last = (frame.iloc[places[part[position] == index]].reset_index(drop=True) for index in range(3))
    split = Split(train=train, validation=middle, holdout=last)
    _refuse_missing_classes(split, contract)
    return split


def _hash(seed: int, group: object) -> int:
    # Python's hash() of a string differs between processes.
    return int.from_bytes(hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest())


def _most_frequent_class(
    rows: pd.DataFrame, position: NDArray[np.intp], groups: int, contract: Contract
) -> NDArray[np.intp]:
    """Return the index of each group's most frequent class, on a tie the first; shape (groups,)."""
    classes = len(contract.classes)
    codes = pd.Index(contract.classes, dtype=object).get_indexer(pd.Index(rows[contract.label.name].astype(object)))
    if (codes < 0).any():
        raise DataRefused(
            f"rows with a label other than {', '.join(contract.classes)}: {int((codes < 0).sum())}",
            where=contract.label.name,
            hint="validate the snapshot",
        )
    counts = np.bincount(position * classes + codes, minlength=groups * classes).reshape(groups, classes)
    most: NDArray[np.intp] = counts.argmax(axis=1)
    return most


def _refuse_missing_classes(split: Split, contract: Contract) -> None:
    for name, part in split.parts().items():
        present = set(part[contract.label.name])
        missing = [label for label in contract.classes if label not in present]
        if missing:
            raise DataRefused(
                f"too little data: no row of {', '.join(missing)} for {name} ({number_of(len(part), 'row')})",
                where=f"split by {contract.group.name}",
                hint="add rows of that class, from more groups or a longer window, or merge it with another class",
            )
