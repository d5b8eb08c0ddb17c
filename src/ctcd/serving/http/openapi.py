"""The OpenAPI document of the service, generated from the table of routes and the payload."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from ctcd.contract.payload import Payload
from ctcd.contract.spec import Contract
from ctcd.serving.http import problems
from ctcd.serving.http.problems import ProblemDetails
from ctcd.serving.http.routes import API_KEY_HEADER, ASYNCHRONOUS, ROUTES, TAGS, Access, Route

_REF = "#/components/schemas/{model}"
_REQUEST_ID = {"description": "identifies the answer, in the log too", "schema": {"type": "string"}}
_MODEL_VERSION = {"description": "version of the model that answered", "schema": {"type": "string"}}
_LOCATION = {"description": "path of the predictions", "schema": {"type": "string"}}
_VARIANT = {"description": "who predicted: champion, challenger or fallback", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "seconds after which to try again", "schema": {"type": "integer"}}


class Accepted(BaseModel, frozen=True):
    """A pending asynchronous request."""

    request_id: str = Field(description="identifies the request")
    location: str = Field(description="path of the predictions")


def document(contract: Contract, payload: Payload, *, asynchronous: bool = True) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a contract, with units, bounds, categories and examples.

    `asynchronous` is whether it has the routes that a service has only if a setting says so.
    """
    described = [route for route in (*ROUTES, *(ASYNCHRONOUS if asynchronous else ())) if route.summary]
    fields = [field for route in described for field in (route.request, route.response) if field]
    models = [getattr(payload, field) for field in fields]
    models += [ProblemDetails, *([Accepted] if asynchronous else [])]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": contract.name,
            "version": contract.version,
            "description": "Every answer carries `X-Request-ID` and `X-Model-Version`. Errors are problem details (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": {route.path: {route.method.lower(): _operation(route, payload)} for route in described},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": API_KEY_HEADER}},
        },
    }


def _operation(route: Route, payload: Payload) -> dict[str, Any]:
    if route.response:
        success = _answer(route.success, "application/json", _ref(getattr(payload, route.response)))
    else:
        success = _answer(route.success, route.download or "text/plain", {} if route.download else {"type": "string"})
    pending = getattr(payload, route.state) if route.state else Accepted
    accepted = _answer(route.accepted, "application/json", _ref(pending))
    accepted["headers"] |= {"Location": _LOCATION, "Retry-After": _RETRY_AFTER}
    if route.response in ("prediction", "batch_prediction"):
        success["headers"]["X-Variant"] = _VARIANT
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "responses": ({"200": success} if route.success else {}) | ({"202": accepted} if route.accepted else {}),
    }
    if "{" in route.path:
        schema = {"type": "string", "format": "uuid"}
        operation["parameters"] = [{"name": "request_id", "in": "path", "required": True, "schema": schema}]
    if route.request:
        body = {"application/json": {"schema": _ref(getattr(payload, route.request))}}
        operation["requestBody"] = {"required": True, "content": body}
    if route.uploads:
        operation["requestBody"] = {"required": True, "content": {each: {} for each in route.uploads}}
    for status, description in route.errors.items():
        answer = operation["responses"][str(status)] = _problem(description)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY and route.request == "request":
            answer["content"][problems.MEDIA_TYPE]["example"] = _refusal(payload)
        if status == HTTPStatus.SERVICE_UNAVAILABLE and (route.request or route.uploads):
            # A prediction that is refused may be requested again after a while; a probe repeats itself anyway.
            answer["headers"]["Retry-After"] = _RETRY_AFTER
    if route.access is not Access.OPEN:
        operation["responses"]["401"] = _problem("The API key is missing or wrong.")
        # The empty requirement: a service without keys, which is for local use only, asks for none.
        operation["security"] = [{"key": []}, {}]
    return operation


def _refusal(payload: Payload) -> dict[str, Any]:
    """Return the answer to a row whose first value has the wrong type, as the service gives it."""
    [example] = payload.row.model_json_schema()["examples"]
    try:
        payload.request.model_validate({"data": {**example, next(iter(example)): []}})
    except ValidationError as error:
        problem = problems.of_validation(error, frozenset(example))
    # The status in words depends on the version of Python, and the lock of an instance holds this document.
    return {**from_json(problem.body()), "title": "Unprocessable Content"}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _problem(description: str) -> dict[str, Any]:
    return _answer(description, problems.MEDIA_TYPE, _ref(ProblemDetails))


def _answer(description: str, media_type: str, schema: dict[str, str]) -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": schema}},
        "headers": {"X-Request-ID": _REQUEST_ID, "X-Model-Version": _MODEL_VERSION},
    }
