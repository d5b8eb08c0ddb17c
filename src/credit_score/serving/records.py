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
    rows: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
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
        rows: the values of the rows that were scored: without their names a record has half the size.
        columns: the names of the values.
        group: name of the group among them.
        request_ids: of each row, as the other sequences are.
        predictions: see `LoggedPrediction`, as for the others.
        confidences: as above.
        model_version: as above.
        elapsed_ms: as above.
        created_at: as above.
    """
    return to_json(locals())


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
    rows = [dict(zip(record["columns"], values, strict=True)) for values in record["rows"]]
    return [
        {
            "request_id": request_id,
            "group": row.pop(record["group"]),
            "features": row,
            "prediction": prediction,
            "confidence": confidence,
            **shared,
        }
        for request_id, row, prediction, confidence in zip(
            record["request_ids"], rows, record["predictions"], record["confidences"], strict=True
        )
    ]
