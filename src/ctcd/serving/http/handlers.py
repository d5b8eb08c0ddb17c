"""The handlers of the routes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route as StarletteRoute

from ctcd.contract.payload import FileState, Payload, field_names, row_reader
from ctcd.contract.spec import Contract, names
from ctcd.serving import metrics
from ctcd.serving.batch_body import require_one_row
from ctcd.serving.http import openapi, page, problems
from ctcd.serving.http.middleware import TRACE, Handler, Trace
from ctcd.serving.http.problems import Problem
from ctcd.serving.http.routes import BY_NAME, FORMATS, GZIP, Route
from ctcd.serving.prediction_log.outbox import OutboxFull
from ctcd.serving.requests.queue import QueueFull
from ctcd.settings import Settings

if TYPE_CHECKING:
    from ctcd.serving.requests.answering import Answering
    from ctcd.serving.requests.files import Files, Upload
    from ctcd.serving.runtime import Runtime

logger = logging.getLogger(__name__)

JSON = "application/json"
_JSON = JSON.encode()
UPLOADS = 2
"""Uploads of files in progress per worker."""
UPLOAD_BYTES = 1 << 20
"""How much of a file is in memory; an upload has the timeout of a request for each part of this size."""
LATE_BODY = Problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
LATE_PREDICTION = Problem(HTTPStatus.GATEWAY_TIMEOUT, "the prediction took too long; try again")
BATCHES = 4
"""Batch requests in progress per worker: this and the size of a body bound the memory that they need."""


def _handler(
    method: Callable[["Handlers", Request, Trace], Awaitable[Response]],
) -> Callable[["Handlers", Request], Awaitable[Response]]:
    """Turn a method that gets the trace of its request into a handler, which answers errors as problem details."""

    @wraps(method)
    async def handle(self: "Handlers", request: Request) -> Response:
        trace: Trace = request.scope[TRACE]
        try:
            return await method(self, request, trace)
        except ValidationError as error:
            problem = problems.of_validation(error, self._known)
        except QueueFull as error:
            logger.warning("%s", error)
            problem = problems.unavailable("requests are not accepted or answered now; try again later")
        except OutboxFull:
            problem = problems.unavailable("the prediction cannot be logged now, so it is not given; try again later")
        except ClientDisconnect:
            problem = Problem(HTTPStatus.BAD_REQUEST, "the body did not arrive")
        except TimeoutError:
            problem = LATE_PREDICTION if trace.arrived else LATE_BODY
        except Problem as error:
            problem = error
        except Exception:
            # Caught here, because BentoML would log the text of the error, which may contain values of the request.
            logger.exception("a prediction failed unexpectedly")
            problem = problems.of_status(HTTPStatus.INTERNAL_SERVER_ERROR)
        trace.broken = [item.field for item in problem.errors]
        return Response(problem.body(), problem.status, problem.headers, problems.MEDIA_TYPE)

    return handle


class Handlers:
    """Answers requests with the model, outbox and state of a runtime; `keyed` is whether a prediction needs an API key."""

    runtime: "Runtime"
    """Set when the worker starts."""

    def __init__(
        self, contract: Contract, payload: Payload, counters: metrics.Metrics, limits: Settings, *, keyed: bool
    ) -> None:
        self._identity = tuple(names(contract.identity))
        self._contract = contract
        self._validate = payload.request.__pydantic_validator__.validate_json
        self._read = row_reader(payload.row)
        self._known = frozenset(field_names(payload.row))
        self._document = to_json(openapi.document(contract, payload, asynchronous=limits.asynchronous))
        self._form, self._docs = page.form(contract, keyed=keyed), page.docs(contract)
        self._counters = counters
        self._limits = limits
        self._running = Counter[str]()

    def mounted(self, routes: Iterable[Route]) -> Starlette:
        """Return the GET routes of some, which are mounted beside BentoML's APIs because these answer POST only."""
        mounted = [route for route in routes if route.method == "GET" and not route.builtin]
        app = Starlette(
            routes=[StarletteRoute(route.path, self.of(route), methods=[route.method]) for route in mounted]
        )
        app.router.redirect_slashes = False
        return app

    def of(self, route: Route) -> Handler:
        """Return the handler of a route."""
        handler: Handler = getattr(self, route.name)
        return handler

    @_handler
    async def predict(self, request: Request, trace: Trace) -> Response:
        """Score one row; the answer is sent once it is logged on disk."""
        async with asyncio.timeout(self._limits.request_seconds):
            body = await _body(request, trace, self._limits.request_max_bytes)
            require_one_row(body, len(self._known))
            row = self._read(self._validate(body).data)
            answer = await self.runtime.predictor.predict(row, request_id=trace.request_id, started=trace.started)
        trace.model_version, trace.variant = answer.model_version, answer.variant
        self._counters.predicted(answer.prediction, answer.model_version, answer.variant)
        content = {
            **{name: row[name] for name in self._identity},
            "predict": answer.prediction,
            "confidence": answer.confidence,
            "probabilities": answer.probabilities,
            "model_version": answer.model_version,
            "request_id": trace.request_id,
        }
        return Response(to_json(content), media_type=JSON)

    @contextmanager
    def _one_more(self, what: str, most: int) -> Iterator[None]:
        if self._running[what] >= most:
            raise problems.unavailable(f"too many {what} at once; try again later")
        self._running[what] += 1
        try:
            yield
        finally:
            self._running[what] -= 1

    @_handler
    async def predict_batch(self, request: Request, trace: Trace) -> Response:
        """Score many rows; the answer is sent once all of it is logged on disk."""
        with self._one_more("batches", BATCHES):
            body = await self._batch_body(request, trace)
            answer = await self.runtime.batches.predict(
                body, request_id=trace.request_id, started=trace.started, seconds=self._limits.request_seconds
            )
        trace.model_version, trace.rows = answer.model_version, answer.predictions.total()
        trace.variant = answer.variant
        for (prediction, version, variant), rows in answer.predictions.items():
            self._counters.predicted(prediction, version, variant, rows)
        return Response(answer.body, media_type=JSON)

    @_handler
    async def request_predictions(self, request: Request, trace: Trace) -> Response:
        """Accept many rows to be scored later; the answer is sent once they are on disk."""
        with self._one_more("batches", BATCHES):
            body = await self._batch_body(request, trace)
            trace.rows = await self.runtime.batches.check(body, seconds=self._limits.request_seconds)
            await asyncio.to_thread(self._answering.add, trace.request_id, body)
        return _accepted(trace.request_id)

    @_handler
    async def requested_predictions(self, request: Request, trace: Trace) -> Response:
        """Return the predictions that were requested, or that they are pending."""
        request_id = request.path_params["request_id"]
        result = await asyncio.to_thread(self._answering.queue.result, request_id)
        if result is None:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no such request, or its predictions have expired")
        if not result.status:
            return _accepted(request_id)
        trace.model_version, trace.variant = result.model_version, result.variant
        return Response(
            result.body, result.status, media_type=JSON if result.status == HTTPStatus.OK else problems.MEDIA_TYPE
        )

    @_handler
    async def request_file(self, request: Request, trace: Trace) -> Response:
        """Accept a file of rows to be scored later; the answer is sent once it is on disk."""
        suffix = FORMATS[_format_of(request.scope["headers"])]
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.upload_max_bytes:
            raise _too_large(self._limits.upload_max_bytes, declared)  # before it is sent
        with self._one_more("uploads", UPLOADS):
            upload = await asyncio.to_thread(self._files.begin, trace.request_id, suffix)
            try:
                await self._receive(request, upload)
                trace.rows = await asyncio.to_thread(upload.accept)
            finally:
                await asyncio.to_thread(upload.close)
        return _accepted(trace.request_id, "requested_file")

    async def _receive(self, request: Request, upload: "Upload") -> None:
        """Write the body of a request to an upload; each megabyte of it has the time that another body has."""
        most, size = self._limits.upload_max_bytes, 0
        waiting = bytearray()
        async with asyncio.timeout(self._limits.request_seconds) as limit:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                waiting += part
                if len(waiting) >= UPLOAD_BYTES:
                    await asyncio.to_thread(upload.write, bytes(waiting))
                    waiting.clear()
                    limit.reschedule(asyncio.get_running_loop().time() + self._limits.request_seconds)
            await asyncio.to_thread(upload.write, bytes(waiting))

    @_handler
    async def requested_file(self, request: Request, trace: Trace) -> Response:
        """Return how far a file is."""
        state = await self._state(request)
        trace.rows = state.rows
        return _state(state)

    @_handler
    async def result_of_file(self, request: Request, _trace: Trace) -> Response:
        """Return the predictions of a file, or that they are pending."""
        return await self._download(request, "result")

    @_handler
    async def rejected_of_file(self, request: Request, _trace: Trace) -> Response:
        """Return the rows of a file that violate the contract, or that they are pending."""
        return await self._download(request, "rejected")

    async def _download(self, request: Request, what: str) -> Response:
        state = await self._state(request)
        if not state.done:
            return _state(state)
        paths = await asyncio.to_thread(self._files.results, state.request_id, what)
        try:
            size = sum(path.stat().st_size for path in paths)
        except OSError as error:
            raise _no_file() from error
        headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{what}.csv.gz"'}
        return StreamingResponse(_content(paths), headers=headers, media_type=GZIP)

    async def _state(self, request: Request) -> FileState:
        state = await asyncio.to_thread(self._files.state, request.path_params["request_id"])
        if isinstance(state, Problem):
            raise state
        if state is None:
            raise _no_file()
        return state

    @property
    def _files(self) -> "Files":
        if self._answering.files is None:
            raise problems.of_status(HTTPStatus.NOT_FOUND)
        return self._answering.files

    @property
    def _answering(self) -> "Answering":
        if self.runtime.answering is None:
            raise problems.of_status(HTTPStatus.NOT_FOUND)
        return self.runtime.answering

    async def _batch_body(self, request: Request, trace: Trace) -> bytes:
        async with asyncio.timeout(self._limits.request_seconds):
            return await _body(request, trace, self._limits.batch_max_bytes)

    async def metadata(self, _request: Request) -> Response:
        """Return how the model was trained."""
        served = self.runtime.served
        return _json(
            {
                "model_name": served.info.model_name,
                "model_version": served.version,
                "params": served.scorer.params,
                "creation_time": served.info.creation_time,
            }
        )

    async def model_info(self, _request: Request) -> Response:
        """Return which model answers, and the champion that was refused, if any."""
        served, following = self.runtime.served, self.runtime.following
        return _json(
            {
                "model_name": served.info.model_name,
                "alias": served.info.alias,
                "version": served.version,
                "run_id": served.info.run_id,
                "model_uri": served.info.model_uri,
                "contract_version": served.scorer.contract_version,
                "following": following is not None,
                "looked_at": following.champion.looked_at if following else "",
                "registry_error": following.champion.error if following else "",
                "refused": following.refused if following else None,
                "challenger": self.runtime.challenger,
            }
        )

    async def metrics(self, _request: Request) -> Response:
        """Return the metrics of all workers in Prometheus' text format."""
        return Response(
            await asyncio.to_thread(self._counters.page, self._contract.name), media_type=metrics.CONTENT_TYPE
        )

    async def document(self, _request: Request) -> Response:
        """Return the OpenAPI document."""
        return Response(self._document, media_type=JSON)

    async def index(self, _request: Request) -> Response:
        """Return the page with the form that asks for a prediction."""
        return HTMLResponse(self._form.html, headers=self._form.headers)

    async def docs(self, _request: Request) -> Response:
        """Return the page that shows the OpenAPI document."""
        return HTMLResponse(self._docs.html, headers=self._docs.headers)


