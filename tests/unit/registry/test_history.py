"""The record of changes in MLflow: made once, by whoever is first, and before anything is promoted."""

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS
from mlflow.store.entities.paged_list import PagedList

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


def test_all_changes_are_read_however_many_there_are() -> None:
    """Page by page to the last one, and in the order of their times, whatever that of the pages is."""
    pages = {None: (["3", "1"], "second"), "second": ([], "third"), "third": (["2"], "")}

    def search_runs(experiments: list[str], _: str, *, max_results: int, page_token: str | None) -> PagedList[Any]:
        assert (experiments, max_results > 0) == (["e"], True)
        numbers, token = pages[page_token]
        facts = [{"at": f"2025-09-0{each}T03:30:05+00:00", "what": "promoted", "version": each} for each in numbers]
        runs = [SimpleNamespace(data=SimpleNamespace(tags={**each, "run_id": "r"})) for each in facts]
        return PagedList(runs, token)

    client: Any = SimpleNamespace(
        get_experiment_by_name=lambda _: SimpleNamespace(experiment_id="e"), search_runs=search_runs
    )
    assert [each.version for each in History(client, "model", Settings()).changes()] == ["1", "2", "3"]
