"""What a contract may not be is said in one line that names column and rule, before any stage runs."""

from pathlib import Path

import pytest
from support.small_contracts import BARE, CODED, Small, write_instance

from ctcd.contract.instance import load_instance
from ctcd.contract.rules import contract_problems
from ctcd.errors import UsageError

NUMBER = ("float", "example=1.0")
LABEL = ("str", 'role=Role.LABEL, categories=("no", "yes"), example="no"')


def broken(**columns: tuple[str, str]) -> Small:
    return Small(name="broken", columns={"x": NUMBER, "label": LABEL, **columns}, classes=("no", "yes"))


@pytest.mark.parametrize(
    ("small", "said"),
    [
        (broken(label=NUMBER), "exactly one column needs the role label, not none"),
        (broken(x=LABEL), "exactly one column needs the role label, not ['x', 'label']"),
        (broken(x=("int", "role=Role.KEY, example=1")), "no column has the role feature"),
        (broken(a=("int", "role=Role.KEY, example=1"), b=("int", "role=Role.KEY, example=1")), "a, b: only one column"),
        (broken(z=("complex", "example=1")), "Rows.z: the type complex128 is not supported"),
        (broken(z=("float", 'alias="z?", example=1.0')), "'z?': a name has no control character"),
        (broken(z=("float", 'alias=" z", example=1.0')), "' z': a name has 1 to 64 characters"),
        (broken(z=("float", 'alias="X", example=1.0')), "x: two columns have this name"),
        (broken(z=("float", 'alias="snapshot_day", example=1.0')), "snapshot_day: "),
        (broken(row_number=NUMBER), "row_number: two columns have this name"),
        (
            broken(z=("int", 'role=Role.GROUP, alias="predict", example=1')),
            "predict: answers have a field of this name",
        ),
        (broken(z=("str", 'categories=("a ", "b"), example="b"')), "z: the category 'a ' is empty, reserved"),
        (broken(z=("float", "")), "z: a feature needs an example"),
        (broken(label=("float", "role=Role.LABEL, example=1.0")), "label: a label has 2 to 100 categories, not 0"),
    ],
)
def test_a_contract_that_cannot_work_is_refused_in_one_line(small: Small, said: str, tmp_path: Path) -> None:
    """Loading the instance ends in one line that names the column and the rule, not in a traceback of a later stage."""
    with pytest.raises(UsageError) as refusal:
        write_instance(small, tmp_path / "contracts")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "features.py" in str(refusal.value)


@pytest.mark.parametrize("small", [BARE, CODED], ids=lambda small: small.name)
def test_a_contract_that_works_has_no_problem(small: Small, tmp_path: Path) -> None:
    """A contract with the fewest roles, and one with a label table, keep every rule."""
    write_instance(small, tmp_path / "contracts")
    assert contract_problems(load_instance(tmp_path / "contracts").contract) == []
