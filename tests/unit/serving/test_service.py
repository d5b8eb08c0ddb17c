"""The API satisfies the payload contract, and logs what it answers."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.client_rows import CLIENT_ROWS
from support.instance import CONTRACT, PAYLOAD
from support.load import wait
from support.serving import EXAMPLE, INFO, logged, served
from support.strategies import valid_rows

from ctcd.errors import NotFound
from ctcd.model.scorer import Scorer
from ctcd.settings import Settings

SLOW = hypothesis_settings(deadline=None)
"""A request takes as long as the machine lets it."""
NO_STORE = {"feature_store_url": SecretStr("mysql+pymysql://u:p@127.0.0.1:1/none"), "drain_seconds": 0.2}
"""Nothing listens on that port."""


def ask(client: TestClient, row: dict[str, Any]) -> Any:
    response = client.post("/predict", json={"data": row})
    assert response.status_code == 200, response.text
    return PAYLOAD.prediction.model_validate_json(response.content, strict=True)


def metric_of(client: TestClient, metric: str) -> float:
    """Return the value of a metric that has no labels."""
    start = f'ctcd_{metric}{{model="machine_condition"}} '
    [line] = [line for line in client.get("/metrics").text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def probabilities(client: TestClient, rows: Iterable[dict[str, Any]]) -> list[list[float]]:
    return [list(ask(client, row).probabilities.values()) for row in rows]


def test_a_prediction_keeps_the_payload_contract(client: TestClient) -> None:
    """The fields that existing clients read are there, and the headers name request and version."""
    response = client.post("/predict", json={"data": EXAMPLE})
    answer: Any = PAYLOAD.prediction.model_validate_json(response.content, strict=True)
    assert set(response.json()) == set(PAYLOAD.prediction.model_fields)
    assert answer.machine == EXAMPLE["machine"]
    assert tuple(answer.probabilities) == CONTRACT.classes
    assert answer.confidence == max(answer.probabilities.values()) == answer.probabilities[answer.predict]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert response.headers["x-request-id"] == answer.request_id
    assert response.headers["x-model-version"] == answer.model_version == INFO.version


@SLOW
@given(CLIENT_ROWS)
def test_the_requests_of_existing_clients_are_accepted(client: TestClient, row: dict[str, Any]) -> None:
    """Every value in the published ranges is answered, even if columns contradict each other."""
    ask(client, EXAMPLE | row)


def test_probabilities_are_those_of_the_model(client: TestClient, scorer: Scorer) -> None:
    """The API returns what the trained scorer returns, also for missing and unseen values."""
    rows = [
        EXAMPLE,
        EXAMPLE | {"shift": None},
        EXAMPLE | {"maker": "Lighthouse Keeper"},
        EXAMPLE | {"parts": "None", "num_parts": 0},
    ]
    expected = scorer.probabilities_of(rows)
    np.testing.assert_allclose(probabilities(client, rows), expected, rtol=0, atol=1e-12)


@SLOW
@given(row=valid_rows(CONTRACT))
def test_every_row_that_keeps_the_contract_is_scored_as_the_model_does(
    client: TestClient, scorer: Scorer, row: dict[str, Any]
) -> None:
    """No valid row is refused, and none is scored differently over HTTP."""
    np.testing.assert_allclose(probabilities(client, [row]), scorer.probabilities_of([row]), rtol=0, atol=1e-12)


def test_a_field_that_may_be_missing_counts_as_null(client: TestClient) -> None:
    """An omitted field and null are the same to the model."""
    without = {name: value for name, value in EXAMPLE.items() if name != "shift"}
    assert probabilities(client, [without]) == probabilities(client, [EXAMPLE | {"shift": None}])


@pytest.mark.slow
def test_every_answer_is_in_the_store_once_it_has_stopped(settings: Settings) -> None:
    """The log has one row for each answer, with all of its fields."""
    began = datetime.now(UTC)
    with served(settings) as client:
        answers = [ask(client, EXAMPLE | {"hours": hours}) for hours in range(20, 25)]
        client.post("/predict", json={"data": EXAMPLE | {"hours": -1}})
    rows = logged(settings.store_url)
    assert [row["request_id"] for row in rows] == [answer.request_id for answer in answers]
    for row, answer, hours in zip(rows, answers, range(20, 25), strict=True):
        assert row["machine"] == answer.machine
        assert row["features"] == {k: v for k, v in EXAMPLE.items() if k != "machine"} | {"hours": hours}
        assert (row["prediction"], row["confidence"]) == (answer.predict, answer.confidence)
        assert (row["model_version"], row["run_id"]) == (INFO.version, INFO.run_id)
        assert 0 < row["elapsed_ms"] < 60_000
        assert began <= row["created_at"] <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.slow
def test_predictions_are_answered_without_a_store_and_reach_it_later(settings: Settings) -> None:
    """The store is not needed to answer; the answers arrive once it is reachable."""
    with served(settings.model_copy(update=NO_STORE)) as client:
        answer = ask(client, EXAMPLE)
        assert client.get("/readyz").status_code == 200
        wait(lambda: metric_of(client, "outbox_failures_total") >= 1 and metric_of(client, "outbox_records") == 1)
        assert metric_of(client, "outbox_age_seconds") > 0
        assert metric_of(client, "outbox_shipped_total") == 0
    assert logged(settings.store_url) == []
    with served(settings) as client:
        wait(lambda: metric_of(client, "outbox_shipped_total") == 1)
        wait(lambda: metric_of(client, "outbox_records") == 0)
        assert metric_of(client, "outbox_age_seconds") == 0
    assert [row["request_id"] for row in logged(settings.store_url)] == [answer.request_id]


@pytest.mark.slow
def test_a_full_outbox_refuses_predictions(settings: Settings) -> None:
    """503 with Retry-After and no prediction; not ready, but alive."""
    with served(settings.model_copy(update=NO_STORE | {"outbox_max_records": 1})) as client:
        ask(client, EXAMPLE)
        refused = client.post("/predict", json={"data": EXAMPLE})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert "predict" not in refused.json()
        assert (client.get("/readyz").status_code, client.get("/livez").status_code) == (503, 200)


def test_the_model_in_service_is_described(client: TestClient) -> None:
    """`POST /metadata` and `GET /model-info` answer as existing clients expect."""
    metadata: Any = PAYLOAD.metadata.model_validate_json(client.post("/metadata").content, strict=True)
    assert (metadata.model_name, metadata.model_version) == (CONTRACT.name, INFO.version)
    assert metadata.params == {"iterations": 20, "depth": 4}
    assert metadata.creation_time == INFO.creation_time
    info: Any = PAYLOAD.model_info.model_validate_json(client.get("/model-info").content, strict=True)
    assert (info.alias, info.version, info.run_id) == ("champion", INFO.version, INFO.run_id)
    assert (info.model_uri, info.contract_version) == (INFO.model_uri, CONTRACT.version)


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz"])
def test_a_probe_succeeds(client: TestClient, path: str) -> None:
    """Its status is 200."""
    assert client.get(path).status_code == 200


@pytest.mark.slow
def test_the_metrics_count_what_happened(settings: Settings) -> None:
    """Requests by route and status, predictions by class and version, and what the outbox holds."""
    with served(settings) as client:
        answer = ask(client, EXAMPLE)
        client.post("/predict", json={"data": {}})
        client.get("/nowhere/of-mine")
        page = client.get("/metrics")
    lines = page.text.splitlines()
    assert page.headers["content-type"].startswith("text/plain")
    assert 'ctcd_requests_total{model="machine_condition",route="/predict",status="200"} 1.0' in lines
    assert 'ctcd_requests_total{model="machine_condition",route="/predict",status="422"} 1.0' in lines
    assert 'ctcd_requests_total{model="machine_condition",route="other",status="404"} 1.0' in lines
    assert (
        f'ctcd_predictions_total{{model="machine_condition",model_version="7",prediction="{answer.predict}",variant="champion"}} 1.0'
        in lines
    )
    assert any(line.startswith("ctcd_outbox_records{") for line in lines)
    # Of two requests to the route, one was answered by a model; each is in its last bucket.
    for variant in ("", "champion"):
        labels = f'model="machine_condition",route="/predict",variant="{variant}"'
        assert f'ctcd_request_seconds_bucket{{le="+Inf",{labels}}} 1.0' in lines
        assert f"ctcd_request_seconds_count{{{labels}}} 1.0" in lines


@pytest.mark.slow
def test_only_cheap_middleware_surrounds_a_request(settings: Settings) -> None:
    """BentoML's per-request timer is never used; its spans are created only if tracing is on."""
    stacks = {}
    for tracing in (False, True):
        with served(settings.model_copy(update={"tracing": tracing})) as client:
            assert ask(client, EXAMPLE).machine == EXAMPLE["machine"]
            stacks[tracing] = [getattr(each.cls, "__name__", "") for each in client.app.user_middleware]  # type: ignore[attr-defined] # it is a Starlette app
    assert stacks == {
        False: ["RequestMiddleware", "ContextMiddleware"],
        True: ["OpenTelemetryMiddleware", "RequestMiddleware", "ContextMiddleware"],
    }


def test_without_a_model_it_does_not_start(settings: Settings) -> None:
    """The error says where the model was expected, and what to do."""
    empty = settings.home / "empty"
    empty.mkdir()
    with (
        pytest.raises(NotFound, match=r"no model to serve .run: ctcd build"),
        served(settings.model_copy(update={"scorer_folder": empty})),
    ):
        pass
