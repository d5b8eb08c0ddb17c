"""The middleware keeps to the ASGI protocol."""

import asyncio
import io
import json

import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ctcd.serving.http import problems
from ctcd.serving.http.api_keys import Guard
from ctcd.serving.http.middleware import RequestMiddleware, RequestRecorder
from ctcd.serving.logs import RequestLog
from ctcd.serving.metrics import Metrics
from ctcd.settings import Settings


def exchange(answer: Response | Exception, path: str = "/predict") -> tuple[list[Message], list[dict[str, object]]]:
    """Return what a server would be told to send, and the log's lines."""
    sent: list[Message] = []
    stream = io.StringIO()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(answer, Exception):
            raise answer
        await answer(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        log = RequestLog(lambda: stream, enabled=True)
        middleware = RequestMiddleware(
            app,
            guard=Guard(Settings()),
            recorder=RequestRecorder(Metrics(), log, lambda: "7"),
        )
        await middleware({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
        log.flush()

    asyncio.run(run())
    return sent, [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("answer", "status"), [(PlainTextResponse("not here", 404), 404), (RuntimeError("secret"), 500)]
)
def test_an_error_of_the_framework_is_replaced_completely(answer: Response | Exception, status: int) -> None:
    """There is one start and one body of the announced length; nothing of the original answer is left."""
    sent, lines = exchange(answer)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], headers[b"content-type"]) == (status, problems.MEDIA_TYPE.encode())
    assert int(headers[b"content-length"]) == len(sent[1]["body"])
    assert [(line["status"], line["request_id"]) for line in lines] == [(status, headers[b"x-request-id"].decode())]


def test_an_answer_passes_unchanged() -> None:
    """Only the request id and the model version are added."""
    sent, lines = exchange(PlainTextResponse("well"))
    assert sent[1]["body"] == b"well"
    assert b"x-request-id" in dict(sent[0]["headers"])
    assert dict(sent[0]["headers"])[b"x-model-version"] == b"7"
    assert [(line["route"], line["status"]) for line in lines] == [("/predict", 200)]


def test_probes_are_not_logged_and_unknown_paths_are_not_named() -> None:
    """Probes would flood the log, and an unknown path may contain anything."""
    assert exchange(PlainTextResponse("well"), "/livez")[1] == []
    assert [line["route"] for line in exchange(PlainTextResponse("well"), "/jane-doe")[1]] == ["other"]


def test_a_log_that_cannot_be_written_does_no_harm() -> None:
    """The lines of that moment are lost; later ones are written."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device", text)

    streams: list[io.StringIO] = [Broken(), io.StringIO()]

    async def run() -> None:
        log = RequestLog(lambda: streams[0], enabled=True)
        log.write({"status": 200})
        log.flush()
        del streams[0]
        log.write({"status": 201})
        log.flush()

    asyncio.run(run())
    assert [json.loads(line)["status"] for line in streams[0].getvalue().splitlines()] == [201]
