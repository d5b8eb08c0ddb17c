"""The payload contract: what the API accepts and answers. Fields may be added; none may be renamed or dropped."""

from pydantic import BaseModel, ConfigDict, Field

from contracts.features import CONTRACT
from credit_score.contract.payload import row_model

CreditRow = row_model(CONTRACT, "CreditRow")
"""One customer to be scored."""


class Prediction(BaseModel):
    """The answer to one prediction request."""

    model_config = ConfigDict(frozen=True)

    customer_id: int = Field(description="the customer that was asked about")
    predict: str = Field(description="the most probable class", examples=[CONTRACT.classes[0]])
    confidence: float = Field(description="probability of that class", ge=0, le=1)
    probabilities: dict[str, float] = Field(description="probability of every class")
    model_version: str = Field(description="version of the model that answered")
    request_id: str = Field(description="identifies the answer in the prediction log")
