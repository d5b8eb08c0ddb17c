"""The prediction log says what the client was told: every field of every row, on both routes."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT, PAYLOAD
from support.serving import INFO, answering_the_less_probable, logged, row_of, served

from ctcd.contract.spec import names
from ctcd.model.scorer import Predictions, Scorer
from ctcd.serving.batch_body import PIECE_ROWS
from ctcd.serving.requests.answering import Answering
from ctcd.settings import Settings

DELAY = 0.04
"""Seconds that the slow model takes for a call."""
SERVED_BY = f"registry.example/api@sha256:{'1' * 64}"
COLUMNS = {
    "id", "request_id", CONTRACT.group.name, "features", "prediction", "confidence", "elapsed_ms", "created_at",
    "model_version", "run_id", "probabilities", "contract_version", "served_by", "variant",
}  # fmt: skip
"""Every column of the log: a new one has to be compared with the answer here."""


@dataclass(frozen=True)
class Told:
    """What a client was told about one row.

    Args:
        row: the row that it sent.
        answer: the part of the answer that is about this row.
        version: version of the model in the header of the response.
        sent: when the request was sent.
        received: when the answer was there.
        took: time between them, milliseconds.
    """

    row: Mapping[str, Any]
    answer: Mapping[str, Any]
    version: str
    sent: datetime
    received: datetime
    took: float


def ask(client: TestClient, path: str, data: Any) -> list[Told]:
    """Send a row or rows; return what the answer says about each."""
    sent, began = datetime.now(UTC), time.perf_counter()
    response = client.post(path, json={"data": data})
    took, received = (time.perf_counter() - began) * 1_000, datetime.now(UTC)
    assert response.status_code == 200, response.text
    answer, version = response.json(), response.headers["x-model-version"]
    assert answer["model_version"] == version
    rows, answers = (data, answer["predictions"]) if path == "/predict_batch" else ([data], [answer])
    return [Told(row, each, version, sent, received, took) for row, each in zip(rows, answers, strict=True)]


def assert_logged(reported: Sequence[Told], log: Sequence[Mapping[str, Any]]) -> None:
    """Compare every field of the log with what clients were told; nothing else is logged."""
    by_id = {row["request_id"]: row for row in log}
    assert len(by_id) == len(log) == len(reported)
    for each in reported:
        row = by_id[each.answer["request_id"]]
        assert set(row) == COLUMNS
        given = PAYLOAD.row.model_validate(each.row).__dict__
        assert row[CONTRACT.group.name] == each.answer[CONTRACT.group.name] == given[CONTRACT.group.name]
        assert row["features"] == {name: given[name] for name in names(CONTRACT.model_inputs)}
        assert row["prediction"] == each.answer["predict"]
        assert row["confidence"] == each.answer["confidence"] == each.answer["probabilities"][row["prediction"]]
        assert row["model_version"] == each.version == INFO.version
        assert row["run_id"] == INFO.run_id
        assert row["probabilities"] == each.answer["probabilities"]
        assert (row["contract_version"], row["served_by"], row["variant"]) == (CONTRACT.version, SERVED_BY, "champion")
        assert each.sent <= row["created_at"] <= each.received
        assert 0 < row["elapsed_ms"] <= each.took


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Return rows whose answers differ, some with values that are left out, missing, unseen or spelled otherwise."""
    odd: list[dict[str, Any]] = [{"shift": None}, {"maker": "Lighthouse Keeper"}, {"parts": "Fan Belt", "num_parts": 1}]
    made = [row_of(number) | {"machine": number + 1} for number in range(first, first + count)]
    for row, change in zip(made, odd, strict=False):
        row.update(change)
    del made[-1]["shift"]
    return made


