"""Writing to the prediction log, and finding the rows of a request in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Connection, Engine, FromClause, String, Table, and_, func, or_, select

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Variant
from ctcd.store.engine import alone, reading, transaction
from ctcd.store.tables import build_tables, log_name
from ctcd.store.upsert import insert_new

_BATCH = 1_000
_UUID = re.compile("[0-9a-f]{32}")
_NAMED = re.compile("[0-9a-fs][0-9a-f]{11}5")
"""Begins the id of a row, or of its shadow's, whose request has a UUID made from a name (version 5)."""
_LOCK_SECONDS = 10
_OVERHEAD_BYTES = 512
"""What a statement with one row has besides its values, at most."""


class TooLarge(Exception):
    """A prediction, or all of a batch, has more bytes than the server accepts in one statement."""


@dataclass(frozen=True, kw_only=True)
class LoggedPrediction:
    """One prediction that the service made.

    Args:
        request_id: unique identifier, at most 36 characters.
        group: value of the contract's group column; None if it has none.
        features: features of the request by name, as JSON values.
        confidence: probability of the predicted class, 0 to 1.
        probabilities: of every class, by name; this and what follows is None if a release that did not record it made
            the prediction.
        run_id: training run of the model; empty if a release that did not record it made the prediction.
        elapsed_ms: response time in milliseconds.
        created_at: time of the response, with a time zone.
        contract_version: version of the contract that the model was made for.
        served_by: image by digest, or tag of the Bento, that answered; None also if nobody knows.
        variant: the model's part in the deployment, one of `Variant`.
    """

    request_id: str
    group: int | str | None
    features: Mapping[str, Any]
    prediction: str
    confidence: float
    model_version: str
    run_id: str
    elapsed_ms: float
    created_at: datetime
    probabilities: Mapping[str, float] | None = None
    contract_version: str | None = None
    served_by: str | None = None
    variant: str | None = None


def given(log: FromClause) -> ColumnElement[bool]:
    """Return the condition for the rows of the log that clients were given: all but those of a shadow."""
    return and_(*map(log.c.variant.is_distinct_from, (Variant.SHADOW, Variant.SHADOW_FAILED)))


@overload
def shadow_id(request_id: str) -> str: ...
@overload
def shadow_id(request_id: ColumnElement[str]) -> ColumnElement[str]: ...
def shadow_id(request_id: Any) -> Any:
    """Return the request id of the shadow's row beside the row with this one; also of a column, to join them.

    It has the same length, and is the id of no request, as those are hexadecimal.
    """
    return "s" + (request_id[1:] if isinstance(request_id, str) else func.substr(request_id, 2, type_=String()))


def of_requests(contract: Contract, request_ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition for the rows of requests: one of `/predict`, or each of `/predict_batch`.

    SQLite accepts a few hundred at a time.
    """
    column = build_tables(contract).predictions.c.request_id
    prefixes = (prefix_of_rows(each) for each in request_ids)
    batches = [column.between(f"{prefix}0000", f"{prefix}9999") for prefix in prefixes if prefix is not None]
    return or_(column.in_(request_ids), *batches)


def prefix_of_rows(request_id: str) -> str | None:
    """Return what the ids of a batch's rows begin with, before four digits; None if it cannot be the id of a batch."""
    digits = request_id.replace("-", "")
    return digits if _UUID.fullmatch(digits) else None


def append(engine: Engine, contract: Contract, records: Sequence[LoggedPrediction]) -> None:
    """Write predictions to the log in one transaction; those whose request id is already in the log are skipped.

    The unique key of the table sees to it. In a partitioned one it has the time, too (see `retention`), which is the
    same however often a prediction is sent. Only a message of a broker may be answered a second time: its ids are
    looked up.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the log's table is missing.
        TooLarge: they have more bytes than the server accepts.
        ValueError: a feature is not finite, or `created_at` has no time zone.
    """
    table = build_tables(contract).predictions
    rows = [_row(record, contract) for record in records]
    again = any(_may_come_again(row["request_id"]) for row in rows)
    try:
        with alone(engine, "log", seconds=_LOCK_SECONDS) if again else transaction(engine) as connection:
            for start in range(0, len(rows), _BATCH):
                part = rows[start : start + _BATCH]
                if new := _unknown(connection, table, part) if again else part:
                    insert_new(connection, table, new)
    except Exception:
        # A server that is sent too much ends the connection, which looks as if it had gone away.
        _refuse_too_large(engine, rows)
        raise


def _may_come_again(request_id: str) -> bool:
    return _NAMED.match(request_id) is not None


def _unknown(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows whose ids the log has not, each once: nobody else writes such ids before the commit."""
    ids = {row["request_id"]: row for row in reversed(rows)}
    named = [each for each in ids if _may_come_again(each)]
    known = set(connection.scalars(select(table.c.request_id).where(table.c.request_id.in_(named))))
    return [row for row in rows if row["request_id"] not in known and ids[row["request_id"]] is row]


def _refuse_too_large(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    if engine.dialect.name == "sqlite":
        return
    with reading(engine) as connection:
        [accepted] = connection.exec_driver_sql("SELECT @@max_allowed_packet").one()
    texts = [to_json(row, inf_nan_mode="constants") for row in rows]
    size = _OVERHEAD_BYTES + sum(len(text) + text.count(b"'") for text in texts)  # a quote is written twice
    if size > accepted:
        raise TooLarge(f"{size} bytes, and the store accepts {accepted} (max_allowed_packet)") from None


def _row(record: LoggedPrediction, contract: Contract) -> dict[str, Any]:
    # The other columns have the names of the fields.
    row = {**vars(record), "features": dict(record.features)}
    group = row.pop("group")
    return {log_name(column): group for column in contract.identity} | row
