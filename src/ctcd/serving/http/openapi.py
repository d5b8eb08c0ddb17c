"""The OpenAPI document of the service, from the payload contract."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ctcd.contract.payload import Payload
from ctcd.contract.spec import Contract
from ctcd.serving.http import problems
from ctcd.serving.http.api_keys import OPEN
from ctcd.serving.http.problems import ProblemDetails

_REF = "#/components/schemas/{model}"
_REQUEST_ID = {"description": "identifies the answer, in the log too", "schema": {"type": "string"}}
_MODEL_VERSION = {"description": "version of the model that answered", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "seconds after which to try again", "schema": {"type": "integer"}}


def document(contract: Contract, payload: Payload) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        contract: names the service; its version is the API's.
        payload: the bodies; units, bounds, categories and examples come from here.
    """
    models = (
        payload.request,
        payload.prediction,
        payload.batch_request,
        payload.batch_prediction,
        payload.metadata,
        payload.model_info,
        ProblemDetails,
    )
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    predict = _operation("predict", "Score one row", _json("The prediction; it is logged.", payload.prediction))
    batch = _operation(
        "predict_batch", "Score many rows", _json("The predictions; each is logged.", payload.batch_prediction)
    )
    for operation, body in ((predict, payload.request), (batch, payload.batch_request)):
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
        operation["responses"] |= _refusals()
    metadata = _operation("metadata", "How the model was made", _json("The model.", payload.metadata))
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": contract.name,
            "version": contract.version,
            "description": "Every answer carries `X-Request-ID` and `X-Model-Version`. Errors are problem details (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/predict": {"post": predict},
            "/predict_batch": {"post": batch},
            "/metadata": {"post": metadata},
            "/model-info": {
                "get": _operation("model_info", "Which model answers", _json("The model.", payload.model_info))
            },
            "/livez": {"get": _operation("livez", "Whether the process runs", _text("It runs."))},
            "/healthz": {"get": _operation("healthz", "The same as /livez", _text("It runs."))},
            "/readyz": {
                "get": _operation("readyz", "Whether it can answer", _text("It can."))
                | {"responses": {"200": _text("It can."), "503": _problem("It cannot: predictions cannot be logged.")}}
            },
            "/metrics": {"get": _operation("metrics", "Counters for Prometheus", _text("The counters."))},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }
    for path, operations in described["paths"].items():
        if path not in OPEN:
            for operation in operations.values():
                operation["responses"]["401"] = _problem("The API key is missing or wrong.")
                # None is needed where the service has none: for local use.
                operation["security"] = [{"key": []}, {}]
    return described


def _refusals() -> dict[str, Any]:
    unavailable = "The prediction cannot be logged now, so it is not given, or there are too many batches at once."
    return {
        "400": _problem("The body is not JSON."),
        "408": _problem("The body did not arrive in time."),
        "413": _problem("The body is too large."),
        "415": _problem("The body is not declared as application/json."),
        "422": _problem("The body does not keep the contract; `errors` names field, value and rule."),
        "503": _problem(unavailable, {"Retry-After": _RETRY_AFTER}),
        "504": _problem("The prediction took too long."),
    }


def _operation(name: str, summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {"200": answer}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _json(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return _answer(description, {"application/json": {"schema": _ref(model)}})


def _text(description: str) -> dict[str, Any]:
    return _answer(description, {"text/plain": {"schema": {"type": "string"}}})


def _problem(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = _answer(description, {problems.MEDIA_TYPE: {"schema": _ref(ProblemDetails)}})
    answer["headers"] |= headers or {}
    return answer


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "content": content,
        "headers": {"X-Request-ID": _REQUEST_ID, "X-Model-Version": _MODEL_VERSION},
    }
