"""No marked secret and no personal value is in anything that the processes of a service say or write."""

import json
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from support.instance import CONTRACT
from support.load import wait
from support.marks import (
    API_KEY,
    CREDENTIALS,
    METRICS_KEY,
    NAME,
    SECRETS,
    WRONG_KEY,
    in_files,
    in_texts,
    marked,
    marks_of,
    unreachable,
)
from support.serving import EXAMPLE, logged

from ctcd.contract.spec import names
from ctcd.deployment.bento import BentoReport
from ctcd.serving.launch import running
from ctcd.settings import LogLevel, ModelSource, Settings
from ctcd.store.engine import connect, transaction

pytestmark = pytest.mark.integration

PERSONAL = dict.fromkeys(names(CONTRACT.personal), NAME)


def requests(client: httpx.Client) -> dict[str, int]:
    """Send what clients send, right and wrong, with secrets and names wherever they can be; return the statuses."""
    key, wrong = {"X-API-Key": API_KEY}, {"X-API-Key": WRONG_KEY, "Authorization": f"Bearer {WRONG_KEY}"}
    named = EXAMPLE | PERSONAL
    sent = {
        "row": client.post("/predict", json={"data": EXAMPLE}, headers=key),
        "batch": client.post("/predict_batch", json={"data": [EXAMPLE] * 3}, headers=key),
        "wrong key": client.post("/predict", json={"data": EXAMPLE}, headers=wrong),
        "personal field": client.post("/predict", json={"data": named}, headers=key),
        "personal field in a batch": client.post("/predict_batch", json={"data": [EXAMPLE, named]}, headers=key),
        "name of a field": client.post("/predict", json={"data": EXAMPLE | {NAME: 1}}, headers=key),
        "value of a field": client.post("/predict", json={"data": EXAMPLE | {"hours": NAME}}, headers=key),
        "no JSON": client.post("/predict", content=NAME, headers=key | {"Content-Type": "application/json"}),
        "path": client.get(f"/{NAME}/{API_KEY}", headers=key),
        "query": client.get(f"/model-info?name={NAME}&key={API_KEY}", headers=key),
        "header": client.get("/livez", headers={"X-Request-Id": NAME, "User-Agent": NAME, "Cookie": NAME}),
        "metadata": client.post("/metadata", headers=key),
    }
    answers = {name: response.text + json.dumps(dict(response.headers)) for name, response in sent.items()}
    # Of what a client sent, its own values may come back in the answer to it, and to nobody else.
    assert in_texts(SECRETS, **answers) == []
    assert in_texts([NAME], **{name: answer for name, answer in answers.items() if name != "value of a field"}) == []
    return {name: response.status_code for name, response in sent.items()}


def test_a_service_says_no_secret_and_no_name(
    built: tuple[BentoReport, Path], settings: Settings, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its most talkative level, while all is well, while store or cache fail, and while the registry is away."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    url = marked(make_url(store_url))
    changed = {
        "feature_store_url": SecretStr(url.render_as_string(hide_password=False)),
        "mlflow_tracking_uri": SecretStr(unreachable()["MLFLOW_TRACKING_URI"]),
        "model_source": ModelSource.REGISTRY,
        "api_keys": SecretStr(API_KEY),
        "metrics_keys": SecretStr(METRICS_KEY),
        "cache_url": SecretStr(CREDENTIALS["CTCD_CACHE_URL"]),
        "log_level": LogLevel.DEBUG,
        "follow_seconds": 0.2,
        "drain_seconds": 0.5,
    }
    table = CONTRACT.predictions_table
    with (
        running(built[0].tag, settings.model_copy(update=changed)) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        expected = dict.fromkeys(("row", "batch", "query", "header", "metadata"), 200) | {
            "wrong key": 401,
            "personal field": 422,
            "personal field in a batch": 422,
            "name of a field": 422,
            "value of a field": 422,
            "no JSON": 400,
            "path": 404,
        }
        assert requests(client) == expected
        wait(lambda: len(logged(store_url)) == 4)
        engine = connect(store_url)
        with transaction(engine) as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO away"))
        engine.dispose()
        assert requests(client) == expected
        wait(lambda: "does not accept predictions" in service.log.read_text())
        assert "the cache server failed" in service.log.read_text()
        info = {"X-API-Key": API_KEY}
        wait(lambda: client.get("/model-info", headers=info).json()["registry_error"] != "")
        pages = {
            "metrics": client.get("/metrics", headers={"X-API-Key": METRICS_KEY}).text,
            "model-info": client.get("/model-info", headers=info).text,
        }
    marks = marks_of(url)
    assert "ctcd_requests_total" in pages["metrics"]
    assert in_texts(marks, log=service.log.read_text(), **pages) == []
    # Those who sent the rows are not in it, but the rows are: the search finds what is there.
    assert in_files([EXAMPLE["maker"]], settings.outbox) != []
    assert in_files(marks, settings.home) == []
