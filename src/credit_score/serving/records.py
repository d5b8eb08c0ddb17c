"""What is known about predictions, and its form in the outbox."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

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


def encode_many(
    rows: bytes,
    *,
    group: str,
    request_ids: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    model_version: str,
    elapsed_ms: float,
    created_at: datetime,
) -> bytes:
    """Return predictions of one time and one model as JSON.

    Args:
        rows: the rows that were scored, a JSON list of objects.
        group: name of the group in them.
        request_ids: of each row, as the other sequences are.
        predictions: see `LoggedPrediction`, as for the others.
        confidences: as above.
        model_version: as above.
        elapsed_ms: as above.
        created_at: as above.
    """
    fields = {name: value for name, value in locals().items() if name != "rows"}
    return to_json(fields)[:-1] + b',"rows":' + rows + b"}"


def split(body: bytes) -> list[bytes]:
    """Return each prediction of a record as `encode` writes it."""
    return [to_json(fields) for fields in _fields(body)]


def decode(body: bytes) -> "list[LoggedPrediction]":
    """Return the predictions of a record."""
    from credit_score.store.predictions import LoggedPrediction

    return [
        LoggedPrediction(**{**fields, "created_at": datetime.fromisoformat(fields["created_at"])})
        for fields in _fields(body)
    ]


def _fields(body: bytes) -> list[dict[str, Any]]:
    record = from_json(body)
    if "rows" not in record:
        return [record]
    shared = {name: record[name] for name in ("model_version", "elapsed_ms", "created_at")}
    columns = (record[name] for name in ("request_ids", "rows", "predictions", "confidences"))
    return [
        {
            "request_id": request_id,
            "group": row.pop(record["group"]),
            "features": row,
            "prediction": prediction,
            "confidence": confidence,
            **shared,
        }
        for request_id, row, prediction, confidence in zip(*columns, strict=True)
    ]
