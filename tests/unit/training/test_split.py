import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.instance import CONTRACT

from ctcd.contract.spec import names
from ctcd.errors import DataRefused
from ctcd.training.split import Split, columns, kept, split_by_group

KEY, GROUP, LABEL = CONTRACT.key.name, CONTRACT.group.name, CONTRACT.label.name


def table(groups: int, *, seed: int = 0, first: int = 1) -> pd.DataFrame:
    """Return rows of some groups, 1 to 6 each, that mostly keep their class."""
    random = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(first, first + groups), random.integers(1, 7, groups))
    usual = random.choice(len(CONTRACT.classes), size=first + groups, p=(0.3, 0.5, 0.2))[numbers]
    other = random.choice(len(CONTRACT.classes), size=len(numbers))
    label = np.where(random.random(len(numbers)) < 0.8, usual, other)
    return pd.DataFrame(
        {
            KEY: np.arange(len(numbers)) + 10 * first,
            GROUP: numbers,
            LABEL: np.array(CONTRACT.classes, dtype=object)[label],
        }
    )


def where(split: Split) -> dict[int, str]:
    """Return the part of each group."""
    return {int(group): name for name, part in split.parts().items() for group in part[GROUP]}


tables = st.builds(table, st.integers(60, 300), seed=st.integers(0, 2**32 - 1))
seeds = st.integers(-(2**31), 2**31)


