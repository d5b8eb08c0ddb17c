"""The pydantic model of one row to be scored, derived from the contract."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from credit_score.contract.spec import Column, Contract, Kind
from credit_score.contract.vocabulary import ListOf

_REMEMBERED_CHARACTERS = 256
"""Longest list whose spelling is remembered: what clients send may be of any length."""


def _list_normaliser(list_of: ListOf) -> BeforeValidator:
    # The same lists come again and again.
    known = lru_cache(maxsize=16_384)(list_of.normalise)

    def normalise(value: object) -> object:
        # Existing clients spell entries in title case; the store spells them in lower case.
        if not isinstance(value, str):
            return value
        return known(value) if len(value) <= _REMEMBERED_CHARACTERS else list_of.normalise(value)

    return BeforeValidator(normalise)


def _whole(value: object) -> object:
    # JSON Schema takes 61.0 for an integer, and some clients write one so.
    return int(value) if type(value) is float and value.is_integer() else value


def _field(column: Column) -> Any:
    kind: Any
    if column.kind is Kind.INTEGER:
        kind = int
    elif column.kind is Kind.NUMBER:
        kind = float
    else:
        kind = str
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
    if column.nullable:
        return (
            annotation | None,
            Field(default=None, examples=[column.example], json_schema_extra=extra),
        )
    return (annotation, Field(examples=[column.example], json_schema_extra=extra))


def row_model(contract: Contract, name: str) -> type[BaseModel]:
    """Return a strict pydantic model with the group column and every feature of the contract.

    A value is refused if it has another type, lies outside the bounds or the categories, or if a field is unknown.
    A column that the contract lets be null may be null or left out. Rules over several columns do not apply.
    """
    fields = {column.name: _field(column) for column in (contract.group, *contract.model_inputs)}
    example = {column.name: column.example for column in (contract.group, *contract.model_inputs)}
    model: type[BaseModel] = create_model(
        name,
        __config__=ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]}),
        **fields,
    )
    return model


def request_model(row: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the pydantic model of a request's body: `{"data": row}` and nothing beside it."""
    example = {"data": row.model_json_schema()["examples"][0]}
    model: type[BaseModel] = create_model(
        name,
        __config__=ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]}),
        data=(row, Field(description="the row to be scored")),
    )
    return model


def batch_request_model(row: type[BaseModel], name: str, *, max_rows: int) -> type[BaseModel]:
    """Return the pydantic model of a batch request's body: `{"data": [row, ...]}` and nothing beside it."""
    example: Any = {"data": [row.model_json_schema()["examples"][0]]}
    model: type[BaseModel] = create_model(
        name,
        __config__=ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]}),
        data=(list[row], Field(description="the rows to be scored", min_length=1, max_length=max_rows)),  # type: ignore[valid-type] # made at run time
    )
    return model


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The bodies that the API accepts and answers.

    Args:
        row: one row to be scored.
        request: body of `POST /predict`.
        prediction: its answer.
        batch_request: body of `POST /predict_batch`.
        batch_prediction: its answer.
        max_rows: rows that a batch may have.
        metadata: answer of `POST /metadata`.
        model_info: answer of `GET /model-info`.
    """

    row: type[BaseModel]
    request: type[BaseModel]
    prediction: type[BaseModel]
    batch_request: type[BaseModel]
    batch_prediction: type[BaseModel]
    max_rows: int
    metadata: type[BaseModel]
    model_info: type[BaseModel]
