"""The request and response bodies of the API, derived from the contract."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ctcd.contract.columns import ListOf
from ctcd.contract.spec import Column, Contract, Kind

_KINDS: dict[Kind, type] = {Kind.INTEGER: int, Kind.NUMBER: float}
_REMEMBERED_CHARACTERS = 256
"""Longest list that is cached: a client may send a list of any length."""
_NORMALISED_CHARACTERS = 16_384
"""Longest list that is normalised, as millions of entries would take a hundred times their size in memory."""


def _list_normaliser(list_of: ListOf) -> BeforeValidator:
    # Requests repeat the same lists: cache them.
    known = lru_cache(maxsize=16_384)(list_of.normalise)

    def normalise(value: object) -> object:
        # Clients may spell entries in title case; the store spells them in lower case.
        if not isinstance(value, str) or len(value) > _NORMALISED_CHARACTERS:
            return value
        return known(value) if len(value) <= _REMEMBERED_CHARACTERS else list_of.normalise(value)

    return BeforeValidator(normalise)


def _whole(value: object) -> object:
    # In JSON Schema 61.0 is an integer, and some clients send integers in that form.
    return int(value) if type(value) is float and value.is_integer() else value


def _field(column: Column) -> Any:
    kind: Any = _KINDS.get(column.kind, str)
    constraints: dict[str, Any] = {"strict": True, "description": f"{column.meaning} [{column.unit}]"}
    if column.minimum is not None:
        constraints["ge"] = column.minimum
    if column.maximum is not None:
        constraints["le"] = column.maximum
    if column.kind is Kind.NUMBER:
        constraints["allow_inf_nan"] = False
    pattern = "|".join(column.categories) if column.categories else column.pattern
    if pattern:
        constraints["pattern"] = f"^(?:{pattern})$"
    if column.max_length is not None:
        constraints["max_length"] = column.max_length
    extra: dict[str, Any] = {"unit": column.unit}
    if column.categories:
        extra["enum"] = [*column.categories, *([None] if column.nullable else [])]
    annotation: Any = Annotated[kind, Field(**constraints)]
    if column.kind is Kind.INTEGER:
        annotation = Annotated[annotation, BeforeValidator(_whole)]
    if column.list_of is not None:
        annotation = Annotated[annotation, _list_normaliser(column.list_of)]
    field: Any = Field(default=None if column.nullable else ..., examples=[column.example], json_schema_extra=extra)
    return (annotation | None if column.nullable else annotation, field)


def _request(name: str, example: dict[str, Any], fields: dict[str, Any]) -> type[BaseModel]:
    """Return a pydantic model that refuses unknown fields."""
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]})
    model: type[BaseModel] = create_model(name, __config__=config, **fields)
    return model


def row_model(contract: Contract, name: str) -> type[BaseModel]:
    """Return a strict pydantic model with the group column and every feature of the contract.

    It refuses values of another type, values outside the bounds or categories, and unknown fields. A nullable column may
    be null or omitted. Rules over several columns are not checked.
    """
    columns = (contract.group, *contract.model_inputs)
    example = {column.name: column.example for column in columns}
    return _request(name, example, {column.name: _field(column) for column in columns})


def request_model(row: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the pydantic model of a request body: `{"data": row}` and no other field."""
    example = {"data": row.model_json_schema()["examples"][0]}
    return _request(name, example, {"data": (row, Field(description="the row to be scored"))})


def batch_request_model(row: type[BaseModel], name: str, *, max_rows: int) -> type[BaseModel]:
    """Return the pydantic model of a batch request body: `{"data": [row, ...]}` and no other field."""
    example: Any = {"data": [row.model_json_schema()["examples"][0]]}
    rows = Field(description="the rows to be scored", min_length=1, max_length=max_rows)
    return _request(name, example, {"data": (list[row], rows)})  # type: ignore[valid-type] # a type made at run time


class Metadata(BaseModel):
    """How the model in service was trained."""

    model_config = ConfigDict(frozen=True)

    model_name: str = Field(description="name of the registered model")
    model_version: str = Field(description="its version")
    params: dict[str, Any] = Field(description="its training parameters")
    creation_time: str = Field(description="when the version was registered, ISO 8601")


