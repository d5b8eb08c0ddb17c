"""A batch is answered like its rows one by one, and is logged completely or not at all."""

import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from starlette.testclient import TestClient
from support.examples import at_most
from support.instance import CONTRACT, PAYLOAD
from support.serving import EXAMPLE, INFO, logged, row_of, served
from support.strategies import BrokenRow, broken_rows, valid_rows

from ctcd.model.scorer import Scorer
from ctcd.serving.batch_body import PIECE_ROWS
from ctcd.serving.batch_predictor import plain
from ctcd.serving.http import problems
from ctcd.serving.http.problems import ProblemDetails
from ctcd.settings import Settings

PLAIN: TypeAdapter[list[Any]] = TypeAdapter(list[plain(PAYLOAD.row)])  # type: ignore[arg-type, misc] # made at run time


def rows(count: int) -> list[dict[str, Any]]:
    return [row_of(number) for number in range(count)]


def ask(client: TestClient, data: list[dict[str, Any]]) -> Any:
    response = client.post("/predict_batch", json={"data": data})
    assert response.status_code == 200, response.text
    answer: Any = PAYLOAD.batch_prediction.model_validate_json(response.content, strict=True)
    assert response.headers["x-request-id"] == answer.request_id
    assert response.headers["x-model-version"] == answer.model_version == INFO.version
    return answer


def refused(client: TestClient, body: bytes, status: int) -> ProblemDetails:
    response = client.post("/predict_batch", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (status, problems.MEDIA_TYPE), response.text
    return ProblemDetails.model_validate_json(response.content, strict=True)


@pytest.mark.parametrize("count", [1, PIECE_ROWS, PIECE_ROWS + 1, 2 * PIECE_ROWS - 1])
def test_answers_are_those_of_the_model_in_the_order_of_the_rows(
    client: TestClient, scorer: Scorer, count: int
) -> None:
    """The answers equal those of the model, in the order of the rows, for any number of chunks."""
    data = [row | {"machine": number} for number, row in enumerate(rows(count), 1)]
    answer = ask(client, data)
    given_back = np.array([[each.probabilities[name] for name in CONTRACT.classes] for each in answer.predictions])
    expected = scorer.probabilities_of(data)
    assert (expected[1:] != expected[:-1]).any(axis=1).all()
    np.testing.assert_allclose(given_back, expected, rtol=0, atol=1e-12)
    assert [each.machine for each in answer.predictions] == [row["machine"] for row in data]
    for each in answer.predictions:
        assert each.confidence == max(each.probabilities.values()) == each.probabilities[each.predict]


def test_a_row_in_a_batch_is_answered_like_a_single_row(client: TestClient) -> None:
    """Also with missing, null, unseen and differently spelled values."""
    without = {name: value for name, value in EXAMPLE.items() if name != "shift"}
    data: list[dict[str, Any]] = [
        EXAMPLE,
        without,
        EXAMPLE | {"maker": "Lighthouse Keeper"},
        EXAMPLE | {"parts": "Fan Belt", "num_parts": 1, "power": 500},
    ]
    alone = [client.post("/predict", json={"data": row}).json()["probabilities"] for row in data]
    assert [each.probabilities for each in ask(client, data).predictions] == alone


@pytest.mark.slow
def test_every_row_is_logged_once_under_its_own_id(settings: Settings) -> None:
    """In the largest batch that is allowed, the ids fit the log and are unique."""
    with served(settings.model_copy(update={"outbox_batch": 5_000, "drain_seconds": 60})) as client:
        answer = ask(client, rows(PAYLOAD.max_rows))
    ids = [each.request_id for each in answer.predictions]
    assert len(set(ids)) == PAYLOAD.max_rows
    assert {len(each) for each in ids} == {36}
    log = logged(settings.store_url)
    assert [row["request_id"] for row in log] == ids
    assert log[7]["features"] == {name: value for name, value in rows(8)[7].items() if name != CONTRACT.group.name}
    assert {(row["model_version"], row["run_id"]) for row in log} == {(INFO.version, INFO.run_id)}


@hypothesis_settings(deadline=None, max_examples=at_most(40))
@given(broken_rows(CONTRACT), st.integers(0, 300))
def test_a_broken_row_refuses_the_batch_and_is_named(client: TestClient, broken: BrokenRow, before: int) -> None:
    """The problem names row and field, unless the contract has no such field; no row of the batch is answered."""
    data = [*rows(before), broken.row, *rows(2)]
    problem = refused(client, json.dumps({"data": data}).encode(), 422)
    name = "" if broken.rule == "unknown" else f".{broken.column}"
    assert [error.field for error in problem.errors] == [f"data.{before}{name}"]
    value = broken.row.get(broken.column)
    if broken.rule != "unknown" and isinstance(value, int) and not isinstance(value, bool):
        assert problem.errors[0].value == value


@hypothesis_settings(deadline=None, max_examples=at_most(100))
@given(st.one_of(valid_rows(CONTRACT), broken_rows(CONTRACT).map(lambda broken: broken.row)), st.booleans())
def test_the_validation_of_many_rows_agrees_with_that_of_one(row: dict[str, Any], spelled: bool) -> None:
    """It accepts the same rows, with the same values in the same order, including defaults and spelling."""
    given = {name: value.title() if spelled and isinstance(value, str) else value for name, value in row.items()}
    try:
        wanted = list(PAYLOAD.row.model_validate(given).__dict__.items())
    except ValidationError:
        with pytest.raises(ValidationError):
            PLAIN.validate_python([given])
    else:
        assert [list(each.__dict__.items()) for each in PLAIN.validate_python([given])] == [wanted]


@pytest.mark.slow
def test_nothing_of_a_refused_batch_is_logged(settings: Settings) -> None:
    """A batch with an invalid row, which is named by its place in all of the batch, logs no row, not even those before it."""
    with served(settings) as client:
        data = [*rows(2 * PIECE_ROWS), EXAMPLE | {"hours": -1}]
        problem = refused(client, json.dumps({"data": data}).encode(), 422)
    assert [error.field for error in problem.errors] == [f"data.{2 * PIECE_ROWS}.hours"]
    assert logged(settings.store_url) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"data": [}', 400),
        (b"\xff", 400),
        (b"[" * 60_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"data": []}', 422),
        (b'{"data": {}}', 422),
        (b'{"data": "x"}', 422),
        (b'{"data": [1]}', 422),
        (b'{"data": [null]}', 422),
        (b'{"data": [[]]}', 422),
        (b'{"data": [{}], "more": 1}', 422),
        (json.dumps({"data": [1] * (PAYLOAD.max_rows + 1)}).encode(), 422),
    ],
)
def test_a_malformed_batch_is_refused(client: TestClient, body: bytes, status: int) -> None:
    """It is not JSON, has another structure, no rows, or too many rows."""
    refused(client, body, status)


