"""The registry's errors reach its callers as errors of ours."""

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, NoReturn, cast
from unittest.mock import MagicMock

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from support.instance import CONTRACT

from ctcd.contract.traffic import Mode, Shadow, TrafficPolicy
from ctcd.errors import NotFound, Unreachable
from ctcd.registry.history import Change, What
from ctcd.registry.versions import (
    GATE,
    PASSED,
    PROMOTED_AT,
    REFUSED,
    ROLLED_BACK,
    SCORER_FOLDER,
    RegisteredVersion,
    Registry,
)

INFO = RegisteredVersion(
    model_name="model", version="1", run_id="a", aliases=(), created_at="2025-08-31", tags={}, uri="models:/model/1"
)
NO_ANSWER = MlflowException("no answer")
METHODS = [name for name, each in vars(Registry).items() if isinstance(each, FunctionType) and not name.startswith("_")]


class Down:
    """A client of a server that does not answer, or not as it should."""

    tracking_uri = "http://127.0.0.1:9"

    def __init__(self, error: Exception = NO_ANSWER) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def fail(*_arguments: object, **_named: object) -> NoReturn:
            raise self.error

        return fail


@pytest.mark.parametrize("error", [NO_ANSWER, requests.HTTPError("403")], ids=["MLflow", "artifacts"])
@pytest.mark.parametrize("method", METHODS)
def test_a_registry_that_does_not_answer_is_named(method: str, error: Exception, tmp_path: Path) -> None:
    """Every method raises `Unreachable` with the server's address, and never an exception of a library."""
    given = {"info": INFO, "cache": tmp_path, "into": tmp_path / "model", "files": {}, "reasons": (), "passed": True}
    given["experiment"] = TrafficPolicy(shadow=Shadow(share=1.0)).experiment(Mode.SHADOW, "1")
    call: Any = getattr(Registry(Down(error), CONTRACT), method)  # type: ignore[arg-type] # stands in for MlflowClient
    arguments = {name: given.get(name, "1") for name in inspect.signature(call).parameters}
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        call(**arguments)


@pytest.mark.parametrize(
    "version", ["9" * 20, "9" * 5_000, "2147483648", "0", "-1", "1.0", "1e3", "", " 1", "champion", "../1"]
)
def test_what_is_no_number_of_a_version_does_not_exist(version: str) -> None:
    """A number that MLflow's database cannot hold is no error of the server: it is not even asked."""
    registry = Registry(Down(), CONTRACT)  # type: ignore[arg-type] # as above
    with pytest.raises(NotFound, match=f"there is no version {version or repr(version)}"):
        registry.info(version)


def test_what_was_rolled_back_or_refused_is_not_the_newest_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that names no version would bring back a version that had failed in service, as it had passed the gate."""
    registry = Registry(cast("Any", Down()), CONTRACT)
    tags = [{GATE: REFUSED}, {GATE: PASSED, ROLLED_BACK: "2025-09-01"}, {GATE: PASSED}, {GATE: PASSED}]
    known = [replace(INFO, version=str(4 - place), tags=each) for place, each in enumerate(tags)]
    monkeypatch.setattr(registry, "versions", lambda: known)
    assert registry.newest_passed() == "2"
    monkeypatch.setattr(registry, "versions", lambda: known[:2])
    with pytest.raises(NotFound, match="has passed no version yet"):
        registry.newest_passed()


@pytest.mark.parametrize("length", [10, 5_000, 100_000])
def test_a_description_fits_into_the_databases_of_mlflow(length: int) -> None:
    """However many reasons a decision has, its description is kept, and ends in the link to all of them."""
    # Stands in for MLflow on PostgreSQL, which refuses what is longer: the SQLite of these tests keeps any length.
    client = MagicMock(**{"get_model_version.return_value.description": ""})
    registry = Registry(client, CONTRACT)
    registry.record_decision("1", 12, passed=False, reasons=(), champion=None, files={}, description="x" * length)
    (_, _, text), _ = client.update_model_version.call_args
    assert len(text) <= SqlModelVersion.description.type.length
    assert text.startswith("Gate: xxx")
    assert text.endswith("/gate/12.html)")
    assert ("…" in text) == (length > 10)


def test_the_description_of_a_model_with_many_classes_fits_too() -> None:
    """The classes are cut off where MLflow's databases would refuse the registration of the first version."""
    client = MagicMock()
    client.get_run.return_value.info.status, client.search_model_versions.return_value = "FINISHED", []
    many = replace(CONTRACT)
    vars(many)["classes"] = tuple(f"class {number:020}" for number in range(200))
    Registry(client, many).register("run")
    made = client.create_registered_model.call_args.kwargs["description"]
    assert len(made) == SqlModelVersion.description.type.length


@pytest.mark.parametrize(
    ("what", "known"),
    [
        (What.DEPLOYED, True),
        (What.WITHDRAWN, True),
        (What.CHALLENGES, True),
        (What.PROMOTED, False),
        (What.ROLLED_BACK, False),
    ],
)
def test_a_promotion_from_before_the_record_is_known_until_the_next_one(
    what: What, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment or withdrawal of the same version leaves it in the history; a promotion has replaced its time."""
    registry = Registry(Down(), CONTRACT)  # type: ignore[arg-type] # as above
    promoted = replace(INFO, tags={PROMOTED_AT: "2025-08-31T12:00:00+00:00"})
    recorded = Change(at="2025-08-31T11:59:59.999999+00:00", what=what, version="1", run_id="a", by="Ann", why="new")
    later = replace(recorded, at="2025-09-01T12:00:00+00:00")
    monkeypatch.setattr(registry, "versions", lambda: [promoted])
    monkeypatch.setattr(registry, "_history", SimpleNamespace(changes=lambda: [recorded, later]))
    older = Change(at="2025-08-31T12:00:00+00:00", what=What.PROMOTED, version="1", run_id="a")
    assert registry.changes() == ([recorded, older, later] if known else [recorded, later])


@pytest.mark.slow
def test_a_scorer_that_several_fetch_at_once_is_complete_for_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands with the same home do not disturb each other; a scorer that was repaired in the registry is taken."""
    registry, stored = Registry(cast("Any", Down()), CONTRACT), ["damaged"]

    def model_folder(_version: str, into: Path) -> Path:
        (into / SCORER_FOLDER).mkdir(parents=True)
        (into / SCORER_FOLDER / "scorer.json").write_text(stored[-1])
        return into

    def fetched(_number: int) -> str:
        return (registry.scorer_folder(INFO, tmp_path / "scorers") / "scorer.json").read_text()

    monkeypatch.setattr(registry, "model_folder", model_folder)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(fetched, range(40))) == {"damaged"}
    stored.append("repaired")
    assert fetched(0) == "repaired"
    assert sorted(each.name for each in (tmp_path / "scorers").iterdir()) == [".1-a.lock", "1-a"]
    assert [each.name for each in (tmp_path / "scorers" / "1-a").iterdir()] == ["scorer.json"]
