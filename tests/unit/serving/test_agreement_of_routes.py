"""Whatever names a model names the same one: each route, header, log field and metric, before and after each swap."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT
from support.load import wait
from support.serving import EXAMPLE, INFO, empty_store, logged, pinned, row_of, save_model, served, small_scorer

from ctcd.model.probes import PROBES_FILE
from ctcd.model.scorer import Predictions, Scorer
from ctcd.model.served import ModelInfo
from ctcd.serving.champion.state import Champion
from ctcd.serving.http.routes import ROUTES
from ctcd.settings import ModelSource, Settings

IDLE = ("cat",)
"""Stands for the poller, which does here what a test does; like the poller it ends with its input."""
BODIES: dict[str, Any] = {"/predict": {"data": EXAMPLE}, "/predict_batch": {"data": [row_of(1), row_of(2)]}}
NAMING = {"/predict", "/predict_batch", "/metadata", "/model-info"}
"""The routes whose answers name a model; every answer has a header, too."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, and how it is named."""

    scorer: Scorer
    info: ModelInfo
    folder: str

    def named(self) -> dict[str, Any]:
        """Return the value of every field by which an answer may name or describe it."""
        return {
            "model_name": CONTRACT.name,
            "model_version": self.info.version,
            "version": self.info.version,
            "run_id": self.info.run_id,
            "alias": self.info.alias,
            "model_uri": self.info.model_uri,
            "creation_time": self.info.creation_time,
            "params": self.scorer.params,
            "contract_version": self.scorer.contract_version,
        }


def model(version: str, run: str, iterations: int) -> Model:
    """Return a model that has nothing in common with another one of other arguments."""
    info = replace(
        INFO,
        version=version,
        run_id=run * 32,
        model_uri=f"models:/{CONTRACT.name}/{version}-{run}",
        creation_time=f"2025-08-31T00:00:{iterations:02}+00:00",
    )
    return Model(scorer=small_scorer(iterations), info=info, folder=f"{version}-{run}")


@dataclass
class Service:
    """A running service, the models that its answers came from, by request id, and the lines of its request log."""

    client: TestClient
    settings: Settings
    answers: dict[str, Model] = field(default_factory=dict)
    predictions: dict[str, float] = field(default_factory=dict)

    def publish(self, one: Model) -> None:
        """Do what the poller does when the registry names a champion."""
        save_model(one.scorer, self.settings.champions / one.folder, one.info)
        self.point(one)

    def point(self, one: Model, *, error: str = "") -> None:
        champion = Champion(version=one.info.version, run_id=one.info.run_id, folder=one.folder, error=error)
        replace(champion, looked_at="2025-08-31").save(self.settings.champions)

    def info(self) -> Any:
        return self.client.get("/model-info").json()

    def assert_answers(self, expected: Model) -> None:
        """Ask every route, and a few that refuse: all name this model in every way they name one."""
        before = self.counted()
        naming = set()
        for route in ROUTES:
            response = self.client.request(route.method, route.path, json=BODIES.get(route.path))
            assert response.status_code == 200
            assert response.headers["x-model-version"] == expected.info.version, route.path
            named = _names(response.json()) if route.path in NAMING else {}
            assert named == {name: expected.named()[name] for name in named}, route.path
            naming |= {route.path} if named else set()
            if route.path == "/predict":
                self._compare(response.json(), EXAMPLE, expected)
                self.answers[response.json()["request_id"]] = expected
            if route.path == "/predict_batch":
                for sent, each in zip(BODIES[route.path]["data"], response.json()["predictions"], strict=True):
                    self._compare(each, sent, expected)
                    self.answers[each["request_id"]] = expected
        assert naming == NAMING
        for method, path, status in (("GET", "/nowhere", 404), ("GET", "/predict", 405), ("POST", "/predict", 422)):
            refused = self.client.request(method, path, json={"data": {}} if method == "POST" else None)
            assert (refused.status_code, refused.headers["x-model-version"]) == (status, expected.info.version)
        grown = {version: count - before.get(version, 0) for version, count in self.counted().items()}
        assert {version: count for version, count in grown.items() if count} == {expected.info.version: 3}

    def _compare(self, answer: dict[str, Any], row: dict[str, Any], expected: Model) -> None:
        [probabilities] = expected.scorer.probabilities_of([row]).tolist()
        assert list(answer["probabilities"].values()) == probabilities

    def counted(self) -> dict[str, float]:
        """Return the number of predictions by version, as the metrics have it."""
        counts: dict[str, float] = {}
        page = self.client.get("/metrics").text
        for version, count in re.findall(
            r'^ctcd_predictions_total{model="\w+",model_version="(\w+)",.*} (\S+)$', page, re.MULTILINE
        ):
            counts[version] = counts.get(version, 0) + float(count)
        return counts


