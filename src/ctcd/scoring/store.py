"""Batch scoring within the store: the newest features of every group, once for each model."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
from sqlalchemy import Engine, Select, and_, exists, func, select

from ctcd.contract.schemas import batch_schema
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import validate
from ctcd.model.scorer import Scorer
from ctcd.model.served import Origin
from ctcd.progress import Progress, silent
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import build_tables
from ctcd.store.upsert import insert_new


@dataclass(frozen=True, kw_only=True)
class ScoringReport:
    """Result of scoring new rows of the store.

    Args:
        model_version: version of the model; None if there is no champion.
        shares: share of these rows, 0 to 1, by predicted class; empty if there were none.
    """

    model_version: str | None
    rows: int
    shares: dict[str, float]
    table: str


def score_new(
    engine: Engine,
    contract: Contract,
    scorer: Scorer,
    origin: Origin,
    *,
    chunk_rows: int,
    progress: Progress = silent,
) -> ScoringReport:
    """Score the newest features of each group, except those that this model has scored already.

    Each chunk is one transaction, so that a call that was killed can be repeated and continues with the missing rows.
    The model's earlier scores are found by its training run. `progress` is called with the number of rows
    scored so far, and of those to score; others may be added meanwhile.

    Raises:
        DataRefused: a row breaks the contract; the chunks before it are kept.
        Unreachable: the store does not answer.
    """
    table, run_id = build_tables(contract).scores, origin.run_id
    counts = Counter[str]()
    keys = names(contract.keys)
    with reading(engine) as connection:
        expected = connection.scalar(select(func.count()).select_from(_missing(contract, run_id).subquery())) or 0
    for frame in _chunks(engine, contract, run_id, chunk_rows):
        validate(frame, batch_schema(contract), contract, where=f"newest rows of {contract.features_table}")
        predictions = scorer.predict(frame)
        now = datetime.now(UTC)
        rows = [
            {
                **dict(zip(keys, key, strict=True)),
                **vars(origin),
                "prediction": prediction,
                "confidence": confidence,
                "probabilities": dict(zip(predictions.class_order, probabilities, strict=True)),
                "scored_at": now,
            }
            for key, prediction, confidence, probabilities in zip(
                frame[keys].itertuples(index=False),
                predictions.classes,
                predictions.confidences,
                predictions.probabilities,
                strict=True,
            )
        ]
        with transaction(engine) as connection:
            # Another run may have scored one of these rows in the meantime: that row is kept.
            insert_new(connection, table, rows)
        counts.update(predictions.classes)
        progress("rows scored", counts.total(), max(counts.total(), expected))
    total = counts.total()
    shares = {name: counts[name] / total for name in scorer.classes} if total else {}
    return ScoringReport(model_version=origin.model_version, rows=total, shares=shares, table=table.name)


def _chunks(engine: Engine, contract: Contract, run_id: str, rows: int) -> Iterator[pd.DataFrame]:
    query = _missing(contract, run_id).limit(rows)
    while True:
        with reading(engine) as connection:
            found = connection.execute(query).all()
        if not found:
            return
        frame = pd.DataFrame([tuple(row) for row in found], columns=[column.name for column in query.selected_columns])
        yield frame
        if len(frame) < rows:
            return


def _missing(contract: Contract, run_id: str) -> Select[tuple[object, ...]]:
    """Return the query for the newest features of each group that the model of a run has not scored yet."""
    tables = build_tables(contract)
    features, scores = tables.features, tables.scores
    columns = [features.c[name] for name in dict.fromkeys((*names(contract.keys), *names(contract.model_inputs)))]
    order = (features.c[contract.event_date.name].desc(), features.c[contract.key.name].desc())
    newness = func.row_number().over(partition_by=features.c[contract.group.name], order_by=order)
    ranked = select(*columns, newness.label("_newness")).subquery("ranked")
    same = and_(*(scores.c[name] == ranked.c[name] for name in names(contract.keys)))
    scored = exists().where(same, scores.c.run_id == run_id)
    return (
        select(*(ranked.c[column.name] for column in columns))
        .where(ranked.c["_newness"] == 1, ~scored)
        .order_by(*(ranked.c[name] for name in names(contract.keys)))
    )
