"""The routes of the service, in one table: routing, OpenAPI document, API keys, metrics labels and request log follow it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from types import MappingProxyType

API_KEY_HEADER = "X-API-Key"  # pragma: allowlist secret - the name of a header


class Access(Enum):
    """Who may access a route."""

    OPEN = "open"
    """Anyone: probes, and the documentation of the API."""
    API = "api"
    """Clients with an API key, if the service has keys."""
    METRICS = "metrics"
    """Clients with a metrics key, or an API key if there are no metrics keys."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route.

    Args:
        path: its path; every path has one route. A part may be a parameter, as in /predictions/{request_id}.
        method: its HTTP method. BentoML's APIs answer POST only, so a GET route is mounted beside them.
        name: name of the method of `Handlers` that answers, and operation id in the OpenAPI document.
        logged: whether the request log has a line for each request.
        direct: whether the middleware calls the handler itself: BentoML's own handling costs more than a prediction.
        builtin: whether BentoML answers it, so that there is no handler.
        tag: the one of `TAGS` under which the OpenAPI document has it.
        summary: summary in the OpenAPI document; empty: the document leaves the route out.
        success: description of the answer 200; empty: there is none.
        accepted: description of the answer 202; empty: there is none.
        state: field of `Payload` with the model of that answer's body; empty: it is `openapi.Accepted`.
        request: field of `Payload` with the model of the request's body; empty: there is no body.
        uploads: media types of the body, if it is a file.
        response: field of `Payload` with the model of the answer's body; empty: it is a file or plain text.
        download: media type of the answer's body, if it is a file.
        errors: descriptions of the errors by HTTP status; 401 follows from `access`.
    """

    path: str
    method: str = "GET"
    name: str
    access: Access = Access.API
    logged: bool = True
    direct: bool = False
    builtin: bool = False
    tag: str = ""
    summary: str = ""
    success: str = ""
    accepted: str = ""
    state: str = ""
    request: str = ""
    uploads: tuple[str, ...] = ()
    response: str = ""
    download: str = ""
    errors: Mapping[int, str] = field(default_factory=dict)


TAGS: Mapping[str, str] = MappingProxyType(
    {
        "Predictions": "Every prediction is logged.",
        "Model": "Which model answers, and how it was made.",
        "Operation": "For probes, and for Prometheus.",
    }
)
"""The tags of the OpenAPI document with their descriptions, in its order."""

_REFUSALS: Mapping[int, str] = MappingProxyType(
    {
        400: "The body is not JSON.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is not declared as application/json, or is declared as compressed.",
        422: "The body violates the contract; `errors` names field, value and rule.",
        503: "The prediction cannot be logged now and is therefore not returned, or there are too many concurrent batches.",
        504: "The prediction took too long.",
    }
)

GZIP = "application/gzip"
FORMATS: Mapping[str, str] = MappingProxyType({"text/csv": ".csv", "application/vnd.apache.parquet": ".parquet"})
"""Media types of files that can be uploaded, with the endings of their names."""
_FILE_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        404: "There is no such file, or its predictions have expired.",
        422: "The file violates the contract, which has changed since it was accepted.",
        500: "The model failed on a row.",
        503: "The queue of files cannot be read.",
    }
)

_direct = partial(Route, method="POST", direct=True, tag="Predictions")
_probe = partial(Route, access=Access.OPEN, logged=False, builtin=True, tag="Operation")
_file = partial(Route, tag="Predictions", accepted="The file is being scored.", state="file_state", errors=_FILE_ERRORS)

ROUTES = (
    _direct(
        path="/predict",
        name="predict",
        summary="Score one row",
        success="The prediction; it is logged.",
        request="request",
        response="prediction",
        errors=_REFUSALS,
    ),
    _direct(
        path="/predict_batch",
        name="predict_batch",
        summary="Score many rows",
        success="The predictions; each is logged.",
        request="batch_request",
        response="batch_prediction",
        errors=_REFUSALS,
    ),
    Route(
        path="/metadata",
        method="POST",
        name="metadata",
        tag="Model",
        summary="How the model was made",
        success="The model.",
        response="metadata",
    ),
    Route(
        path="/model-info",
        name="model_info",
        tag="Model",
        summary="Which model answers",
        success="The model.",
        response="model_info",
    ),
    _probe(path="/livez", name="livez", summary="Whether the process runs", success="It runs."),
    _probe(path="/healthz", name="healthz", summary="The same as /livez", success="It runs."),
    _probe(
        path="/readyz",
        name="readyz",
        summary="Whether it can answer",
        success="It can.",
        errors={503: "It cannot: predictions cannot be logged."},
    ),
    Route(
        path="/metrics",
        name="metrics",
        access=Access.METRICS,
        logged=False,
        tag="Operation",
        summary="Counters for Prometheus",
        success="The counters.",
    ),
    Route(path="/docs.json", name="document", access=Access.OPEN),
    Route(path="/docs", name="docs", access=Access.OPEN),
    Route(path="/", name="index", access=Access.OPEN),
)
ASYNCHRONOUS = (
    _direct(
        path="/predictions",
        name="request_predictions",
        summary="Score many rows asynchronously",
        accepted="The request is stored on disk; `Location` is the URL of its predictions.",
        request="batch_request",
        errors={
            **_REFUSALS,
            503: "The queue of requests is full or cannot be written, or there are too many concurrent batches.",
        },
    ),
    Route(
        path="/predictions/{request_id}",
        name="requested_predictions",
        tag="Predictions",
        summary="Predictions of an asynchronous request",
        success="The predictions; each is logged.",
        accepted="The request is pending.",
        response="batch_prediction",
        errors={
            404: "There is no such request, or its predictions have expired.",
            422: "The request violates the contract, which has changed since it was accepted.",
            500: "The model failed on the request.",
            503: "The queue of requests cannot be read.",
        },
    ),
    _direct(
        path="/predictions/files",
        name="request_file",
        summary="Score the rows of a file asynchronously",
        accepted="The file is stored on disk; `Location` is the URL of its state.",
        uploads=tuple(FORMATS),
        errors={
            400: "The file did not arrive.",
            408: "The file did not arrive in time.",
            413: "The file has too many bytes or rows.",
            415: "The file is not declared as CSV or Parquet, or is declared as compressed.",
            422: "The file cannot be read, has no rows, lacks a column or has another one.",
            503: "The queue of files is full or cannot be written, or there are too many uploads.",
            507: "There is no space on the disk.",
        },
    ),
    _file(
        path="/predictions/files/{request_id}",
        name="requested_file",
        summary="How far a file is",
        success="Every row is predicted and logged, or refused.",
        response="file_state",
    ),
    _file(
        path="/predictions/files/{request_id}/result",
        name="result_of_file",
        summary="Predictions of a file",
        success="A compressed CSV file with the keys of each row, its prediction, the model, and its request id in the log.",
        download=GZIP,
    ),
    _file(
        path="/predictions/files/{request_id}/rejected",
        name="rejected_of_file",
        summary="Refused rows of a file",
        success="A compressed CSV file with the rows that violate the contract, their lines and the reasons.",
        download=GZIP,
    ),
)
"""The routes that a service has only if the setting `asynchronous` says so."""
BY_PATH: Mapping[str, Route] = MappingProxyType({route.path: route for route in (*ROUTES, *ASYNCHRONOUS)})
BY_NAME: Mapping[str, Route] = MappingProxyType({route.name: route for route in BY_PATH.values()})
_PATTERNS = [(re.compile(re.sub("{[^}]+}", "[^/]+", path)), route) for path, route in BY_PATH.items() if "{" in path]
STATIC = "/static_content/"
"""Below it BentoML serves the files of Swagger UI, which the page at `/docs` loads; they are open."""


def find(path: str) -> Route | None:
    """Return the route of a path; None if there is none."""
    return BY_PATH.get(path) or next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), None)


def access(path: str) -> Access:
    """Return who may request a path; an unknown one is guarded like the API."""
    route = find(path)
    if route is not None:
        return route.access
    return Access.OPEN if path.startswith(STATIC) else Access.API
