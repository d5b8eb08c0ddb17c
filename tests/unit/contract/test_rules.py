"""What a contract may not be is said in one line that names column and rule, before any stage runs."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from support.instance import CONTRACT
from support.small_contracts import BARE, CODED, Small, write_instance

from ctcd.cli.contract import relock
from ctcd.contract.instance import load_instance
from ctcd.contract.rules import OWN_TABLES, contract_problems
from ctcd.errors import UsageError
from ctcd.store.tables import build_tables

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
            broken(z=("int", 'role=Role.GROUP, alias="variant", example=1')),
            (
                "variant: the table of batch scores has a column of this name: give it another with alias=, and rename it in a "
                "store that has it by a migration of your own"
            ),
        ),
        (
            broken(z=("int", 'role=Role.GROUP, alias="predict", example=1')),
            "predict: answers have a field of this name",
        ),
        (broken(z=("str", 'categories=("a ", "b"), example="b"')), "z: the category 'a ' is empty, reserved"),
        (broken(z=("float", "")), "z: a feature needs an example"),
        (
            broken(z=("float", 'alias="y", example=1.0'), other=("float", 'alias="y", example=1.0')),
            "Rows.y: 2 attributes have this name",
        ),
        (broken(z=("float", 'alias="Snapshot_Day", example=1.0')), "Snapshot_Day: "),
        (broken(z=("float", 'alias="_RANK", example=1.0')), "_RANK: the store's own statements use this name"),
        (
            broken(z=("float", "categories=(1, 2), example=1.0")),
            "z: categories= belongs to integer or text, not number",
        ),
        (broken(z=("int", 'pattern="1", example=1')), "z: pattern= belongs to text, not integer"),
        (broken(z=("float", "minimum=2, maximum=1, example=1.0")), "z: the minimum 2 is above the maximum 1"),
        (
            broken(z=("float", 'example=1.0, simulate=Simulate(quantiles=(0, 1), times="y")')),
            "z: times=: there is no column 'y'",
        ),
        (
            broken(z=("str", 'example="a", list_of=ListOf(items=("a",), empty="none", counted_by="y")')),
            "z: counted_by=: there is no column 'y'",
        ),
        (
            Small(name="broken", columns={"x": NUMBER}, labels={"label": LABEL}, classes=("no", "yes")),
            "a label table needs a column with the role key",
        ),
        (broken(label=("float", "role=Role.LABEL, example=1.0")), "label: a label has 2 to 100 categories, not 0"),
        (broken(z=("pd.DatetimeTZDtype", "example=1")), "Rows: pandera cannot read it: TypeError"),
        (broken(z=("float", 'role="feat", example=1.0')), "role: Input should be"),
        (broken(z=("float", 'minimum="0", example=1.0')), "minimum: '0' is not a finite number"),
        (broken(z=("float", 'maximum=float("inf"), example=1.0')), "maximum: inf is not a finite number"),
        (broken(z=("float", 'example=float("nan")')), "example: nan is not text, a finite number"),
        (broken(z=("pa.DateTime", 'example=pd.Timestamp("2025-01-01")')), "example: Timestamp('2025-01-01 00:00:00')"),
        (broken(z=("str", 'example={"a"}')), "example: {'a'} is not text, a finite number, or true or false"),
        (broken(z=("str", 'example="a", categories="ab"')), "categories: Input should be a valid tuple"),
        (broken(z=("str", 'example="a", max_length="9"')), "max_length: Input should be a valid integer"),
        (broken(z=("float", "example=1.0, simulate=dict(quantiles=(3, 4))")), "simulate: Input should be"),
        (
            broken(z=("float", "example=1.0, simulate=Simulate(quantiles=(9, 0, 3))")),
            "quantiles: they must be in ascending order: 9.0, 0.0",
        ),
        (
            broken(z=("float", "example=1.0, simulate=Simulate(signal=2.0)")),
            "signal: Input should be less than or equal",
        ),
        (broken(z=("float", "example=1.0, simulate=Simulate(missing=-1)")), "missing: Input should be greater than"),
        (broken(z=("str", 'example="a", simulate=Simulate(shares={"a": -1.0})')), "shares.a: Input should be greater"),
        (
            broken(z=("str", 'example="a", list_of=ListOf(items=(), empty="none", counted_by="x")')),
            "items: Tuple should have at least 1 item",
        ),
        (broken(z=("int", "minimum=0.5, example=1")), "z: the bound 0.5 of whole numbers is a fraction"),
        (broken(z=("int", "nullable=True, example=1")), "Rows.z: the type int64 cannot hold a null: use pd.Int64Dtype"),
        (broken(z=("bool", "nullable=True, example=True")), "z: the type bool cannot hold a null: use pd.BooleanDtype"),
    ],
)
def test_a_contract_that_cannot_work_is_refused_in_one_line(small: Small, said: str, tmp_path: Path) -> None:
    """Loading the instance ends in one line that names the column and the rule, not in a traceback of a later stage."""
    with pytest.raises(UsageError) as refusal:
        write_instance(small, tmp_path / "contracts")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "features.py" in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("small", [BARE, CODED], ids=lambda small: small.name)
def test_a_contract_that_works_has_no_problem(small: Small, tmp_path: Path) -> None:
    """A contract with the fewest roles, and one with a label table, keep every rule."""
    write_instance(small, tmp_path / "contracts")
    assert contract_problems(load_instance(tmp_path / "contracts").contract) == []


def test_no_table_has_the_name_of_one_that_the_store_makes() -> None:
    """The tables that the store names after the contract, and that of its migrations, count as used."""
    own = {name for name in build_tables(CONTRACT).metadata.tables if name not in vars(CONTRACT).values()}
    assert own == {f"{CONTRACT.name}_{table}" for table in OWN_TABLES}
    for name in (*own, "alembic_version"):
        [problem] = contract_problems(replace(CONTRACT, predictions_table=name))
        assert problem == f"the table name {name!r} is used twice"


def test_each_wrong_name_is_named_once_with_its_rule() -> None:
    """A contract's wrong name is one problem, though tables are named after it; a table's wrong name is one of its own."""
    [problem] = contract_problems(
        replace(CONTRACT, name="Wine 2!", features_table="Wine 2!", predictions_table="Wine 2!_predictions")
    )
    assert problem == "the name 'Wine 2!' is not one of at most 40 small letters, digits and underscores"
    [problem] = contract_problems(replace(CONTRACT, predictions_table="answers of 2"))
    assert problem == "the table name 'answers of 2' is not one of at most 64 small letters, digits and underscores"


def test_the_place_of_a_wrong_argument_is_named(tmp_path: Path) -> None:
    """A value of another type is refused with the line of `features.py` that has it."""
    small = broken(z=("float", 'minimum="0", example=1.0'))
    with pytest.raises(UsageError) as refusal:
        write_instance(small, tmp_path / "contracts")
    source = (tmp_path / "contracts" / "features.py").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if 'minimum="0"' in text)
    assert f"features.py:{line}: " in str(refusal.value)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_the_share_of_quarantined_rows_is_a_share(share: float) -> None:
    """A share that is not from 0 to 1 is refused."""
    [problem] = contract_problems(replace(CONTRACT, max_quarantine_share=share))
    assert problem == f"max_quarantine_share is {share}, not a share from 0 to 1"


@pytest.mark.slow
def test_a_lock_is_not_written_without_its_migration(tmp_path: Path) -> None:
    """A column that may have been renamed is refused before any file of the lock is."""
    folder = copytree(write_instance(BARE, tmp_path / "first").folder, tmp_path / "second")
    source = (folder / "features.py").read_text()
    (folder / "features.py").write_text(source.replace("width:", "breadth:"))
    with pytest.raises(UsageError, match="rename"):
        relock(load_instance(folder))
    assert not (folder / "lock").exists()
