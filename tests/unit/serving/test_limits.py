"""No request takes longer than the settings allow, and the request log has what they ask for."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message
from support.load import wait
from support.serving import EXAMPLE, INFO, logged, served

from ctcd.model.scorer import Predictions, Scorer
from ctcd.serving.batch_body import PIECE_ROWS
from ctcd.serving.http.problems import MEDIA_TYPE, ProblemDetails
from ctcd.settings import LogLevel, Settings

SCOPE = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")], "query_string": b""}


def stalled(client: TestClient, path: str) -> tuple[int, bytes]:
    """Begin a body and send no more of it; return status and body of the answer."""
    app: ASGIApp = client.app
    sent: list[Message] = []
    parts: list[Message] = [{"type": "http.request", "body": b'{"data": ', "more_body": True}]

    async def receive() -> Message:
        if not parts:
            await asyncio.sleep(10)  # then the client gives up
            return {"type": "http.disconnect"}
        return parts.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(SCOPE | {"path": path, "raw_path": path.encode()}, receive, send)

    assert client.portal is not None
    client.portal.call(run)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
def test_a_body_that_does_not_arrive_is_refused_in_time(settings: Settings, path: str) -> None:
    """408 after the time limit, and the next request is answered."""
    with served(settings.model_copy(update={"request_seconds": 0.2})) as client:
        began = time.monotonic()
        status, body = stalled(client, path)
        assert 0.2 <= time.monotonic() - began < 10
        assert (status, ProblemDetails.model_validate_json(body, strict=True).status) == (408, 408)
        assert client.post("/predict", json={"data": EXAMPLE}).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body"), [("/predict", {"data": EXAMPLE}), ("/predict_batch", {"data": [EXAMPLE] * 3})]
)
def test_a_disk_that_hangs_does_not_block_a_request(settings: Settings, path: str, body: dict[str, object]) -> None:
    """504 after the time limit; the service stays alive, and recovers with the disk."""
    with served(settings.model_copy(update={"request_seconds": 0.3})) as client:
        assert client.post(path, json=body).status_code == 200
        [file] = settings.outbox.glob("*.outbox")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else can write until it ends
            late = client.post(path, json=body)
            assert (late.status_code, late.headers["content-type"]) == (504, MEDIA_TYPE)
            assert client.get("/livez").status_code == 200
            other.execute("ROLLBACK")
        # The abandoned prediction is still written; after that, there is time for the next one.
        wait(lambda: client.post(path, json=body).status_code == 200, 20)


@pytest.mark.slow
def test_a_batch_that_nobody_waits_for_any_more_ends_at_the_next_piece(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """504 after the time limit; the rest of it is not scored, and none of it is logged."""
    pieces: list[int] = []

    def slow(self: Scorer, rows: list[dict[str, object]]) -> Predictions:
        pieces.append(len(rows))
        time.sleep(0.3)
        return predict(self, rows)

    predict = Scorer.predict
    with served(settings.model_copy(update={"request_seconds": 0.4})) as client:
        monkeypatch.setattr(Scorer, "predict", slow)
        late = client.post("/predict_batch", json={"data": [EXAMPLE] * (20 * PIECE_ROWS)})
        assert (late.status_code, late.headers["content-type"]) == (504, MEDIA_TYPE)
    # The service has ended, after what it was doing.
    assert 1 <= len(pieces) <= 2
    assert logged(settings.store_url) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", [LogLevel.INFO, LogLevel.WARNING])
def test_each_request_is_logged_if_the_level_says_so(
    settings: Settings, capsys: pytest.CaptureFixture[str], level: LogLevel
) -> None:
    """JSON with the request's id, route, status, time and version; above `info` there is none."""
    with served(settings.model_copy(update={"log_level": level})) as client:
        answers = [client.post("/predict", json={"data": row}) for row in (EXAMPLE, {}, EXAMPLE)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]
    if level is LogLevel.WARNING:
        assert lines == []
        return
    assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in answers]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/predict", status) for status in (200, 422, 200)
    ]
    assert all(0 < line["elapsed_ms"] < 60_000 for line in lines)
    assert [line.get("model_version") for line in lines] == [INFO.version, None, INFO.version]
