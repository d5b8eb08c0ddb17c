"""The request and response bodies of the API, derived from the contract."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import count
from keyword import iskeyword
from operator import attrgetter
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic_core import PydanticCustomError, PydanticKnownError

from ctcd.contract.columns import ListOf, literal
from ctcd.contract.spec import Column, Contract, Kind, names

_KINDS: dict[Kind, type] = {Kind.INTEGER: int, Kind.NUMBER: float, Kind.BOOLEAN: bool}
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
    if isinstance(value, bool):  # of codes, pydantic would take true for 1: they are equal
        raise PydanticKnownError("int_type")
    # In JSON Schema 61.0 is an integer, and some clients send integers in that form.
    return int(value) if type(value) is float and value.is_integer() else value


_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DATES = {
    Kind.DATE: ("date", _DAY, "is not a calendar date"),
    Kind.TIME: (
        "date-time",
        rf"{_DAY}[ T][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,6}})?)?",
        "is not a date and a time",
    ),
}
"""JSON Schema's format, the spelling, and the error of a date that does not exist."""


def _existing(wrong: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise PydanticCustomError("date", "{wrong}", {"wrong": wrong}) from error
        return value

    return AfterValidator(check)


def _field(column: Column) -> Any:
    kind: Any = _KINDS.get(column.kind, str)
    limits = {"ge": column.minimum, "le": column.maximum, "max_length": column.max_length}
    constraints: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    constraints |= {"strict": True, "description": f"{column.meaning} [{column.unit}]"}
    extra: dict[str, Any] = {"unit": column.unit}
    if column.kind is Kind.NUMBER:
        constraints["allow_inf_nan"] = False
    pattern = column.pattern
    if column.coded:
        kind = Literal[column.categories]
        constraints.pop("strict")  # a literal always is
    elif column.categories:
        pattern = "|".join(literal(str(category)) for category in column.categories)
    elif column.kind in _DATES:
        extra["format"], pattern, _ = _DATES[column.kind]
    if pattern:
        constraints["pattern"] = f"^(?:{pattern})$"
    if column.categories:
        extra["enum"] = [*column.categories, *([None] if column.nullable else [])]
    if kind is str:
        # As in files, and before the rules are checked: a text is the same category wherever it comes from.
        kind = Annotated[str, StringConstraints(strip_whitespace=True)]
    annotation: Any = Annotated[kind, Field(**constraints)]
    if column.written is Kind.INTEGER:
        annotation = Annotated[annotation, BeforeValidator(_whole)]
    if column.list_of is not None:
        annotation = Annotated[annotation, _list_normaliser(column.list_of)]
    if column.kind in _DATES:
        annotation = Annotated[annotation, _existing(_DATES[column.kind][2])]
    field: dict[str, Any] = {"examples": [column.example], "json_schema_extra": extra}
    if column.nullable:
        return (annotation | None, {"default": None, **field})
    return (annotation, field)


def _named(columns: Iterable[tuple[str, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Return the fields of a pydantic model: a column whose name cannot be that of a field is the alias of one."""
    fields: dict[str, Any] = {}
    columns = tuple(columns)
    taken = {name for name, *_ in columns}
    for name, annotation, facts in columns:
        usable = name.isidentifier() and not iskeyword(name) and not name.startswith("_")
        if usable and not hasattr(BaseModel, name) and not name.startswith("model_"):
            fields[name] = (annotation, Field(**facts))
        else:
            free = next(each for place in count(len(fields)) if (each := f"field_{place}") not in taken | fields.keys())
            fields[free] = (annotation, Field(alias=name, title=name, **facts))
    return fields


def field_names(row: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of a model's fields as a body has them."""
    return tuple(info.alias or name for name, info in row.model_fields.items())


def row_reader(row: type[BaseModel]) -> Callable[[Any], dict[str, Any]]:
    """Return a function that returns the values of a validated row by column name; the caller may not change them."""
    pairs = tuple(zip(row.model_fields, field_names(row), strict=True))
    if all(field == name for field, name in pairs):
        return attrgetter("__dict__")
    return lambda validated: {name: validated.__dict__[field] for field, name in pairs}


def request_rows(frame: pd.DataFrame, contract: Contract) -> list[dict[str, Any]]:
    """Return the rows of a typed frame, such as a snapshot, as a client would send them; a missing value is null."""
    columns = contract.request_columns
    values = [_sent(frame[column.name], column) for column in columns]
    return [dict(zip(names(columns), row, strict=True)) for row in zip(*values, strict=True)]


def _sent(values: "pd.Series[Any]", column: Column) -> list[Any]:
    if column.kind is Kind.DATE:
        values = values.dt.strftime("%Y-%m-%d")
    elif column.kind is Kind.TIME:
        values = values.map(pd.Timestamp.isoformat, na_action="ignore")
    return list(values.astype(object).where(values.notna(), None))


def _request(name: str, example: dict[str, Any], fields: dict[str, Any]) -> type[BaseModel]:
    """Return a pydantic model that refuses unknown fields."""
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]})
    model: type[BaseModel] = create_model(name, __config__=config, **fields)
    return model


def row_model(contract: Contract, name: str) -> type[BaseModel]:
    """Return a strict pydantic model with every feature of the contract, and the group or key that identifies a row.

    It refuses values of another type, values outside the bounds or categories, and unknown fields. A nullable column
    may be null or omitted. Rules over several columns are not checked.
    """
    columns = contract.request_columns
    example = {column.name: column.example for column in columns}
    return _request(name, example, _named((column.name, *_field(column)) for column in columns))


class Metadata(BaseModel, frozen=True):
    """How the model in service was trained."""

    model_name: str = Field(description="name of the registered model")
    model_version: str = Field(description="its version")
    params: dict[str, Any] = Field(description="its training parameters")
    creation_time: str = Field(description="when the version was registered, ISO 8601")


class Refused(BaseModel, frozen=True):
    """A version that the service refused to load."""

    version: str = Field(description="its version")
    reason: str = Field(description="why it was refused")
    at: str = Field(description="when it was refused, ISO 8601")


class Challenger(BaseModel, frozen=True):
    """The challenger, and its traffic."""

    version: str = Field(description="its version")
    mode: str = Field(description="kind of traffic: shadow, canary or route")
    step: int = Field(description="step of the canary, from 1; 0 for other kinds")
    share: float = Field(description="share of requests (shadow) or of groups (canary), 0 to 1")
    effective: str = Field(description="when the share takes effect, ISO 8601")
    loaded: bool = Field(description="whether this worker has loaded it; otherwise it gets no traffic here")
    refused: Refused | None = Field(description="why it was not loaded, if it was refused")


class ModelInformation(BaseModel, frozen=True):
    """Which model is in service."""

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
    challenger: Challenger | None = Field(
        default=None, description="the challenger, if there is an experiment and the service takes part in it"
    )


class FileState(BaseModel, frozen=True):
    """How far a file of rows is: when `predicted` and `refused` together are `rows`, it is done."""

    request_id: str = Field(description="identifies the file")
    rows: int = Field(description="number of its rows", ge=1)
    predicted: int = Field(description="number of rows that are predicted and logged", ge=0)
    refused: int = Field(description="number of rows that violate the contract", ge=0)
    result: str = Field(description="path of the predictions, once it is done")
    rejected: str = Field(description="path of the refused rows with their lines and reasons, once it is done")

    @property
    def done(self) -> bool:
        """Whether it is done."""
        return self.predicted + self.refused == self.rows


def _identifier(description: str) -> tuple[type[str], Any]:
    return (str, Field(description=description, examples=["0d1b4f0e-5a53-4a39-9a55-1f0f6f3c2a77"]))


def _answer_model(name: str, doc: str, contract: Contract, after: dict[str, Any]) -> type[BaseModel]:
    """Return the pydantic model of the answer to one row: group, class and probabilities, then the fields of `after`."""
    first, *others = contract.classes
    share = 1000 // (len(contract.classes) + 1) / 1000  # rounded down, so that the first class has the largest share
    confidence = round(1 - share * len(others), 3)
    example = {
        **{each.name: each.example for each in contract.identity},
        "predict": first,
        "confidence": confidence,
        "probabilities": {first: confidence, **dict.fromkeys(others, share)},
        **{field: info.examples[0] for field, (_, info) in after.items() if info.examples},
    }
    enum: dict[str, Any] = {"enum": list(contract.classes)}
    fields: dict[str, Any] = {
        **_named((each.name, _KINDS.get(each.kind, str), {"description": each.meaning}) for each in contract.identity),
        "predict": (str, Field(description="the predicted class", json_schema_extra=enum)),
        "confidence": (float, Field(description="probability of that class", ge=0, le=1)),
        "probabilities": (dict[str, float], Field(description="probability of every class")),
        **after,
    }
    config = ConfigDict(frozen=True, json_schema_extra={"examples": [example]})
    model: type[BaseModel] = create_model(name, __config__=config, __doc__=doc, **fields)
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
        file_state: response of `GET /predictions/files/{request_id}`.
    """

    row: type[BaseModel]
    request: type[BaseModel]
    prediction: type[BaseModel]
    batch_request: type[BaseModel]
    batch_prediction: type[BaseModel]
    max_rows: int
    metadata: type[BaseModel] = Metadata
    model_info: type[BaseModel] = ModelInformation
    file_state: type[BaseModel] = FileState


def make_payload(contract: Contract, *, row_name: str = "Row", max_rows: int = 10_000) -> Payload:
    """Return the request and response bodies of a contract's API.

    Args:
        contract: contract with the columns of a row and the classes of an answer.
        row_name: name of a row in the OpenAPI document.
        max_rows: largest number of rows in a batch request.
    """
    row = row_model(contract, row_name)
    rows: Any = list[row]  # type: ignore[valid-type] # a type made at run time
    example = row.model_json_schema()["examples"][0]
    one = Field(description="the row to be scored")
    many = Field(description="the rows to be scored", min_length=1, max_length=max_rows)
    version = (str, Field(description="version of the model that made the prediction", examples=["7"]))
    prediction = _answer_model(
        "Prediction",
        "The answer to one prediction request.",
        contract,
        {"model_version": version, "request_id": _identifier("identifies the answer in the prediction log")},
    )
    row_prediction = _answer_model(
        "RowPrediction",
        "The answer to one row of a batch request.",
        contract,
        {
            "request_id": _identifier("identifies this row's answer in the prediction log"),
            "model_version": (
                str | None,
                Field(default=None, description="version of the model, if it is not the model_version of the batch"),
            ),
        },
    )
    batch_prediction: type[BaseModel] = create_model(
        "BatchPrediction",
        __config__=ConfigDict(frozen=True),
        __doc__="The answer to one batch request; `model_version` scored all rows that do not name another version.",
        predictions=(
            list[row_prediction],  # type: ignore[valid-type] # a type made at run time
            Field(description="one for each row, in the order of the request"),
        ),
        model_version=version,
        request_id=_identifier("identifies the request"),
    )
    return Payload(
        row=row,
        request=_request("PredictRequest", {"data": example}, {"data": (row, one)}),
        prediction=prediction,
        batch_request=_request("PredictBatchRequest", {"data": [example]}, {"data": (rows, many)}),
        batch_prediction=batch_prediction,
        max_rows=max_rows,
    )