@given(tables, seeds)
def test_parts_share_no_group_and_lose_no_row(rows: pd.DataFrame, seed: int) -> None:
    """Every row is in exactly one part, and all rows of a group are in the same."""
    split = split_by_group(rows, CONTRACT, seed=seed)
    groups = [set(part[GROUP]) for part in split.parts().values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    together = pd.concat(split.parts().values()).sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(together, rows.sort_values(KEY, ignore_index=True))


@pytest.mark.slow
@given(tables, seeds, st.randoms())
def test_order_of_rows_does_not_matter(rows: pd.DataFrame, seed: int, random: Random) -> None:
    """Rows in another order, under another index, are split into the very same frames."""
    order = list(range(len(rows)))
    random.shuffle(order)
    split, turned = (split_by_group(data, CONTRACT, seed=seed) for data in (rows, rows.iloc[order]))
    for one, other in zip(split.parts().values(), turned.parts().values(), strict=True):
        pd.testing.assert_frame_equal(one, other)


@given(tables, seeds, st.sampled_from([(0.2, 0.2), (0.1, 0.3)]))
def test_every_class_is_shared_out_by_the_fractions(rows: pd.DataFrame, seed: int, shares: tuple[float, float]) -> None:
    """Of the groups whose most frequent class is given, each part has its share to within one group."""
    validation, holdout = shares
    try:
        with patch.multiple("ctcd.training.split", VALIDATION=validation, HOLDOUT=holdout):
            split = split_by_group(rows, CONTRACT, seed=seed)
    except DataRefused:
        assume(False)  # a small part may lack a class
    counts = rows.groupby(GROUP)[LABEL].value_counts().unstack(fill_value=0)[list(CONTRACT.classes)]
    mostly = counts.idxmax(axis=1)  # the first of equals, in the order of the classes
    parts = where(split)
    for label in CONTRACT.classes:
        members = mostly.index[mostly == label]
        found = Counter(parts[int(group)] for group in members)
        assert abs(found["holdout"] - holdout * len(members)) <= 1
        assert abs(found["validation"] - validation * len(members)) <= 1


def test_class_shares_of_rows_agree() -> None:
    """With thousands of groups, each class has nearly the same share of the rows in every part."""
    rows = table(5_000)
    expected = rows[LABEL].value_counts(normalize=True)
    for part in split_by_group(rows, CONTRACT, seed=1).parts().values():
        assert (part[LABEL].value_counts(normalize=True) - expected).abs().max() < 0.02


@given(tables, st.integers(1, 30), st.integers(0, 1000))
def test_added_groups_leave_nearly_all_where_they_were(rows: pd.DataFrame, added: int, seed: int) -> None:
    """An added group moves at most one old group across each of the two boundaries, so the holdout is stable."""
    more = pd.concat([rows, table(added, seed=seed, first=100_000)])
    before, after = (where(split_by_group(data, CONTRACT, seed=5)) for data in (rows, more))
    assert sum(after[group] != part for group, part in before.items()) <= 2 * added


def test_a_month_more_leaves_the_holdout_nearly_as_it_was() -> None:
    """With a tenth more groups, fewer than 2 % of the old ones are in another part."""
    rows = table(3_000)
    more = pd.concat([rows, table(300, seed=1, first=100_000)])
    before, after = (where(split_by_group(data, CONTRACT, seed=5)) for data in (rows, more))
    assert sum(after[group] != part for group, part in before.items()) < 60


def test_seed_decides() -> None:
    """Another seed gives another split."""
    rows = table(200)
    assert where(split_by_group(rows, CONTRACT, seed=1)) != where(split_by_group(rows, CONTRACT, seed=2))


def test_ties_go_to_the_first_class() -> None:
    """A group with two classes equally often belongs to the stratum of the one that comes first in the contract."""
    first, second = CONTRACT.classes[:2]
    mixed = table(90)
    # Were these groups in the stratum of the second class, 20 more would be shared out there.
    tied = pd.DataFrame(
        {KEY: range(5_000, 5_040), GROUP: np.repeat(range(5_000, 5_020), 2), LABEL: [second, first] * 20}
    )
    only_first = tied.assign(**{LABEL: first})
    assert where(split_by_group(pd.concat([mixed, tied]), CONTRACT, seed=1)) == where(
        split_by_group(pd.concat([mixed, only_first]), CONTRACT, seed=1)
    )


@pytest.mark.slow
def test_every_process_splits_alike() -> None:
    """A process with another hash seed assigns the groups to the same parts."""
    code = (
        "import pandas as pd; from support.instance import CONTRACT; "
        "from ctcd.training.split import split_by_group; "
        f"rows = pd.DataFrame({{'{KEY}': range(90), '{GROUP}': [f'g{{i}}' for i in range(90)], "
        f"'{LABEL}': list(CONTRACT.classes) * 30}}); "
        f"held = split_by_group(rows, CONTRACT, seed=1).holdout['{GROUP}']; "
    )
    here: dict[str, pd.Series] = {}
    exec(code, here)  # noqa: S102 - our own lines, which another process runs as well
    # The hashes of texts begin from a number of each process's own: this one's was drawn.
    other = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(  # noqa: S603 (the command is ours)
        [sys.executable, "-c", f"{code}print(*held)"], env=other, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == list(here["held"])
    assert len(here["held"]) == 18


@pytest.mark.parametrize("groups", [0, 1, 4])
def test_too_little_data_is_refused(groups: int) -> None:
    """Data with too few groups of a class for every part are refused, with part and class."""
    with pytest.raises(
        DataRefused, match=rf"^split by {GROUP}: too little data: no row of .* for (train|validation|holdout)"
    ):
        split_by_group(table(groups), CONTRACT, seed=1)


def test_a_rare_class_is_refused() -> None:
    """A class with one group cannot be in all parts, however much data there is."""
    rows = table(500)
    rows.loc[(rows[LABEL] == CONTRACT.classes[2]) & (rows[GROUP] != 17), LABEL] = CONTRACT.classes[0]
    rows.loc[rows[GROUP] == 17, LABEL] = CONTRACT.classes[2]
    with pytest.raises(DataRefused) as refused:
        split_by_group(rows, CONTRACT, seed=1)
    assert re.fullmatch(
        rf"split by {GROUP}: too little data: no row of {CONTRACT.classes[2]} for \w+ \(\d+ rows\)"
        r" \(add rows of that class, from more groups or a longer window, or merge it with another class\)",
        str(refused.value),
    )


@pytest.mark.parametrize("value", ["Excellent", None])
def test_an_unknown_label_is_refused(value: str | None) -> None:
    """Labels that are not classes, or null, are refused with their number."""
    rows = table(100)
    rows.loc[:1, LABEL] = value
    with pytest.raises(DataRefused, match=f"^{LABEL}: rows with a label other than .*: 2 "):
        split_by_group(rows, CONTRACT, seed=1)


def test_a_training_keeps_the_columns_that_it_reads_and_dates() -> None:
    """Other columns, such as personal ones, are dropped; a frame need not have the dates."""
    read, (date, *_) = columns(CONTRACT), names(CONTRACT.dated)
    rows = pd.DataFrame({name: [1] for name in (date, "name_of_a_person", *reversed(read))})
    assert list(kept(rows, CONTRACT)) == [*read, date]
    assert list(kept(rows.drop(columns=date), CONTRACT)) == read
