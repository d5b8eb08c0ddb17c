"""The form that predictions have in the outbox: those that were made together are one record."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from ctcd.store.prediction_log import LoggedPrediction

_EACH = ("rows", "request_ids", "predictions", "confidences", "elapsed_ms")
"""What a record says of each prediction; the rest holds for all of them."""


def encode(
    rows: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    group: str,
    request_ids: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    elapsed_ms: Sequence[float],
    model_version: str,
    created_at: datetime,
) -> bytes:
    """Return predictions of one time and one model as JSON.

    Args:
        rows: the values of the rows that were scored: without their names a record has half the size, and it is what a
            commit writes.
        columns: the names of the values.
        group: name of the group among them.
        request_ids: of each row, as the other sequences are.
        predictions: see `LoggedPrediction`, as for the others.
        confidences: as above.
        elapsed_ms: as above.
        model_version: as above.
        created_at: as above.
    """
    return to_json(locals())


def split(body: bytes) -> list[bytes]:
    """Return each prediction of a record as a record of its own."""
    record = from_json(body)
    return [
        to_json(record | {name: [value] for name, value in zip(_EACH, values, strict=True)})
        for values in zip(*(record[name] for name in _EACH), strict=True)
    ]


def decode(body: bytes) -> "list[LoggedPrediction]":
    """Return the predictions of a record."""
    from ctcd.store.prediction_log import LoggedPrediction

    record = from_json(body)
    columns, group, model_version = record["columns"], record["group"], record["model_version"]
    created_at = datetime.fromisoformat(record["created_at"])
    decoded = []
    for values, *of_this in zip(*(record[name] for name in _EACH), strict=True):
        features = dict(zip(columns, values, strict=True))
        request_id, prediction, confidence, elapsed_ms = of_this
        decoded.append(
            LoggedPrediction(
                request_id=request_id,
                group=features.pop(group),
                features=features,
                prediction=prediction,
                confidence=confidence,
                model_version=model_version,
                elapsed_ms=elapsed_ms,
                created_at=created_at,
            )
        )
    return decoded