def _accepted(request_id: str, route: str = "requested_predictions") -> Response:
    location = BY_NAME[route].path.format(request_id=request_id)
    return _pending(openapi.Accepted(request_id=request_id, location=location), location)


def _pending(content: BaseModel, location: str) -> Response:
    headers = {"Location": location, "Retry-After": "1"}
    return Response(content.model_dump_json(), HTTPStatus.ACCEPTED, headers, JSON)


def _state(state: FileState) -> Response:
    if state.done:
        return Response(state.model_dump_json(), media_type=JSON)
    return _pending(state, BY_NAME["requested_file"].path.format(request_id=state.request_id))


def _no_file() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "there is no such file, or its predictions have expired")


def _content(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(UPLOAD_BYTES):
                yield part


async def _body(request: Request, trace: Trace, max_bytes: int) -> bytes:
    """Return the body of a request."""
    _check_format(request.scope["headers"])
    parts: list[bytes] = []
    size = 0
    more = True
    while more:  # `Request.stream` does the same at twice the cost
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        more = message.get("more_body", False)
    trace.arrived = True
    return b"".join(parts)


def _too_large(most: int, size: str = "") -> Problem:
    detail = f"the body may have at most {most} bytes" + (f", not {size}" if size else "")
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _json(content: dict[str, Any]) -> Response:
    return Response(to_json(content), media_type=JSON)


def _check_format(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body that is not declared as plain JSON; without a declaration it is taken to be."""
    for name, value in headers:
        if name == b"content-type" and value != _JSON and _media_type(value) != JSON:
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as {JSON} (Content-Type)")
        _refuse_compressed(name, value)


def _format_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the media type of a file; refuse one that is not declared as one of those that can be uploaded."""
    found = ""
    for name, value in headers:
        if name == b"content-type":
            found = _media_type(value)
        _refuse_compressed(name, value)
    if found not in FORMATS:
        given = f", not {found[: problems.SHOWN_CHARACTERS]}" if found else ""
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the file as {' or '.join(FORMATS)} (Content-Type){given}"
        )
    return found


def _media_type(value: bytes) -> str:
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def _refuse_compressed(name: bytes, value: bytes) -> None:
    if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send the body as it is, not compressed (Content-Encoding)",
            headers={"Accept-Encoding": "identity"},
        )