def test_an_invalid_batch_shows_no_unknown_values(client: TestClient) -> None:
    """Values of unknown fields are not returned."""
    body = json.dumps({"data": [EXAMPLE | {"badge": "123-45-6789"}, {"hours": {"badge": "123-45-6789"}}]}).encode()
    assert "123-45-6789" not in refused(client, body, 422).model_dump_json()


def test_a_batch_has_a_size_limit_of_its_own(settings: Settings) -> None:
    """A batch may be larger than a request for one row, and not larger than its own limit."""
    small = settings.model_copy(update={"request_max_bytes": 2_000, "batch_max_bytes": 5_000})
    with served(small) as client:
        assert len(ask(client, rows(4)).predictions) == 4
        refused(client, b" " * 5_001, 413)


def test_a_batch_that_does_not_fit_the_outbox_is_refused(settings: Settings) -> None:
    """503 with Retry-After, and none of its rows is logged."""
    with served(settings.model_copy(update={"outbox_max_records": 10})) as client:
        response = client.post("/predict_batch", json={"data": rows(11)})
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert logged(settings.store_url) == []


@pytest.mark.slow
def test_concurrent_batches_are_answered_or_refused_for_now(settings: Settings) -> None:
    """The number of concurrent batches is limited; more get 503, and every answered row is logged."""
    with served(settings.model_copy(update={"outbox_batch": 5_000, "drain_seconds": 60})) as client:
        body = json.dumps({"data": rows(500)})
        with ThreadPoolExecutor(12) as pool:
            responses = list(pool.map(lambda _: client.post("/predict_batch", content=body), range(12)))
    statuses = [response.status_code for response in responses]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 4
    assert len(logged(settings.store_url)) == 500 * statuses.count(200)


@pytest.mark.slow
def test_memory_is_bounded_by_the_body(client: TestClient) -> None:
    """A batch needs a few times the size of its body, whatever its number of rows."""
    body = json.dumps({"data": rows(5_000)}).encode()
    client.post("/predict_batch", content=body)
    tracemalloc.start()
    client.post("/predict_batch", content=body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(body)


def test_batches_are_validated_as_documented(client: TestClient) -> None:
    """The limits and the example of the OpenAPI document are those of the service."""
    document = client.get("/docs.json").json()["components"]["schemas"]["PredictBatchRequest"]
    assert (document["properties"]["data"]["minItems"], document["properties"]["data"]["maxItems"]) == (
        1,
        PAYLOAD.max_rows,
    )
    PAYLOAD.batch_request.model_validate(document["examples"][0])
    assert client.post("/predict_batch", json=document["examples"][0]).status_code == 200
