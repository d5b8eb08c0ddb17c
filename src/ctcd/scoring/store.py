"""Batch scoring within the store: the newest features of every group, once for each model."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Engine, Select, and_, exists, func, select, tuple_

from ctcd.contract.schemas import batch_schema
from ctcd.contract.spec import Contract, names
from ctcd.contract.validation import Failure, failures
from ctcd.errors import Unreachable, number_of
from ctcd.model.scorer import Scorer
from ctcd.model.served import Origin
from ctcd.progress import Progress, silent
from ctcd.store.engine import reading, transaction
from ctcd.store.rows import require_few, valid_rows
from ctcd.store.tables import build_tables
from ctcd.store.upsert import insert_new, upsert

_SPOOL_BYTES = 64 * 2**20
"""Bytes of rows that wait in memory; more are in a temporary file."""


@dataclass(frozen=True, kw_only=True)
class ScoringReport:
    """Result of scoring new rows of the store.

    Args:
        model_version: version of the model; None if there is no champion.
        rows: number of rows that were scored.
        quarantined: number of rows that break the contract, and are in the quarantine table.
        shares: share of the scored rows, 0 to 1, by predicted class; empty if there were none.
    """

    model_version: str | None
    rows: int
    quarantined: int = 0
    shares: dict[str, float]
    table: str


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of some rows.

    Args:
        rows: number of rows that were read.
        rejected: number of those that broke the contract.
        counts: number of scored rows by predicted class.
        reasons: number of rejected rows by reason; a row may have several.
    """

    rows: int = 0
    rejected: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Scored") -> "Scored":
        """Return what became of the rows of both."""
        return Scored(
            rows=self.rows + other.rows,
            rejected=self.rejected + other.rejected,
            counts=self.counts + other.counts,
            reasons=self.reasons + other.reasons,
        )

    @property
    def why(self) -> str:
        """The reasons, the most frequent first."""
        return "; ".join(f"{reason} ({number_of(count, 'row')})" for reason, count in self.reasons.most_common())

    def shares(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the share of the scored rows, 0 to 1, by class; empty if there are none."""
        total = self.counts.total()
        return {name: self.counts[name] / total for name in classes} if total else {}


def score_new(
    engine: Engine, contract: Contract, scorer: Scorer, origin: Origin, *, chunk_rows: int, progress: Progress = silent
) -> ScoringReport:
    """Score the newest features of each group, except those that this model has scored already; see `score_range`.

    `progress` is called with the number of rows scored so far, and of those to score; others may be added meanwhile.

    Raises:
        DataRefused: a larger share of all newest rows breaks the contract than it allows; what was written is kept.
        Unreachable: the store does not answer.
    """
    with reading(engine) as connection:
        expected = connection.scalar(select(func.count()).select_from(missing(contract, origin.run_id).subquery())) or 0
    scored = Scored()
    for part in score_range(engine, contract, scorer, origin, chunk_rows=chunk_rows):
        scored += part
        progress("rows scored", scored.rows, max(scored.rows, expected))
    return report_of(engine, scored, contract, scorer.classes, origin)


def report_of(
    engine: Engine, scored: Scored, contract: Contract, classes: Sequence[str], origin: Origin
) -> ScoringReport:
    """Return the report of a whole run.

    Each run meets all rejected rows again, but none of those that were scored before. So their share is that of the
    newest rows of all groups: a run that was killed can be continued, and one that has little to do is not refused for
    that.

    Raises:
        DataRefused: a larger share of the newest rows broke the contract than that allows.
        Unreachable: the store does not answer.
    """
    group = build_tables(contract).features.c[contract.group.name]
    with reading(engine) as connection:
        newest = connection.scalar(select(func.count(group.distinct()))) or 0
    require_few(
        scored.rejected,
        newest,
        scored.why,
        contract,
        where=f"newest rows of {contract.features_table}",
        hint=f"they are in the table {build_tables(contract).quarantine.name}; the others were scored",
    )
    return ScoringReport(
        model_version=origin.model_version,
        rows=scored.counts.total(),
        quarantined=scored.rejected,
        shares=scored.shares(classes),
        table=build_tables(contract).scores.name,
    )


def score_range(
    engine: Engine,
    contract: Contract,
    scorer: Scorer,
    origin: Origin,
    *,
    chunk_rows: int,
    within: Callable[[ColumnElement[Any]], Sequence[ColumnElement[bool]]] = lambda _: (),
) -> Iterator[Scored]:
    """Score what `score_new` does, of the groups that `within` selects; yields what became of each chunk.

    Each chunk is one transaction, so that a call that was killed can be repeated and continues with the missing rows.
    The model's earlier scores are found by its training run. Rows that break the contract go to the quarantine table
    with their reasons: once, however often this is called.

    Raises:
        Unreachable: the store does not answer; or the rows have no key, and were replaced meanwhile.
    """
    tables, keys, schema = build_tables(contract), names(contract.keys), batch_schema(contract)
    group = tables.features.c[contract.group.name]
    query = missing(contract, origin.run_id, *within(group))
    columns = [column.name for column in query.selected_columns]
    files = select(tables.sources.c.sha256).where(tables.sources.c.table_name == contract.features_table)
    with reading(engine) as connection:
        before = set(connection.scalars(files))
    for found in _chunks(engine, query, keys, chunk_rows):
        frame = pd.DataFrame(found, columns=columns)
        broken = failures(frame[names(contract.model_inputs)], schema, contract)
        good = frame.iloc[valid_rows(len(frame), broken)]
        predictions = scorer.predict(good)
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
                good[keys].itertuples(index=False),
                predictions.classes,
                predictions.confidences,
                predictions.probabilities,
                strict=True,
            )
        ]
        bad = _quarantined(frame, broken, contract, origin)
        with transaction(engine) as connection:
            # Without a key, rows are known by their numbers, which are those of other rows once they are replaced.
            if contract.key.filled and set(connection.scalars(files.with_for_update(read=True))) != before:
                raise Unreachable(
                    "the rows were replaced while they were scored", where=contract.features_table, hint="run it again"
                )
            # Another run may have scored one of these rows in the meantime: that row is kept.
            if rows:
                insert_new(connection, tables.scores, rows)
            if bad:
                upsert(connection, tables.quarantine, bad)
        reasons = Counter({each.text: len(each.rows) for each in broken})
        yield Scored(rows=len(frame), rejected=len(bad), counts=Counter(predictions.classes), reasons=reasons)


def _chunks(
    engine: Engine, query: Select[tuple[object, ...]], keys: Sequence[str], chunk_rows: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of `missing`, whose first columns are the keys, in chunks; no connection is open meanwhile.

    Each execution ranks all rows of the range. One for each chunk would take time in proportion to the square of the
    rows, so all are read at once, into a temporary file if they are many. Rows that are added meanwhile are read by
    another execution if the last chunk was full.
    """
    following, place = query, tuple_(*(query.selected_columns[name] for name in keys))
    while True:
        found: list[tuple[Any, ...]] = []
        with SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            with reading(engine) as connection:
                result = connection.execute(following, execution_options={"yield_per": chunk_rows})
                for rows in result.partitions():
                    pickle.dump([tuple(row) for row in rows], spool)
            end = spool.tell()
            spool.seek(0)
            while spool.tell() < end:
                found = pickle.load(spool)  # noqa: S301 - nobody else can have written to this file
                yield found
        if len(found) < chunk_rows:
            return
        # From the last key on, as rejected rows stay among the missing ones.
        following = query.where(place > found[-1][: len(keys)])


def _quarantined(
    frame: pd.DataFrame, broken: Sequence[Failure], contract: Contract, origin: Origin
) -> list[dict[str, Any]]:
    """Return the rows of the quarantine table; a number made of the keys stands for the line, which a table does not have."""
    reasons: dict[int, list[dict[str, str | None]]] = {}
    texts = {name: [None if pd.isna(each) else str(each) for each in frame[name]] for name in frame}
    for failure in broken:
        for row in failure.rows.tolist():
            value = texts[failure.column][row] if failure.column else None
            reasons.setdefault(row, []).append({"column": failure.column, "value": value, "rule": failure.rule})
    source = f"run {origin.run_id}"
    return [
        {
            "table_name": contract.features_table,
            "source": source,
            "line": int.from_bytes(
                sha256(repr([texts[name][row] for name in names(contract.keys)]).encode()).digest()[:7]
            ),
            "reasons": reasons[row],
            "record": {name: values[row] for name, values in texts.items()},
        }
        for row in sorted(reasons)
    ]


def missing(contract: Contract, run_id: str, *within: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """Return the query for the newest features of each group `within` that the model of a run has not scored yet."""
    tables = build_tables(contract)
    features, scores = tables.features, tables.scores
    columns = [features.c[name] for name in dict.fromkeys((*names(contract.keys), *names(contract.model_inputs)))]
    order = (features.c[contract.event_date.name].desc(), features.c[contract.key.name].desc())
    newness = func.row_number().over(partition_by=features.c[contract.group.name], order_by=order)
    ranked = select(*columns, newness.label("_newness")).where(*within).subquery("ranked")
    same = and_(*(scores.c[name] == ranked.c[name] for name in names(contract.keys)))
    scored = exists().where(same, scores.c.run_id == run_id)
    return (
        select(*(ranked.c[column.name] for column in columns))
        .where(ranked.c["_newness"] == 1, ~scored)
        .order_by(*(ranked.c[name] for name in names(contract.keys)))
    )
