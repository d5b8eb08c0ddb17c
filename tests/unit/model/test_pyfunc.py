from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModelContext
from support.instance import CONTRACT

from ctcd.contract.spec import names
from ctcd.model.pyfunc import ScorerModel, signature
from ctcd.model.scorer import CONFIDENCE, PREDICTION, PROBABILITY, Scorer


def answer(scorer: Scorer, frame: pd.DataFrame) -> pd.DataFrame:
    return scorer.predict(frame).to_frame(frame.index)


def test_answer_has_class_confidence_and_probabilities(scorer: Scorer, frame: pd.DataFrame) -> None:
    """The class is the most probable one, its probability the confidence, and the rows keep their index."""
    rows = frame.iloc[100:200]
    result = answer(scorer, rows)
    probabilities = result[[f"{PROBABILITY}{name}" for name in CONTRACT.classes]].to_numpy()
    np.testing.assert_array_equal(probabilities, scorer.probabilities(rows))
    np.testing.assert_array_equal(result[CONFIDENCE], probabilities.max(axis=1))
    assert result[PREDICTION].to_list() == [CONTRACT.classes[index] for index in probabilities.argmax(axis=1)]
    assert result.index.equals(rows.index)


def test_answer_to_no_rows_is_empty(scorer: Scorer, frame: pd.DataFrame) -> None:
    """No rows give an answer with all columns and no rows."""
    assert list(answer(scorer, frame.head(0)).columns) == list(answer(scorer, frame.head(1)).columns)
    assert answer(scorer, frame.head(0)).empty


def test_the_model_answers_from_its_files(scorer: Scorer, frame: pd.DataFrame, tmp_path: Path) -> None:
    """The MLflow model loads the scorer from its artifacts and gives its answer."""
    scorer.save(tmp_path)
    model = ScorerModel()
    context = PythonModelContext(artifacts={"scorer": str(tmp_path)}, model_config=None)  # type: ignore[no-untyped-call] # MLflow left it untyped
    model.load_context(context)
    pd.testing.assert_frame_equal(model.predict(context, frame), answer(scorer, frame))


def test_signature_follows_the_contract(scorer: Scorer, frame: pd.DataFrame) -> None:
    """The model asks for the contract's inputs, those without nulls required, and promises the columns it answers with."""
    made = signature(CONTRACT)
    assert made.inputs.input_names() == names(CONTRACT.model_inputs)
    assert made.inputs.required_input_names() == names(
        column for column in CONTRACT.model_inputs if not column.nullable
    )
    assert made.outputs.input_names() == list(answer(scorer, frame).columns)
