"""The scorer as an MLflow pyfunc model, which the gate and Spark load."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

import ctcd
from ctcd.contract.spec import Column, Contract, Kind, names
from ctcd.model.probes import save_probes
from ctcd.model.scorer import CONFIDENCE, PREDICTION, PROBABILITY, Scorer

MODEL_NAME = "model"
"""Name of the logged model; its URI is `runs:/<run_id>/model`."""
REQUIREMENTS = ("catboost", "mlflow", "numpy", "pandas", "pandera")
"""Packages that are needed to load and score the model."""


class ScorerModel(PythonModel):
    """Predicts class, confidence and the probability of every class for the rows of a frame."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer from the model's files."""
        self.scorer = Scorer.load(Path(context.artifacts["scorer"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the columns `prediction`, `confidence` and `probability_<class>` of every row, with the frame's index.

        Columns other than the model's inputs are ignored; MLflow passes the other arguments, which are not used.

        Raises:
            UsageError: a column is missing or holds values of another kind.
        """
        del context, params
        return self.scorer.predict(model_input).to_frame(model_input.index)


def signature(contract: Contract) -> ModelSignature:
    """Return the types of the model's inputs and outputs."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(_type(column), column.name, required=not column.nullable) for column in contract.model_inputs
    ]
    answers: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, PREDICTION), ColSpec(DataType.double, CONFIDENCE)]
    answers += [ColSpec(DataType.double, f"{PROBABILITY}{name}") for name in contract.classes]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(answers))


def log_model(client: MlflowClient, scorer: Scorer, contract: Contract, *, run_id: str) -> None:
    """Log a scorer as the model of a run, as code and plain files, without pickle.

    The input example is that of the contract, so it contains no real data. The engine's code is logged too, so that
    Spark executors do not need this package.

    Raises:
        mlflow.exceptions.MlflowException: the store refuses it.
    """
    example = example_frame(contract)
    # Created here, because Model.log() would create it in this process's active experiment.
    logged = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=MODEL_NAME,
        source_run_id=run_id,
        params={name: str(value) for name, value in scorer.params.items()},
    )
    with tempfile.TemporaryDirectory() as folder:
        scorer.save(Path(folder) / "scorer")
        save_probes(scorer, contract, Path(folder) / "scorer")
        Model.log(
            None,
            flavor=mlflow.pyfunc,
            name=MODEL_NAME,
            run_id=run_id,
            model_id=logged.model_id,
            python_model=str(Path(__file__).with_name("pyfunc_code.py")),
            artifacts={"scorer": str(Path(folder) / "scorer")},
            code_paths=[str(Path(ctcd.__file__).parent)],
            signature=signature(contract),
            input_example=example,
            # Given explicitly, because MLflow would start another process to infer them.
            pip_requirements=[f"{name}=={version(name)}" for name in (*REQUIREMENTS, *scorer.estimator.requirements)],
        )


def example_frame(contract: Contract) -> pd.DataFrame:
    """Return the contract's example row as a frame with the types of a snapshot."""
    dates = names(column for column in contract.model_inputs if column.kind in (Kind.DATE, Kind.TIME))
    example = pd.DataFrame([{column.name: column.example for column in contract.model_inputs}])
    return example.astype(dict.fromkeys(dates, "datetime64[ns]"))


_TYPES = {
    Kind.INTEGER: DataType.long,
    Kind.NUMBER: DataType.double,
    Kind.BOOLEAN: DataType.boolean,
    Kind.DATE: DataType.datetime,
    Kind.TIME: DataType.datetime,
}


def _type(column: Column) -> DataType | AnyType:
    if column.nullable and column.written in (Kind.INTEGER, Kind.BOOLEAN):
        return AnyType()  # type: ignore[no-untyped-call] # MLflow's class for columns of a type that has no nulls there
    return _TYPES.get(column.written, DataType.string)
