"""What is known about one prediction, and its form in the outbox."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from credit_score.store.predictions import LoggedPrediction


def encode(
    *,
    request_id: str,
    group: int,
    features: dict[str, Any],
    prediction: str,
    confidence: float,
    model_version: str,
    elapsed_ms: float,
    created_at: datetime,
) -> bytes:
    """Return a prediction as JSON; the parameters are the fields of `LoggedPrediction`."""
    return to_json(locals())


def decode(body: bytes) -> "LoggedPrediction":
    """Return the prediction that `encode` wrote."""
    from credit_score.store.predictions import LoggedPrediction

    fields = json.loads(body)
    return LoggedPrediction(**{**fields, "created_at": datetime.fromisoformat(fields["created_at"])})
