"""The format of predictions in the outbox: predictions made together form one record."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pydantic_core import from_json, to_json

from ctcd.contract.spec import Contract, names

if TYPE_CHECKING:
    from ctcd.model.scorer import Predictions
    from ctcd.model.served import Origin
    from ctcd.store.prediction_log import LoggedPrediction

FORMAT = 1
"""Version of the format, in each record; records from before there were versions have none and are read too."""
_CHECKSUM = "crc32"
"""Last field of a record, the CRC-32 of all bytes before it: damage that leaves valid JSON would reach the store."""
_EACH = ("rows", "request_ids", "predictions", "confidences", "probabilities", "elapsed_ms")
"""Fields with one entry for each prediction of a record; the others apply to all of them."""
_ORIGIN = ("model_version", "run_id", "contract_version", "served_by", "variant")


class Unreadable(Exception):
    """A record that cannot be read: it is damaged, or of another version. Its message contains no value of the record."""


def group_name(contract: Contract) -> str:
    """Return the name of the column that identifies a row in a record; empty if rows have none."""
    return next(iter(names(contract.identity)), "")


def values_of(columns: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Return a function that returns these values of a row, in their order."""
    if len(columns) > 1:
        return itemgetter(*columns)
    return lambda row: [row[name] for name in columns]


def encode(
    rows: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    group: str,
    request_ids: Sequence[str],
    predictions: "Predictions",
    elapsed_ms: Sequence[float],
    origin: "Origin",
    created_at: datetime,
) -> bytes:
    """Return predictions made at the same time by the same model, as JSON.

    The values of a row have no names, which halves what a commit writes: `columns` names them, and `group` is one of
    these, or empty if there is none. So does the order of the classes for the probabilities of a row. The other
    sequences have one entry for each row; `elapsed_ms` is the time from its request to its scoring in milliseconds.
    """
    record = {
        **locals(),
        **vars(origin),
        "predictions": predictions.classes,
        "confidences": predictions.confidences,
        "probabilities": predictions.probabilities,
        "classes": predictions.class_order,
        "format": FORMAT,
    }
    del record["origin"]
    return _sealed(record)


def _sealed(record: dict[str, Any]) -> bytes:
    body = to_json(record)[:-1]
    return b'%b,"%b":"%08x"}' % (body, _CHECKSUM.encode(), crc32(body))


def split(body: bytes) -> list[bytes]:
    """Return each prediction of a record as a record of its own.

    Raises:
        Unreadable: the record cannot be read.
    """
    decode(body)
    record = _read(body)
    return [
        _sealed(record | {name: [value] for name, value in zip(_EACH, values, strict=True)})
        for values in zip(*(record[name] for name in _EACH), strict=True)
    ]


def decode(body: bytes) -> "list[LoggedPrediction]":
    """Return the predictions of a record.

    Raises:
        Unreadable: the record cannot be read.
    """
    try:
        return _decode(_read(body))
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - its bytes may be anything; the text of an error may contain values of it
        raise Unreadable(f"damaged ({type(error).__name__})") from None


def _decode(record: dict[str, Any]) -> "list[LoggedPrediction]":
    from ctcd.store.prediction_log import LoggedPrediction

    columns, group, classes = record["columns"], record["group"], record["classes"]
    origin = {name: record[name] for name in _ORIGIN}
    created_at = datetime.fromisoformat(record["created_at"])
    if created_at.tzinfo is None:
        raise Unreadable("damaged (a timestamp has no time zone)")
    decoded = []
    for values, *of_this in zip(*(record[name] for name in _EACH), strict=True):
        features = dict(zip(columns, values, strict=True))
        request_id, prediction, confidence, probabilities, elapsed_ms = of_this
        if not all(isinstance(each, str) for each in (request_id, prediction, record["model_version"])):
            raise Unreadable("damaged (a field is not text)")
        decoded.append(
            LoggedPrediction(
                request_id=request_id,
                group=features.pop(group, None),
                features=features,
                prediction=prediction,
                confidence=confidence,
                probabilities=None if classes is None else dict(zip(classes, probabilities, strict=True)),
                **origin,
                elapsed_ms=elapsed_ms,
                created_at=created_at,
            )
        )
    return decoded


def _read(body: bytes) -> dict[str, Any]:
    """Return the fields of a record of any known version as those of the newest."""
    record: dict[str, Any] = from_json(body)
    checksum = record.pop(_CHECKSUM, None)  # records of earlier releases have none
    if checksum is not None and checksum != f"{crc32(body[: body.rindex(b',')]):08x}":
        raise Unreadable("damaged (checksum)")
    version = record.get("format", FORMAT)
    if version != FORMAT:
        shown = version if isinstance(version, int) else "unknown"
        raise Unreadable(f"format {shown}, and this version of ctcd reads {FORMAT}")
    if "request_id" in record:  # the first version: one prediction, with the names of its features
        features: dict[str, Any] = record.pop("features")
        record |= {
            "rows": [[record["group"], *features.values()]],
            "columns": ["", *features],
            "group": "",
            "request_ids": [record.pop("request_id")],
            "predictions": [record["prediction"]],
            "confidences": [record["confidence"]],
        }
    elif "columns" not in record:  # the second: the names of its values in each row
        columns = list(record["rows"][0])
        record |= {"columns": columns, "rows": [[row[name] for name in columns] for row in record["rows"]]}
    if not isinstance(record["elapsed_ms"], list):  # up to the third: one time for all rows
        record["elapsed_ms"] = [record["elapsed_ms"]] * len(record["rows"])
    # Later again. The format has the same number, as a release that does not know the fields reads such records too.
    unknown = {"run_id": "", "contract_version": None, "served_by": None, "variant": None, "classes": None}
    return unknown | {"probabilities": [None] * len(record["rows"])} | record