def assert_told_apart(reported: Sequence[Told], scorer: Scorer) -> None:
    """Make sure that a mix-up would show: rows differ in class, and almost all neighbours in confidence."""
    assert {each.answer["predict"] for each in reported} == set(scorer.classes)
    confidences = [each.answer["confidence"] for each in reported]
    assert len(set(confidences)) > 0.5 * len(reported)
    assert any(round(each, 6) != each for each in confidences)
    assert sum(one != other for one, other in pairwise(confidences)) > 0.9 * (len(reported) - 1)


@pytest.mark.slow
def test_every_field_of_the_log_is_what_the_client_was_told(settings: Settings, scorer: Scorer) -> None:
    """On both routes, for one row and for several chunks of rows; also where the class is not the most probable one."""
    with served(settings.model_copy(update={"served_by": SERVED_BY})) as client, answering_the_less_probable():
        reported = [each for row in rows(0, 40) for each in ask(client, "/predict", row)]
        reported += ask(client, "/predict_batch", rows(100, 2 * PIECE_ROWS + 3))
        reported += ask(client, "/predict_batch", rows(5_000, 1))
    assert_told_apart(reported, scorer)
    assert_logged(reported, logged(settings.store_url))


@pytest.mark.slow
def test_the_request_log_has_the_rows_of_what_is_scored_later(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of requests and files that were accepted, and of a file whose state somebody reads."""
    later = settings.model_copy(update={"asynchronous": True})
    with patch.object(Answering, "step", lambda _self: False), served(later) as client:
        assert client.post("/predictions", json={"data": rows(0, 3)}).status_code == 202
        content = pd.DataFrame([row_of(number) | {"machine": number + 1} for number in range(5)]).to_csv(index=False)
        accepted = client.post("/predictions/files", content=content, headers={"content-type": "text/csv"})
        assert client.get(accepted.headers["location"]).status_code == 202
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]
    routes = {"/predictions": 3, "/predictions/files": 5, "/predictions/files/{request_id}": 5}
    assert {line["route"]: line.get("rows") for line in lines} == routes


@contextmanager
def slow(seconds: float) -> Iterator[list[int]]:
    """Let each call of a model take a known time at least; yield the numbers of rows of the calls."""
    calls: list[int] = []
    predict = Scorer.predict

    def slowly(scorer: Scorer, given: Any) -> Predictions:
        time.sleep(seconds)
        calls.append(len(given))
        return predict(scorer, given)

    with patch.object(Scorer, "predict", slowly):
        yield calls


@pytest.mark.slow
def test_a_known_delay_is_in_every_record_of_a_duration(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Prediction log, request log and metrics state a time between the delay and what the client measured."""
    with served(settings) as client, slow(DELAY) as calls:
        single = ask(client, "/predict", row_of(1))
        batch = ask(client, "/predict_batch", rows(0, 2 * PIECE_ROWS + 1))
        page = client.get("/metrics").text
    assert calls == [1, PIECE_ROWS, PIECE_ROWS, 1]
    log = {row["request_id"]: row["elapsed_ms"] for row in logged(settings.store_url)}
    assert DELAY * 1_000 <= log[single[0].answer["request_id"]] <= single[0].took
    for index, each in enumerate(batch):
        # The rows of a chunk have waited for the chunks before it.
        assert (index // PIECE_ROWS + 1) * DELAY * 1_000 <= log[each.answer["request_id"]] <= each.took
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]
    for route, reported, chunks in (("/predict", single, 1), ("/predict_batch", batch, 3)):
        [line] = [line for line in lines if line["route"] == route]
        assert chunks * DELAY * 1_000 <= line["elapsed_ms"] <= reported[0].took
        assert line["model_version"] == INFO.version
        assert line.get("rows", 1) == len(reported)
        [seconds] = [
            float(text.rpartition(" ")[2])
            for text in page.splitlines()
            if text.startswith(
                f'ctcd_request_seconds_sum{{model="machine_condition",route="{route}",variant="champion"}}'
            )
        ]
        assert chunks * DELAY <= seconds <= reported[0].took / 1_000