def _names(body: Any) -> dict[str, Any]:
    """Return the fields of an answer that name a model."""
    wanted = set(MODELS[0].named())
    return {name: value for name, value in body.items() if name in wanted}


MODELS: list[Model] = []


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    MODELS[:] = [model("7", "a", 20), model("8", "b", 25), model("7", "c", 30), model("9", "d", 35)]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("ctcd.serving.champion.follower.POLLER", IDLE)
    first = save_model(MODELS[0].scorer, tmp_path / "baked", MODELS[0].info)
    settings = empty_store(pinned(tmp_path, first, ship_in_process=False))
    settings = settings.model_copy(update={"model_source": ModelSource.REGISTRY, "follow_seconds": 3_600.0})
    with served(settings) as client:
        yield Service(client, settings)


@pytest.mark.slow
def test_all_routes_agree_before_and_after_each_kind_of_swap(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promotion, rollback, another model of the same number, a refusal, and a registry that is away."""
    first, second, same_number, broken = MODELS
    service.assert_answers(first)
    service.publish(second)
    wait(lambda: service.info()["version"] == "8")
    service.assert_answers(second)
    service.publish(first)  # rolled back
    wait(lambda: service.info()["version"] == "7")
    service.assert_answers(first)
    service.publish(same_number)  # of a registry that was made again
    wait(lambda: service.info()["run_id"] == same_number.info.run_id)
    service.assert_answers(same_number)
    folder = save_model(broken.scorer, service.settings.champions / broken.folder, broken.info)
    (folder / PROBES_FILE).unlink()
    service.point(broken)
    wait(lambda: service.info()["refused"] is not None)
    assert service.info()["refused"]["version"] == "9"
    service.assert_answers(same_number)
    service.publish(second)
    wait(lambda: service.info()["version"] == "8")
    service.point(second, error="the registry is away")
    wait(lambda: service.info()["registry_error"] != "")
    service.assert_answers(second)
    page = service.client.get("/metrics").text
    assert 'ctcd_model_swaps_total{model="machine_condition",outcome="swapped"} 4.0' in page
    assert 'ctcd_model_swaps_total{model="machine_condition",outcome="refused"} 1.0' in page
    service.client.__exit__(None, None, None)
    log = {row["request_id"]: row for row in logged(service.settings.store_url)}
    assert set(log) == set(service.answers)
    for request_id, one in service.answers.items():
        assert (log[request_id]["model_version"], log[request_id]["run_id"]) == (one.info.version, one.info.run_id)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    versions = [line["model_version"] for line in requests if "model_version" in line]
    singles = [one.info.version for one in (first, second, first, same_number, same_number, second) for _ in range(2)]
    assert versions == singles


@pytest.mark.slow
@pytest.mark.parametrize("path", BODIES)
def test_an_answer_that_a_swap_overtakes_names_the_model_that_gave_it(
    service: Service, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """In body, header, metrics, request log and prediction log, although another model is in service by then."""
    first, second, *_ = MODELS
    began, swapped = threading.Event(), threading.Event()
    predict, calls = Scorer.predict, iter([True])

    def held(scorer: Scorer, rows: Any) -> Predictions:
        found = predict(scorer, rows)
        if next(calls, False):
            began.set()
            assert swapped.wait(60)
        return found

    with patch.object(Scorer, "predict", held), ThreadPoolExecutor() as pool:
        asked = pool.submit(service.client.post, path, json=BODIES[path])
        assert began.wait(60)
        service.publish(second)
        wait(lambda: service.info()["version"] == second.info.version)
        before = service.counted()
        swapped.set()
        answer = asked.result()
    version = first.info.version
    assert (answer.json()["model_version"], answer.headers["x-model-version"]) == (version, version)
    grown = {name: count for name, count in service.counted().items() if count != before.get(name, 0)}
    assert set(grown) == {version}
    service.client.__exit__(None, None, None)
    log = logged(service.settings.store_url)
    assert {(row["model_version"], row["run_id"]) for row in log} == {(version, first.info.run_id)}
    [line] = [line for line in capsys.readouterr().out.splitlines() if f'"route":"{path}"' in line]
    assert json.loads(line)["model_version"] == version
