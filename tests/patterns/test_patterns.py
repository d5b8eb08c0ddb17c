"""The compositions of `examples/patterns` give the answers of their models, and log each once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from bentoml.exceptions import ServiceUnavailable
from pydantic_core import to_json
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.load import wait
from support.network import free_port
from support.patterns import OTHER, composed
from support.serving import EXAMPLE, INFO, empty_store, logged, pinned, row_of

from ctcd.model.scorer import Scorer
from ctcd.settings import Settings
from examples.patterns.informed import column_of

pytestmark = pytest.mark.patterns

Trained = dict[str, tuple[Path, Scorer, Scorer]]
ROWS = [row_of(number) for number in range(150)]
"""More than BentoML's client sends by default before it closes its connections."""
JSON, SECRET = {"content-type": "application/json"}, "secret4711"


def of(name: str, home: Path, trained: Trained) -> Settings:
    settings = pinned(home, trained[name][0], port=free_port(), contracts=INSTANCE.folder)
    return empty_store(settings)


def expected(name: str, first: Scorer, second: Scorer) -> list[Any]:
    """Return the probabilities of the rows, computed in one process."""
    if name == "split":
        return first.predict(ROWS).probabilities
    if name == "ensemble":
        return list(np.mean([each.predict(ROWS).probabilities for each in (first, second)], axis=0))
    classes = first.predict(ROWS).classes
    informed = [row | {column_of(CONTRACT): answer} for row, answer in zip(ROWS, classes, strict=True)]
    return second.predict(informed).probabilities


@pytest.mark.parametrize("name", ["split", "chain", "ensemble"])
def test_a_composition_answers_as_its_models_do_in_one_process(name: str, tmp_path: Path, trained: Trained) -> None:
    """Over real processes and with many requests at a time, each row gets the answer of its models, and is logged once.

    What is refused leaves no value in what the services print.
    """
    settings = of(name, tmp_path, trained)
    _, first, second = trained[name]
    with composed(name, settings, tmp_path / "log") as running:
        with ThreadPoolExecutor(8) as pool:
            responses = list(pool.map(lambda row: running.client.post("/predict", json={"data": row}), ROWS))
        assert [response.status_code for response in responses] == [200] * len(ROWS), responses[0].text
        for refused in (to_json({"data": EXAMPLE | {"hours": SECRET}}), f'{{"data": {{"{SECRET}"'.encode()):
            assert running.client.post("/predict", content=refused, headers=JSON).status_code == 400
        answers: list[Any] = [PAYLOAD.prediction.model_validate_json(each.content, strict=True) for each in responses]
        wait(lambda: len(logged(settings.store_url)) >= len(ROWS))
    written = (tmp_path / "log").read_text()
    assert written.count("Exception on /predict") == 2
    assert SECRET not in written
    given = [[answer.probabilities[each] for each in CONTRACT.classes] for answer in answers]
    np.testing.assert_allclose(given, expected(name, first, second), rtol=0, atol=1e-9)
    assert [answer.predict for answer in answers] == [CONTRACT.classes[int(np.argmax(each))] for each in given]
    version = INFO.version if name == "split" else f"{INFO.version}+{OTHER.version}"
    by_id = {row["request_id"]: row for row in logged(settings.store_url)}
    assert sorted(by_id) == sorted(answer.request_id for answer in answers)
    for row, answer in zip(ROWS, answers, strict=True):
        entry = by_id[answer.request_id]
        assert (entry["prediction"], entry["model_version"]) == (answer.predict, version)
        assert (entry["served_by"], entry["features"]["vibration"]) == (name, row["vibration"])


def test_a_call_that_breaks_is_tried_again() -> None:
    """Once, whether the connection or the answer broke; then the answer is 503."""
    from examples.patterns.parts import ask  # reads the settings

    async def part(broken: list[Exception]) -> str:
        if broken:
            raise broken.pop()
        return "answer"

    for error in (ServerDisconnectedError(), ClientPayloadError()):
        assert asyncio.run(ask(part, broken=[error])) == "answer"
    with pytest.raises(ServiceUnavailable, match="try again later"):
        asyncio.run(ask(part, broken=[ServerDisconnectedError() for _ in range(2)]))


def test_connections_to_parts_are_kept() -> None:
    """BentoML's client closes them after a hundred requests by default, with those in progress."""
    from examples.patterns import chain, ensemble, split  # read the settings

    compositions: list[Any] = [chain.Chain, ensemble.Ensemble, split.Split]  # BentoML's SDK has no types
    parts = [each.on for composition in compositions for each in composition.dependencies.values()]
    assert len(parts) == 5
    assert all(part.config["runner_connection"]["max_requests"] > 1e9 for part in parts)


def test_a_branch_that_fails_is_not_left_out(tmp_path: Path, trained: Trained) -> None:
    """While one of several models does not answer, nobody gets an average of the others, and nothing is logged."""
    settings = of("ensemble", tmp_path, trained).model_copy(update={"request_seconds": 2})
    with composed("ensemble", settings, tmp_path / "log") as running:
        worker = running.worker("Second")
        worker.suspend()
        try:
            assert running.client.post("/predict", json={"data": EXAMPLE}).status_code == 503
        finally:
            worker.resume()
        assert "no answer from second" in (tmp_path / "log").read_text()
        wait(lambda: running.client.post("/predict", json={"data": EXAMPLE}).status_code == 200)
        wait(lambda: len(logged(settings.store_url)) >= 1)
    assert len(logged(settings.store_url)) == 1