class Refused(BaseModel):
    """A champion that the service refused to load."""

    model_config = ConfigDict(frozen=True)

    version: str = Field(description="its version")
    reason: str = Field(description="why it was refused")
    at: str = Field(description="when it was refused, ISO 8601")


class ModelInformation(BaseModel):
    """Which model is in service."""

    model_config = ConfigDict(frozen=True)

    model_name: str = Field(description="name of the registered model")
    alias: str = Field(description="registry alias under which it was loaded")
    version: str = Field(description="its version")
    run_id: str = Field(description="MLflow run that trained it")
    model_uri: str = Field(description="its URI in the registry")
    contract_version: str = Field(description="version of the contract that requests have to satisfy")
    following: bool = Field(description="whether the service follows the registry's champion")
    looked_at: str = Field(description="when the registry last named its champion, ISO 8601; empty: not yet")
    registry_error: str = Field(description="why the last request to the registry failed; empty: it succeeded")
    refused: Refused | None = Field(description="the registry's champion, if the service refused to load it")


def _answer_model(name: str, doc: str, contract: Contract, after: dict[str, Any]) -> type[BaseModel]:
    """Return the pydantic model of the answer to one row: group, class and probabilities, then the fields of `after`."""
    fields: dict[str, Any] = {
        contract.group.name: (_KINDS.get(contract.group.kind, str), Field(description=contract.group.meaning)),
        "predict": (str, Field(description="the most probable class", examples=[contract.classes[0]])),
        "confidence": (float, Field(description="probability of that class", ge=0, le=1)),
        "probabilities": (dict[str, float], Field(description="probability of every class")),
        **after,
    }
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(frozen=True), __doc__=doc, **fields)
    return model


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The pydantic models of the API's request and response bodies.

    Args:
        row: one row to be scored.
        request: request to `POST /predict`.
        prediction: response of `POST /predict`.
        batch_request: request to `POST /predict_batch`.
        batch_prediction: response of `POST /predict_batch`.
        max_rows: largest number of rows in a batch.
        metadata: response of `POST /metadata`.
        model_info: response of `GET /model-info`.
    """

    row: type[BaseModel]
    request: type[BaseModel]
    prediction: type[BaseModel]
    batch_request: type[BaseModel]
    batch_prediction: type[BaseModel]
    max_rows: int
    metadata: type[BaseModel] = Metadata
    model_info: type[BaseModel] = ModelInformation


def make_payload(contract: Contract, *, row_name: str = "Row", max_rows: int = 10_000) -> Payload:
    """Return the request and response bodies of a contract's API.

    Args:
        contract: contract with the columns of a row and the classes of an answer.
        row_name: name of a row in the OpenAPI document.
        max_rows: largest number of rows in a batch request.
    """
    row = row_model(contract, row_name)
    version = (str, Field(description="version of the model that made the prediction"))
    prediction = _answer_model(
        "Prediction",
        "The answer to one prediction request.",
        contract,
        {
            "model_version": version,
            "request_id": (str, Field(description="identifies the answer in the prediction log")),
        },
    )
    row_prediction = _answer_model(
        "RowPrediction",
        "The answer to one row of a batch request.",
        contract,
        {"request_id": (str, Field(description="identifies this row's answer in the prediction log"))},
    )
    batch_prediction: type[BaseModel] = create_model(
        "BatchPrediction",
        __config__=ConfigDict(frozen=True),
        __doc__="The answer to one batch request; one model version scored all of its rows.",
        predictions=(
            list[row_prediction],  # type: ignore[valid-type] # a type made at run time
            Field(description="one for each row, in the order of the request"),
        ),
        model_version=version,
        request_id=(str, Field(description="identifies the request")),
    )
    return Payload(
        row=row,
        request=request_model(row, "PredictRequest"),
        prediction=prediction,
        batch_request=batch_request_model(row, "PredictBatchRequest", max_rows=max_rows),
        batch_prediction=batch_prediction,
        max_rows=max_rows,
    )
