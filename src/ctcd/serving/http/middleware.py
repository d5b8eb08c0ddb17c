"""Middleware around every request: request id, API key, metrics, log line, and one format of errors."""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctcd.serving.http import problems
from ctcd.serving.http.api_keys import Guard
from ctcd.serving.http.problems import Problem
from ctcd.serving.http.routes import find
from ctcd.serving.logs import RequestLog
from ctcd.serving.metrics import Metrics

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
TRACE: Final = "ctcd.trace"
"""Key of the `Trace` in the scope of a request."""
OTHER = "other"
"""Label of every path that is not in the table of routes, because such a path may hold anything."""


def _request_id() -> str:
    """Return a random UUID (version 4, RFC 9562), in a third of the time that `uuid.uuid4` needs."""
    digits = os.urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


@dataclass
class Trace:
    """What is known about a request while it is being answered."""

    request_id: str = field(default_factory=_request_id)
    started: float = field(default_factory=time.perf_counter)
    """When the request arrived, by `time.perf_counter`."""
    model_version: str = ""
    variant: str = ""
    """Who predicted: empty if nothing was predicted; of a batch possibly several, separated by commas."""
    rows: int = 0
    """Number of rows of a batch request."""
    arrived: bool = False
    """Whether the body has arrived."""
    broken: list[str] = field(default_factory=list)
    """Fields that violate the contract, without their values."""

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.started


class RequestRecorder:
    """Records every answered request in the metrics and the log, and makes the headers that every answer has."""

    def __init__(self, metrics: Metrics, log: RequestLog, version: Callable[[], str]) -> None:
        self._metrics, self._log, self._version = metrics, log, version

    def record(self, method: str, path: str, status: int, trace: Trace) -> None:
        """Count a request and write its line; method and path are empty if they could not be read."""
        route = find(path)
        label = route.path if route else OTHER
        elapsed = trace.elapsed
        self._metrics.request(label, status, elapsed, trace.variant)
        if route and not route.logged:
            return
        line: dict[str, Any] = {
            "request_id": trace.request_id,
            "method": method,
            "route": label,
            "status": status,
            "elapsed_ms": round(elapsed * 1_000, 3),
        }
        if trace.model_version:
            line["model_version"] = trace.model_version
        if trace.rows:
            line["rows"] = trace.rows
        if trace.broken:
            line["broken"] = trace.broken
        self._log.write(line)

    def headers(self, trace: Trace) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer has."""
        version = trace.model_version or self._version()
        headers = [(b"x-request-id", trace.request_id.encode()), (b"x-model-version", version.encode())]
        if trace.variant:
            headers.append((b"x-variant", trace.variant.encode()))
        return headers

    def problem(
        self, problem: Problem, trace: Trace, *, allow: str | None = None
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return headers and body of a problem."""
        body = problem.body()
        headers = MutableHeaders(
            {"content-type": problems.MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        )
        if allow:
            headers["allow"] = allow
        return [*headers.raw, *self.headers(trace)], body


class RequestMiddleware:
    """ASGI middleware around the whole service.

    Every answer carries the request id and a model version: that of the prediction, otherwise that of the model in
    service; a prediction also its variant. Errors of the framework become problem details. `direct` are the handlers of
    the direct routes by path, see `Route`.
    """

    def __init__(
        self, app: ASGIApp, *, guard: Guard, recorder: RequestRecorder, direct: Mapping[str, Handler] | None = None
    ) -> None:
        self._app = app
        self._guard = guard
        self._recorder = recorder
        self._direct = direct or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope[TRACE] = Trace()
        status = 0
        replaced = False

        async def send_marked(message: Message) -> None:
            nonlocal status, replaced
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400:
                    headers = Headers(raw=message["headers"])
                    if headers.get("content-type") != problems.MEDIA_TYPE:
                        replaced = True
                        await self._send_problem(send, problems.of_status(status), trace, allow=headers.get("allow"))
                        return
                message["headers"] = [*message["headers"], *self._recorder.headers(trace)]
            if not replaced:
                await send(message)

        path = scope["path"]
        refused = self._guard.check(path, scope["headers"])
        if refused is not None:
            await self._send_problem(send, refused, trace)
            self._recorder.record(scope["method"], path, refused.status, trace)
            return
        route = find(path)
        handler = self._direct.get(path) if route and scope["method"] == route.method else None
        try:
            if handler is not None:
                response = await handler(Request(scope, receive))
                await response(scope, receive, send_marked)
            else:
                await self._app(scope, receive, send_marked)
        except Exception:
            logger.exception("a request failed unexpectedly")
            if not status:
                status = 500
                await self._send_problem(send, problems.of_status(status), trace)
        finally:
            self._recorder.record(scope["method"], path, status, trace)

    async def _send_problem(self, send: Send, problem: Problem, trace: Trace, *, allow: str | None = None) -> None:
        headers, body = self._recorder.problem(problem, trace, allow=allow)
        await send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
