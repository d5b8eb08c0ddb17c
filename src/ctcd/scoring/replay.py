"""Computes logged answers again, with the version that gave them, and compares them."""

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Table, select

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, UsageError
from ctcd.model.probes import TOLERANCE
from ctcd.model.scorer import Predictions, Scorer
from ctcd.progress import Progress, silent
from ctcd.registry.versions import RegisteredVersion, Registry
from ctcd.store.engine import reading
from ctcd.store.prediction_log import given, of_requests, prefix_of_rows
from ctcd.store.tables import build_tables

CHUNK_ROWS = 5_000
"""Answers read and computed at a time."""
REQUESTS_AT_ONCE = 200
"""Request ids per query of the log."""
_HINT = "a prediction reaches the store a moment after its answer"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which answers to compute again: those that meet every condition; None is no condition.

    Rows of a shadow are included only if their request ids are given.

    Args:
        requests: request ids; that of a batch stands for all of its rows.
        begin: time of the first answer.
        end: time before which the last answer was given.
        sample: maximum number of answers, drawn at random.
        seed: the same one draws the same answers.
    """

    requests: Sequence[str] = ()
    begin: datetime | None = None
    end: datetime | None = None
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference between a logged and a recomputed answer.

    Args:
        field: `prediction`, `confidence`, or `probability of <class>`.
        logged: the logged value; None if it has no value for this class.
        computed: the value that the version computes now; None if it does not have this class.
    """

    request_id: str
    model_version: str
    run_id: str
    field: str
    logged: Any
    computed: Any


@dataclass(kw_only=True)
class Replayed:
    """The answers of one version.

    Args:
        run_id: its training run; empty if it was not logged, and then the registry's version with this number is used.
        answers: number of answers to be computed again.
        equal: number of answers that are the same again.
        different: number of answers that differ.
        partial: number of answers, equal or different, that were logged without all probabilities.
        problem: why the others could not be computed, such as that the version was deleted; empty if there are none.
    """

    model_version: str
    run_id: str
    answers: int = 0
    equal: int = 0
    different: int = 0
    partial: int = 0
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """The result in total and by version; see `Replayed`.

    Args:
        not_computed: answers that could not be computed again.
        seconds: wall time.
    """

    answers: int
    equal: int
    different: int
    partial: int
    not_computed: int
    seconds: float
    versions: tuple[Replayed, ...]
    differences: tuple[Difference, ...]


def replay(
    engine: Engine, contract: Contract, registry: Registry, chosen: Chosen, *, cache: Path, progress: Progress = silent
) -> ReplayReport:
    """Compute answers of the prediction log again, each with the version that gave it, and compare them to 1e-9.

    A version is identified by its training run; its files are downloaded to the folder `cache`.

    Raises:
        NotFound: the log has no such answer, or does not know one of the request ids.
        Unreachable: the store or the registry does not answer.
    """
    began = time.monotonic()
    table = build_tables(contract).predictions
    ids = _chosen(engine, contract, chosen)
    models = _Models(registry, cache)
    versions: dict[tuple[str, str], Replayed] = {}
    differences: list[Difference] = []
    for start in range(0, len(ids), CHUNK_ROWS):
        for (version, run_id), rows in _by_version(engine, table, ids[start : start + CHUNK_ROWS]):
            tally = versions.setdefault((version, run_id), Replayed(model_version=version, run_id=run_id))
            tally.answers += len(rows)
            try:
                scorer = models.of(version, run_id)
            except (NotFound, UsageError) as error:
                tally.problem = str(error)
                continue
            for part, predictions in _predicted(scorer, rows):
                if isinstance(predictions, UsageError):
                    tally.problem = str(predictions)
                    continue
                found = list(_compare(part, predictions))
                differences += found
                different = len({each.request_id for each in found})
                tally.different += different
                tally.equal += len(part) - different
                tally.partial += sum(row["probabilities"] is None for row in part)
        progress("answers computed again", min(start + CHUNK_ROWS, len(ids)), len(ids))
    found_versions = tuple(versions[key] for key in sorted(versions))
    equal, different = (sum(getattr(each, name) for each in found_versions) for name in ("equal", "different"))
    return ReplayReport(
        answers=len(ids),
        equal=equal,
        different=different,
        partial=sum(each.partial for each in found_versions),
        not_computed=len(ids) - equal - different,
        seconds=time.monotonic() - began,
        versions=found_versions,
        differences=tuple(differences),
    )


class _Models:
    """The scorers of versions, each fetched once."""

    def __init__(self, registry: Registry, cache: Path) -> None:
        self._registry, self._cache = registry, cache
        self._known = registry.versions()
        self._scorers: dict[tuple[str, str], Scorer | NotFound | UsageError] = {}

    def of(self, version: str, run_id: str) -> Scorer:
        """Return the scorer of a version.

        Raises:
            NotFound: the registry has no version of this run, or its files are missing.
            UsageError: they are damaged.
        """
        key = version, run_id
        if key not in self._scorers:
            try:
                self._scorers[key] = self._registry.scorer(self._version(*key), self._cache)
            except (NotFound, UsageError) as error:
                self._scorers[key] = error
        found = self._scorers[key]
        if not isinstance(found, Scorer):
            raise found
        return found

    def _version(self, version: str, run_id: str) -> RegisteredVersion:
        # Version numbers may be reused, run ids are not: the number is used only if no run id was logged.
        for each in self._known:
            if each.run_id == run_id or (not run_id and each.version == version):
                return each
        raise NotFound(
            f"the registry has no version of run {run_id}" if run_id else f"there is no version {version} any more"
        )


