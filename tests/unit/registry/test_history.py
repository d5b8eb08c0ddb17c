"""The record of changes in MLflow: made once, by whoever is first, and before anything is promoted."""

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS

from ctcd.registry.history import MAX_TEXT, History, What
from ctcd.settings import Settings


class Client:
    """An MLflow in which another process makes the experiment at the same time; a real one cannot be timed like that."""

    def __init__(self, code: int) -> None:
        self._code, self._looked = code, 0
        self.runs: list[dict[str, Any]] = []

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        self._looked += 1
        return SimpleNamespace(experiment_id=name, lifecycle_stage="active") if self._looked > 1 else None

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        assert artifact_location is None
        raise MlflowException(name, error_code=self._code)

    def create_run(self, experiment: str, **given: Any) -> SimpleNamespace:
        self.runs.append({"experiment": experiment, **given})
        return SimpleNamespace(info=SimpleNamespace(run_id="a"))

    def set_terminated(self, run_id: str) -> None:
        assert run_id == "a"


def test_two_processes_make_one_experiment() -> None:
    """The one that is too late records its change in the experiment of the other; texts fit into MLflow's tags."""
    client = Client(RESOURCE_ALREADY_EXISTS)
    settings = Settings(actor="A" * 9_000)
    History(client, "model", settings).record(What.PROMOTED, "2", "run 2", why="W" * 9_000)  # type: ignore[arg-type] # stands in for MlflowClient
    [run] = client.runs
    assert (run["experiment"], run["run_name"]) == ("model_history", "version 2 promoted")
    assert {name: len(run["tags"][name]) for name in ("by", "why")} == {"by": MAX_TEXT, "why": MAX_TEXT}
    assert "target" not in run["tags"]


def test_another_error_is_not_hidden() -> None:
    """Nothing is promoted without a record."""
    with pytest.raises(MlflowException):
        History(Client(INTERNAL_ERROR), "model", Settings()).record(What.PROMOTED, "2", "run 2", why="")  # type: ignore[arg-type] # as above
