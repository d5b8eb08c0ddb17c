"""The API accepts what the instance documents, and refuses what it must not accept.

`examples/` in the instance's folder may say what existing clients rely on, as changes of the contract's example row:
`accepted.json` and `refused.json` are lists of `{"name": ..., "changes": {...}}`, the latter with the `field` that the
refusal must name; `answer.json` lists the fields that clients read. An instance without clients needs none of them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from starlette.testclient import TestClient
from support.examples import at_most
from support.serving import model_info, pinned, save_model, served, small_scorer
from support.strategies import BrokenRow, Row, broken_rows, valid_rows
from support.tested_instance import CONTRACT, INSTANCE, PAYLOAD

from ctcd.store.migrations import upgrade

EXAMPLE: Row = {column.name: column.example for column in CONTRACT.request_columns}


def examples(name: str) -> Any:
    file = INSTANCE.folder / "examples" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of the instance's service, which serves a small model."""
    home = tmp_path_factory.mktemp("home")
    model = save_model(small_scorer(contract=CONTRACT), home / "model", model_info(CONTRACT), CONTRACT)
    service = pinned(home, model, ship_in_process=False)
    upgrade(service.store_url, INSTANCE.migrations)
    with served(service, INSTANCE) as client:
        yield client


def test_the_example_row_is_documented_and_accepted(client: TestClient) -> None:
    """The row in the OpenAPI document is the contract's example, and the service answers it alone and in a batch."""
    assert PAYLOAD.row.model_json_schema()["examples"] == [EXAMPLE]
    alone = client.post("/predict", json={"data": EXAMPLE})
    assert alone.status_code == 200, alone.text
    answer: Any = PAYLOAD.prediction.model_validate_json(alone.content, strict=True)
    assert all(alone.json()[column.name] == EXAMPLE[column.name] for column in CONTRACT.identity)
    assert answer.predict in CONTRACT.classes
    batch = client.post("/predict_batch", json={"data": [EXAMPLE] * 2})
    assert batch.status_code == 200, batch.text
    PAYLOAD.batch_prediction.model_validate_json(batch.content, strict=True)


def test_what_existing_clients_send_is_accepted(client: TestClient) -> None:
    """Every request of `accepted.json` is answered."""
    for example in examples("accepted"):
        response = client.post("/predict", json={"data": EXAMPLE | example["changes"]})
        assert response.status_code == 200, f"{example['name']}: {response.text}"


def test_what_must_be_refused_is_refused(client: TestClient) -> None:
    """Every request of `refused.json` is refused, and the refusal names the field."""
    for example in examples("refused"):
        response = client.post("/predict", json={"data": EXAMPLE | example["changes"]})
        assert response.status_code == 422, f"{example['name']}: {response.text}"
        assert example["field"] in response.text, example["name"]


def test_the_answer_keeps_the_fields_that_clients_read(client: TestClient) -> None:
    """Every field of `answer.json` is in the answer."""
    assert set(examples("answer")) <= set(client.post("/predict", json={"data": EXAMPLE}).json())


@given(valid_rows(CONTRACT))
def test_every_row_that_satisfies_the_contract_is_accepted(row: Row) -> None:
    """The payload accepts whatever the contract allows."""
    PAYLOAD.row.model_validate_json(json.dumps(row))


@given(broken_rows(CONTRACT))
@settings(max_examples=at_most(50))
def test_a_row_that_breaks_a_rule_is_refused(broken: BrokenRow) -> None:
    """The payload refuses a row that breaks a single rule, and names the column."""
    with pytest.raises(ValidationError, match=re.escape(broken.column)):
        PAYLOAD.row.model_validate_json(json.dumps(broken.row))
