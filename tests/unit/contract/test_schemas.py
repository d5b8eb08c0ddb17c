"""The schemas of the tables follow from the contract's models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.errors import SchemaError, SchemaErrors
from support.frames import snapshot_frame
from support.instance import CONTRACT
from support.schemas import features_schema, labels_schema
from support.small_contracts import BARE, CODED, Small, write_instance

from ctcd.contract.schemas import batch_schema, snapshot_schema, table_schema
from ctcd.contract.spec import Contract, names


def rows() -> pd.DataFrame:
    return pd.DataFrame({column.name: [column.example] for column in (CONTRACT.group, *CONTRACT.model_inputs)})


def test_a_batch_keeps_the_inputs_only() -> None:
    """A column that the model does not see is dropped, whatever it holds."""
    batch = batch_schema(CONTRACT).validate(rows().assign(note="?"))
    assert set(batch) == set(names(CONTRACT.model_inputs))


def test_a_batch_may_have_numbers_as_text() -> None:
    """Text is converted to the type of its column; text that cannot be converted is refused."""
    read = batch_schema(CONTRACT).validate(rows().astype({"hours": str}))
    assert read["hours"].tolist() == rows()["hours"].tolist()
    with pytest.raises((SchemaError, SchemaErrors)):
        batch_schema(CONTRACT).validate(rows().assign(hours="old"))


Make = Callable[[Contract], pa.DataFrameSchema]
TABLES = (features_schema, labels_schema, snapshot_schema)


@pytest.mark.parametrize("make", TABLES)
def test_a_table_has_the_columns_of_the_contract_and_no_other(make: Make) -> None:
    """A column that is not in the contract is refused by name, and the schema has a name."""
    schema = make(CONTRACT)
    assert schema.name
    frame = pd.DataFrame({name: pd.Series(dtype="object") for name in schema.columns})
    schema.validate(frame)
    with pytest.raises((SchemaError, SchemaErrors), match="leak"):
        schema.validate(frame.assign(leak=pd.Series(dtype="object")))


@pytest.mark.parametrize("make", TABLES)
def test_a_key_is_unique_in_a_table(make: Make) -> None:
    """A row with the key of another row is refused."""
    schema = make(CONTRACT)
    day = pd.Timestamp("2025-08-31")
    row = {column.name: column.example for column in (*CONTRACT.feature_columns, *CONTRACT.label_columns)}
    row |= {CONTRACT.event_date.name: day, CONTRACT.snapshot_date: day}
    once = pd.DataFrame([row])[list(schema.columns)]
    schema.validate(once)
    with pytest.raises((SchemaError, SchemaErrors), match="not unique"):
        schema.validate(pd.concat([once, once], ignore_index=True))


UNLABELLED = replace(
    BARE, columns={**BARE.columns, "good": ("pd.BooleanDtype", "role=Role.LABEL, nullable=True, example=True")}
)
"""Some rows have no label yet."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "nullable"), [(BARE, False), (UNLABELLED, True), (CODED, False)], ids=["truths", "missing", "numbers"]
)
def test_a_label_is_the_text_of_a_class_however_it_is_written(small: Small, nullable: bool, tmp_path: Path) -> None:
    """Truths and whole numbers are text of the classes alone; a row of a snapshot has a label even if not every row has."""
    contract = write_instance(small, tmp_path / "contracts").contract
    column = table_schema(contract, labels=True).columns[contract.label.name]
    expected = (pa.Column(str).dtype, [pa.Check.isin(small.classes)])
    assert (column.dtype, column.checks, column.nullable) == (*expected, nullable)
    column = snapshot_schema(contract).columns[contract.label.name]
    assert (column.dtype, column.checks, column.nullable) == (*expected, False)


@pytest.mark.slow
def test_a_snapshot_without_key_and_date_has_numbers_and_a_day(tmp_path: Path) -> None:
    """Where the contract has neither, rows have whole numbers from 1, and the snapshot has a day."""
    columns = snapshot_schema(write_instance(BARE, tmp_path / "contracts").contract).columns
    number, day = columns["row_number"], columns["snapshot_day"]
    assert (number.dtype, number.checks, number.nullable) == (pa.Column("int64").dtype, [pa.Check.ge(1)], False)
    assert day.dtype == pa.Column(pa.DateTime).dtype


@pytest.mark.slow
def test_a_snapshot_of_an_earlier_release_has_no_dates_of_labels() -> None:
    """It is valid without their column, as it was made."""
    before = snapshot_frame(CONTRACT, rows=20).drop(columns=CONTRACT.event_date.name)
    assert list(snapshot_schema(CONTRACT).validate(before)) == list(before)