def _chosen(engine: Engine, contract: Contract, chosen: Chosen) -> list[int]:
    """Return the ids of the rows to compute again, in their order."""
    table = build_tables(contract).predictions
    conditions: list[ColumnElement[bool]] = []
    if chosen.begin is not None:
        conditions.append(table.c.created_at >= chosen.begin)
    if chosen.end is not None:
        conditions.append(table.c.created_at < chosen.end)
    with reading(engine) as connection:
        if chosen.requests:
            ids = _of_requests(connection, contract, chosen.requests, conditions)
        else:
            query = select(table.c.id).where(*conditions, given(table)).order_by(table.c.id)
            ids = list(connection.execution_options(yield_per=CHUNK_ROWS).scalars(query))
    if not ids:
        raise NotFound("no such answer", where=table.name, hint=_HINT)
    if chosen.sample is not None and chosen.sample < len(ids):
        ids = sorted(random.Random(chosen.seed).sample(ids, chosen.sample))  # noqa: S311 - not for secrets
    return ids


def _of_requests(
    connection: Connection, contract: Contract, requests: Sequence[str], conditions: Sequence[ColumnElement[bool]]
) -> list[int]:
    table = build_tables(contract).predictions
    given = list(dict.fromkeys(requests))
    found: dict[int, str] = {}
    for start in range(0, len(given), REQUESTS_AT_ONCE):
        these = of_requests(contract, given[start : start + REQUESTS_AT_ONCE])
        for row in connection.execute(select(table.c.id, table.c.request_id).where(these, *conditions)):
            found[row.id] = row.request_id
    known = set(found.values())
    batches = {each[:-4] for each in known}
    unknown = [each for each in given if each not in known and prefix_of_rows(each) not in batches]
    if unknown:
        raise NotFound(
            f"request ids that it does not have: {len(unknown)} of {len(given)}, such as {unknown[0]!r}",
            where=table.name,
            hint=_HINT,
        )
    return sorted(found)


def _predicted(
    scorer: Scorer, rows: Sequence[RowMapping]
) -> Iterator[tuple[Sequence[RowMapping], Predictions | UsageError]]:
    """Yield the rows in parts with the scorer's predictions; a row that cannot be scored is a separate part."""
    try:
        found: Predictions | UsageError = scorer.predict([row["features"] for row in rows])
    except UsageError as error:
        if len(rows) > 1:
            middle = len(rows) // 2
            yield from _predicted(scorer, rows[:middle])
            yield from _predicted(scorer, rows[middle:])
            return
        found = error
    yield rows, found


def _by_version(engine: Engine, table: Table, ids: Sequence[int]) -> list[tuple[tuple[str, str], list[RowMapping]]]:
    """Return the rows with these ids by version and training run."""
    columns = ("request_id", "features", "prediction", "confidence", "probabilities", "model_version", "run_id")
    found: dict[tuple[str, str], list[RowMapping]] = defaultdict(list)
    with reading(engine) as connection:
        query = select(*(table.c[name] for name in columns)).where(table.c.id.in_(ids)).order_by(table.c.id)
        for row in connection.execute(query).mappings():
            found[row["model_version"], row["run_id"]].append(row)
    return list(found.items())


def _compare(rows: Sequence[RowMapping], computed: Predictions) -> Iterator[Difference]:
    """Yield every difference between logged answers and the computed ones; a number differs by more than 1e-9."""
    classes = computed.class_order
    logged = np.full((len(rows), 1 + len(classes)), np.nan)
    judged = np.ones(logged.shape, dtype=np.bool_)
    for index, row in enumerate(rows):
        logged[index, 0] = row["confidence"]
        if row["probabilities"] is None:
            judged[index, 1:] = False
        else:
            logged[index, 1:] = [row["probabilities"].get(name, np.nan) for name in classes]
    again = np.column_stack([computed.confidences, computed.probabilities])
    # NaN makes the comparison false, which is a difference.
    differs = judged & ~(np.abs(logged - again) <= TOLERANCE)
    fields = ("confidence", *(f"probability of {name}" for name in classes))
    for index, (row, prediction) in enumerate(zip(rows, computed.classes, strict=True)):
        found: list[tuple[str, Any, Any]] = []
        if row["prediction"] != prediction:
            found.append(("prediction", row["prediction"], prediction))
        for place in np.flatnonzero(differs[index]).tolist():
            value = float(logged[index, place])
            found.append((fields[place], None if math.isnan(value) else value, float(again[index, place])))
        others = set(row["probabilities"] or ()).difference(classes)
        found += [(f"probability of {name}", row["probabilities"][name], None) for name in sorted(others)]
        for name, then, now in found:
            yield Difference(
                request_id=row["request_id"],
                model_version=row["model_version"],
                run_id=row["run_id"],
                field=name,
                logged=then,
                computed=now,
            )
