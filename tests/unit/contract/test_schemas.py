"""The schemas of the tables follow from the contract's models."""

import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.errors import SchemaError, SchemaErrors

from contracts.features import CONTRACT
from credit_score.contract.schemas import batch_schema, features_schema, labels_schema, snapshot_schema
from credit_score.contract.spec import names


def rows() -> pd.DataFrame:
    return pd.DataFrame({column.name: [column.example] for column in (CONTRACT.group, *CONTRACT.model_inputs)})


def test_a_batch_is_told_by_group_and_inputs_and_loses_the_rest() -> None:
    """A column that the model does not see is dropped, whatever it holds."""
    batch = batch_schema(CONTRACT).validate(rows().assign(note="?"))
    assert set(batch) == {CONTRACT.group.name, *names(CONTRACT.model_inputs)}


def test_a_batch_may_have_numbers_as_text() -> None:
    """What a file gives as text is read as the type of its column; what cannot be is refused."""
    read = batch_schema(CONTRACT).validate(rows().astype({"age": str}))
    assert read["age"].tolist() == rows()["age"].tolist()
    with pytest.raises((SchemaError, SchemaErrors)):
        batch_schema(CONTRACT).validate(rows().assign(age="old"))


@pytest.mark.parametrize("schema", [features_schema(CONTRACT), labels_schema(CONTRACT), snapshot_schema(CONTRACT)])
def test_a_table_has_the_columns_of_the_contract_and_no_other(schema: pa.DataFrameSchema) -> None:
    """A column that nobody promised is refused by name, and the schema by which it is refused has one too."""
    assert schema.name
    frame = pd.DataFrame({name: pd.Series(dtype="object") for name in schema.columns})
    schema.validate(frame)
    with pytest.raises((SchemaError, SchemaErrors), match="leak"):
        schema.validate(frame.assign(leak=pd.Series(dtype="object")))
