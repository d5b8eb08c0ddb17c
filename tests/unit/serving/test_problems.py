"""Whatever a client sends, the error has one format, and nothing personal is returned or logged."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from starlette.testclient import TestClient
from support.instance import CONTRACT
from support.serving import EXAMPLE, served
from support.strategies import BrokenRow, broken_rows

from ctcd.serving.http import problems
from ctcd.serving.http.problems import ProblemDetails
from ctcd.settings import Settings

JSON = {"content-type": "application/json"}
SLOW = hypothesis_settings(deadline=None)
"""A request takes as long as the machine lets it."""
SECRET = "123-45-6789 Jane Doe"


def refused(response: Any, status: int) -> ProblemDetails:
    assert (response.status_code, response.headers["content-type"]) == (status, problems.MEDIA_TYPE), response.text
    assert response.headers["x-request-id"]
    problem = ProblemDetails.model_validate_json(response.content, strict=True)
    assert problem.status == status
    return problem


@SLOW
@given(broken_rows(CONTRACT))
def test_a_row_that_violates_one_rule_is_refused_for_that_rule(client: TestClient, broken: BrokenRow) -> None:
    """The problem names the field, and the value if the field is known, of the violated rule."""
    # NaN and infinity have no JSON of their own; Python writes them as many clients do.
    response = client.post("/predict", content=json.dumps({"data": broken.row}), headers=JSON)
    problem = refused(response, 422)
    unknown = broken.rule == "unknown"
    assert [error.field for error in problem.errors] == ["data" if unknown else f"data.{broken.column}"]
    assert problem.errors[0].rule
    assert problem.errors[0].field in problem.detail
    value = broken.row.get(broken.column)
    if not unknown and isinstance(value, int) and not isinstance(value, bool):
        assert problem.errors[0].value == value


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"hours": 0}, "greater than or equal to 1"),
        ({"hours": 39.5}, "valid integer"),
        ({"hours": "39"}, "valid integer"),
        ({"grade": "Excellent"}, "pattern"),
        ({"power": None}, "valid number"),
        ({"power": 10**400}, ""),
        ({"machine": 2**31}, "less than or equal to 2147483647"),
        ({"parts": "yacht loan"}, "pattern"),
    ],
)
def test_the_rule_is_named(client: TestClient, change: dict[str, Any], rule: str) -> None:
    """The answer names the rule that is broken, for one example of each kind."""
    problem = refused(client.post("/predict", json={"data": EXAMPLE | change}), 422)
    assert [error.field for error in problem.errors] == [f"data.{next(iter(change))}"]
    assert rule in problem.errors[0].rule


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"hours=39", 400),
        (b'{"data": NaN', 400),
        (b'"text"', 422),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"data": null}', 422),
        (b'{"data": [1, 2]}', 422),
        (b'{"data": {}, "more": 1}', 422),
        (b"[" * 60_000, 400),
        (b'{"data":' * 5_000 + b"1" + b"}" * 5_000, 400),
        (b'{"data": {"hours": 1' + b"0" * 50_000 + b"}}", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"data": {"maker": "\\ud800"}}', 400),
    ],
)
def test_a_malformed_body_is_refused(client: TestClient, body: bytes, status: int) -> None:
    """A body that is not JSON, has another shape, deep nesting, huge numbers or broken text gets a 4xx problem."""
    refused(client.post("/predict", content=body, headers=JSON), status)


@pytest.mark.slow
def test_a_body_that_is_too_large_is_refused_whatever_its_declared_length(settings: Settings) -> None:
    """413, also for a chunked body without a length."""
    with served(settings.model_copy(update={"request_max_bytes": 2_000})) as client:
        refused(client.post("/predict", content=b" " * 2_001, headers=JSON), 413)
        refused(client.post("/predict", content=(b" " * 500 for _ in range(5)), headers=JSON), 413)
        assert client.post("/predict", json={"data": EXAMPLE}).status_code == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle"]
)
def test_another_content_type_is_refused(client: TestClient, content_type: str) -> None:
    """Only JSON is read."""
    refused(client.post("/predict", content=json.dumps({"data": EXAMPLE}), headers={"content-type": content_type}), 415)


@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP, identity"])
def test_a_compressed_body_is_refused_for_that(client: TestClient, path: str, encoding: str) -> None:
    """415, and the answer names the header and says what is accepted."""
    body = gzip.compress(json.dumps({"data": EXAMPLE}).encode())
    response = client.post(path, content=body, headers=JSON | {"content-encoding": encoding})
    assert "Content-Encoding" in refused(response, 415).model_dump_json()
    assert response.headers["accept-encoding"] == "identity"


def test_a_body_that_is_declared_as_not_compressed_is_accepted(client: TestClient) -> None:
    """`identity` means that nothing was done to it."""
    assert client.post("/predict", json={"data": EXAMPLE}, headers={"content-encoding": "Identity"}).is_success


def test_json_with_a_charset_or_without_a_content_type_is_accepted(client: TestClient) -> None:
    """Parameters of the content type are ignored, and a client may omit it."""
    body = json.dumps({"data": EXAMPLE})
    assert client.post("/predict", content=body, headers={"content-type": "Application/JSON; charset=utf-8"}).is_success
    assert client.post("/predict", content=body).is_success


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("DELETE", "/predict", 405), ("POST", "/model-info", 405), ("GET", "/nowhere", 404)],
)
def test_an_unknown_method_or_path_is_refused_in_the_same_format(
    client: TestClient, method: str, path: str, status: int
) -> None:
    """Errors of the framework look like ours; 405 says which method is allowed."""
    response = client.request(method, path)
    refused(response, status)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "NONSENSE"])
@pytest.mark.parametrize(
    "path",
    [
        "/predict/",
        "/livez/",
        "/docs.json/",
        "/static_content",
        "/static_content/",
        "/static_content/..%2f",
        "/%2e",
    ],
)
def test_an_odd_path_is_refused_in_the_same_format_and_never_redirected(
    client: TestClient, method: str, path: str
) -> None:
    """An odd path gets a problem document and no redirect, for every method and whichever layer answers."""
    response = client.request(method, path, follow_redirects=False, headers={"host": "elsewhere.test"})
    assert response.status_code in (404, 405)
    assert "location" not in response.headers
    assert response.headers["content-type"] == problems.MEDIA_TYPE
    assert response.headers["x-request-id"]


@pytest.mark.slow
def test_nothing_personal_is_returned_or_logged(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and values of unknown fields, and misplaced values, are in no answer, no log line and no metric."""
    rows: list[Any] = [
        EXAMPLE | {"badge": SECRET},
        EXAMPLE | {"operator": SECRET},
        EXAMPLE | {SECRET: 1},
        EXAMPLE | {"hours": {"badge": SECRET}},
        SECRET,
        [SECRET],
        # Names that look like locations of a known field.
        {"0.hours": SECRET},
        {"hours.hours": SECRET},
        {"data": {"hours": SECRET}},
    ]
    with served(settings) as client:
        answers = [client.post("/predict", json={"data": row}) for row in rows]
        answers += [client.post("/predict_batch", json={"data": [row]}) for row in rows]
        bodies: list[Any] = [
            {"data": EXAMPLE, "badge": SECRET},
            {"data": EXAMPLE, "data.hours": SECRET},
            {"data": EXAMPLE, SECRET: 1},
            {"hours": SECRET},
        ]
        answers += [client.post(path, json=body) for path in ("/predict", "/predict_batch") for body in bodies]
        answers += [client.get(f"/{SECRET}")]
        metrics = client.get("/metrics").text
    out, err = capsys.readouterr()
    assert [answer.status_code for answer in answers] == [422] * (len(answers) - 1) + [404]
    for answer in answers:
        assert out.count(answer.headers["x-request-id"]) == 1
    for place in (out, err, metrics, *(answer.text for answer in answers)):
        assert "Jane" not in place


def test_an_unexpected_failure_is_a_problem_too(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 in the same format; the log says where it failed, but not with which values."""
    from ctcd.serving.predictor import Predictor

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Predictor, "predict", fail)
    with served(settings) as client:
        problem = refused(client.post("/predict", json={"data": EXAMPLE}), 500)
    out, err = capsys.readouterr()
    assert "Jane" not in problem.model_dump_json() + out + err
    assert '"error": "RuntimeError at ' in out
