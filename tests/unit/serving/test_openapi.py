"""The OpenAPI document agrees with the contract."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT, PAYLOAD

from ctcd.contract.spec import Kind
from ctcd.serving.http.routes import BY_PATH


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    """The document as it is served."""
    response = client.get("/docs.json")
    assert response.headers["content-type"] == "application/json"
    result: dict[str, Any] = response.json()
    return result


def test_every_path_and_method_is_there(document: dict[str, Any]) -> None:
    """Every route is described, except for the pages and the document itself."""
    methods = {path: next(iter(operations)) for path, operations in document["paths"].items()}
    assert set(methods) == set(BY_PATH) - {"/", "/docs", "/docs.json"}
    posts = {path for path, method in methods.items() if method == "post"}
    assert posts == {"/predict", "/predict_batch", "/metadata", "/predictions", "/predictions/files"}


def test_every_feature_carries_unit_meaning_bounds_and_categories(document: dict[str, Any]) -> None:
    """Every feature in the OpenAPI document has the unit, meaning, bounds and categories of the contract."""
    fields = document["components"]["schemas"][PAYLOAD.row.__name__]["properties"]
    assert list(fields) == [CONTRACT.group.name, *(column.name for column in CONTRACT.model_inputs)]
    for column in (CONTRACT.group, *CONTRACT.model_inputs):
        field = fields[column.name]
        assert field["unit"] == column.unit
        assert field["examples"] == [column.example]
        typed = field["anyOf"][0] if column.nullable else field
        assert column.meaning in (field.get("description") or typed["description"])
        if column.kind in (Kind.INTEGER, Kind.NUMBER):
            assert (typed["minimum"], typed["maximum"]) == (column.minimum, column.maximum)
        if column.categories:
            assert [value for value in field["enum"] if value is not None] == list(column.categories)
        assert (column.name in document["components"]["schemas"][PAYLOAD.row.__name__]["required"]) != column.nullable


def test_the_example_request_is_answered(client: TestClient, document: dict[str, Any]) -> None:
    """The example of the document is a valid request."""
    example = document["components"]["schemas"]["PredictRequest"]["examples"][0]
    PAYLOAD.request.model_validate(example)
    assert client.post("/predict", json=example).status_code == 200


def test_the_examples_of_answers_are_answers(client: TestClient, document: dict[str, Any]) -> None:
    """That of a prediction is valid, has every class and names one; that of a refusal is what the service answers."""
    schemas = document["components"]["schemas"]
    [example] = schemas["Prediction"]["examples"]
    PAYLOAD.prediction.model_validate(example, strict=True)
    assert schemas["Prediction"]["properties"]["predict"]["enum"] == list(CONTRACT.classes)
    assert set(example["probabilities"]) == set(CONTRACT.classes)  # pydantic sorts what is in an example
    assert sum(example["probabilities"].values()) == pytest.approx(1)
    assert (
        example["confidence"] == max(example["probabilities"].values()) == example["probabilities"][example["predict"]]
    )
    refusal = document["paths"]["/predict"]["post"]["responses"]["422"]["content"]["application/problem+json"][
        "example"
    ]
    row = schemas["PredictRequest"]["examples"][0]["data"]
    answer = client.post("/predict", json={"data": row | {next(iter(row)): []}}).json()
    assert {**answer, "title": refusal["title"]} == refusal


def test_every_route_has_a_tag(document: dict[str, Any]) -> None:
    """One that the document describes."""
    tags = [tag["name"] for tag in document["tags"]]
    used = [tag for operations in document["paths"].values() for each in operations.values() for tag in each["tags"]]
    assert len(used) == len(document["paths"])
    assert list(dict.fromkeys(used)) == tags


def test_every_reference_can_be_resolved(document: dict[str, Any]) -> None:
    """No `$ref` is dangling."""

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    for reference in references(document):
        target: Any = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
        assert target
