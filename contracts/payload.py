"""The payload contract: what the API accepts and answers. Fields may be added; none may be renamed or dropped."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.features import CONTRACT
from credit_score.contract.payload import Payload, batch_request_model, request_model, row_model

CreditRow = row_model(CONTRACT, "CreditRow")
"""One customer to be scored."""

PredictRequest = request_model(CreditRow, "PredictRequest")
"""The body of one prediction request."""


class Prediction(BaseModel):
    """The answer to one prediction request."""

    model_config = ConfigDict(frozen=True)

    customer_id: int = Field(description="the customer that was asked about")
    predict: str = Field(description="the most probable class", examples=[CONTRACT.classes[0]])
    confidence: float = Field(description="probability of that class", ge=0, le=1)
    probabilities: dict[str, float] = Field(description="probability of every class")
    model_version: str = Field(description="version of the model that answered")
    request_id: str = Field(description="identifies the answer in the prediction log")


MAX_ROWS = 10_000
"""Rows of one batch request."""

PredictBatchRequest = batch_request_model(CreditRow, "PredictBatchRequest", max_rows=MAX_ROWS)
"""The body of one batch request."""


class RowPrediction(BaseModel):
    """The answer to one row of a batch request."""

    model_config = ConfigDict(frozen=True)

    customer_id: int = Field(description="the customer that was asked about")
    predict: str = Field(description="the most probable class", examples=[CONTRACT.classes[0]])
    confidence: float = Field(description="probability of that class", ge=0, le=1)
    probabilities: dict[str, float] = Field(description="probability of every class")
    request_id: str = Field(description="identifies this row's answer in the prediction log")


class BatchPrediction(BaseModel):
    """The answer to one batch request: one model answered all of its rows."""

    model_config = ConfigDict(frozen=True)

    predictions: list[RowPrediction] = Field(description="one for each row, in the order of the request")
    model_version: str = Field(description="version of the model that answered")
    request_id: str = Field(description="identifies the request")


class Metadata(BaseModel):
    """How the model that answers was made."""

    model_config = ConfigDict(frozen=True)

    model_name: str = Field(description="name of the registered model")
    model_version: str = Field(description="its version")
    params: dict[str, Any] = Field(description="parameters of its training")
    creation_time: str = Field(description="when the version was registered, ISO 8601")


class Refused(BaseModel):
    """A champion that is not served."""

    model_config = ConfigDict(frozen=True)

    version: str = Field(description="its version")
    reason: str = Field(description="why")
    at: str = Field(description="since when, ISO 8601")


class ModelInformation(BaseModel):
    """Which model answers."""

    model_config = ConfigDict(frozen=True)

    model_name: str = Field(description="name of the registered model")
    alias: str = Field(description="alias that it was taken by")
    version: str = Field(description="its version")
    run_id: str = Field(description="the training run")
    model_uri: str = Field(description="where the registry has it")
    contract_version: str = Field(description="version of the contract that requests have to keep")
    following: bool = Field(description="whether the service follows the registry's champion")
    looked_at: str = Field(description="when the registry last named its champion, ISO 8601; empty: not yet")
    registry_error: str = Field(description="why the registry could not be asked the last time; empty: it could")
    refused: Refused | None = Field(description="the registry's champion, if it is not the model that answers")


PAYLOAD = Payload(
    row=CreditRow,
    request=PredictRequest,
    prediction=Prediction,
    batch_request=PredictBatchRequest,
    batch_prediction=BatchPrediction,
    max_rows=MAX_ROWS,
    metadata=Metadata,
    model_info=ModelInformation,
)
