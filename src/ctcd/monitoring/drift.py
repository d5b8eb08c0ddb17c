"""Drift: whether the rows of a day or week still have the distribution of the training data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import Connection, Engine, Select, delete, insert, select

from ctcd.contract.spec import Contract, names
from ctcd.model.reference import Binned, Counts, FeatureDrift, Reference
from ctcd.monitoring import formulas
from ctcd.monitoring.findings import Finding, Kind, raise_finding
from ctcd.monitoring.periods import Period, bounds, spans
from ctcd.monitoring.samples import Between, Model, by_model, count, made
from ctcd.monitoring.tolerances import Drift
from ctcd.progress import Progress, silent
from ctcd.store.engine import reading, transaction
from ctcd.store.tables import FEATURE_LENGTH, build_tables

Source = Literal["predictions", "features"]
"""Where the rows come from: the prediction log, or the feature table of the store."""
Verdict = Literal["judged", "too few rows", "no reference", "another contract"]
"""Whether a sample was compared, or why not: it is too small, the training of its model stored no reference, or its
rows lack a column of the model, for example after a change of the contract."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The rows of a period that are compared with the reference of one model.

    Args:
        model_version: the model that answered them; for rows of the feature table, the champion.
        run_id: MLflow run that trained that model.
        effective_rows: effective number of rows; see `ctcd.model.reference.effective_rows`.
    """

    source: Source
    model_version: str
    run_id: str
    rows: int
    effective_rows: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class ColumnDrift(FeatureDrift):
    """How one column of a sample differs from the reference; for its own fields see `Sample`."""

    source: Source
    model_version: str
    run_id: str
    rows: int
    effective_rows: float


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The drift of one day or week.

    Args:
        first_day: its first day, ISO 8601.
        last_day: its last day, ISO 8601.
        table: table of the store that holds `columns`.
        checks: number of distributions and shares that were compared.
        level: probability of a false alarm of each of them, 0 to 1.
        drifted: number of columns that are beyond a limit.
        columns: all columns of the judged samples; those beyond a limit, and with the largest PSI, come first.
        findings: the findings that they led to.
    """

    period: Period
    first_day: str
    last_day: str
    table: str
    checks: int
    level: float
    drifted: int
    samples: tuple[Sample, ...]
    columns: tuple[ColumnDrift, ...]
    findings: tuple[Finding, ...] = ()


def write_drift(
    engine: Engine,
    contract: Contract,
    base_dt: date,
    *,
    period: Period,
    zone: ZoneInfo,
    limits: Drift,
    champion: Model | None,
    find_reference: Callable[[str], Reference | None],
    chunk_rows: int,
    progress: Progress = silent,
) -> DriftReport:
    """Compare the last day or whole week before a day with the training data of its models, and store the result.

    Predictions are compared with the reference of the model that made them; rows of the feature table, selected by
    their event date, with that of the champion. Rows are read in chunks. Repeating the call replaces the rows of the
    period.

    Args:
        engine: the store.
        contract: the contract in force.
        base_dt: the day after the day, or after the Sunday of the week, or later in that week.
        period: day or week.
        zone: time zone in which days begin and end.
        limits: from `monitoring.toml`.
        champion: the champion; without one, rows of the feature table are not compared.
        find_reference: returns the reference of a training run, or None.
        chunk_rows: rows read at a time.
        progress: called with the number of rows counted.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the store has no tables.
        UsageError: logged rows are not what the model was trained for.
    """
    [(first, last)] = spans(base_dt, period, 1)
    monitored: list[tuple[Sample, str, Binned, Counts]] = []
    samples = []
    with reading(engine) as connection:
        for rows in (
            *_logged(connection, contract, bounds(first, last, zone)),
            *_stored(connection, contract, first, last, champion),
        ):
            reference = find_reference(rows.model[1])
            sample = rows.sample(limits, reference)
            samples.append(sample)
            if sample.verdict == "judged" and reference is not None:
                counts = rows.count(connection, reference, chunk_rows, progress)
                # Includes rows that were logged after they were counted.
                read = next((each.rows for each in counts.values()), 0)
                effective = sample.effective_rows * read / sample.rows
                sample = samples[-1] = replace(sample, rows=read, effective_rows=effective)
                binned = {**reference.columns, **reference.answers}
                monitored += [(sample, name, binned[name], counts[name]) for name in counts if limits.monitors(name)]
    checks = sum(comparisons(binned) for _, _, binned, _ in monitored)
    level = limits.level(checks)
    columns = sorted(
        (
            _of_sample(sample, compared(name, binned, counts, sample.effective_rows, level=level, limits=limits))
            for sample, name, binned, counts in monitored
        ),
        key=lambda column: (not column.drifted, -(column.psi or 0.0)),
    )
    table = build_tables(contract).drift
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        connection.execute(delete(table).where(table.c.period == period.value, table.c.first_day == first))
        if columns:
            span = {"period": period.value, "first_day": first, "last_day": last, "computed_at": now}
            connection.execute(insert(table), [_record(column) | span for column in columns])
    return DriftReport(
        period=period,
        first_day=first.isoformat(),
        last_day=last.isoformat(),
        table=table.name,
        checks=checks,
        level=level,
        drifted=sum(bool(column.drifted) for column in columns),
        samples=tuple(samples),
        columns=tuple(columns),
    )


def raise_findings(engine: Engine, contract: Contract, report: DriftReport) -> tuple[Finding, ...]:
    """Raise a finding for each column that has drifted.

    Raises:
        Unreachable: the store does not answer.
    """
    return tuple(
        raise_finding(
            engine,
            contract,
            kind=Kind.DRIFT,
            subject=f"{column.feature} of {column.source}, version {column.model_version}, run {column.run_id[:8]}",
            evidence={name: value for name, value in vars(column).items() if isinstance(value, int | float)},
            day=date.fromisoformat(report.last_day),
        )
        for column in report.columns
        if column.drifted
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a sample, before they are read.

    Args:
        query: selects them; the columns of the prediction log, or those of the feature table that a model reads.
    """

    source: Source
    model: Model
    rows: int
    effective: float
    query: Select[Any]

    def sample(self, limits: Drift, reference: Reference | None) -> Sample:
        """Return the sample, with whether it can be judged."""
        verdict: Verdict = "judged"
        if self.effective < limits.smallest_sample:
            verdict = "too few rows"
        elif reference is None:
            verdict = "no reference"
        elif self.source == "features" and not {*reference.encoder.inputs} <= {*self.query.selected_columns.keys()}:
            verdict = "another contract"
        version, run_id = self.model
        return Sample(
            source=self.source,
            model_version=version,
            run_id=run_id,
            rows=self.rows,
            effective_rows=self.effective,
            verdict=verdict,
        )

    def count(
        self, connection: Connection, reference: Reference, chunk_rows: int, progress: Progress
    ) -> dict[str, Counts]:
        """Read the rows in chunks, and return their counts in the bins of the reference."""
        total: dict[str, Counts] = {}
        done = 0
        found = connection.execute(self.query, execution_options={"yield_per": chunk_rows})
        for chunk in found.partitions():
            if self.source == "predictions":
                # A feature that is not in the request is missing.
                nothing = dict.fromkeys(reference.encoder.inputs)
                counts = reference.count([nothing | row.features for row in chunk])
                counts |= reference.count_answers([row.prediction for row in chunk], [row.confidence for row in chunk])
            else:
                counts = reference.count(pd.DataFrame([tuple(row) for row in chunk], columns=list(found.keys())))
            total = {name: total[name].plus(each) if total else each for name, each in counts.items()}
            done += len(chunk)
            progress(f"{self.source} of version {self.model[0]}", done, max(done, self.rows))
        return total


def _logged(connection: Connection, contract: Contract, between: Between) -> Iterator[_Rows]:
    """Yield the predictions of a period by model."""
    log = build_tables(contract).predictions
    for (version, run_id), (rows, effective) in by_model(connection, contract, between).items():
        of_model = (log.c.model_version == version) & (log.c.run_id == run_id)
        yield _Rows(
            source="predictions",
            model=(version, run_id),
            rows=rows,
            effective=effective,
            query=select(log.c.features, log.c.prediction, log.c.confidence).where(made(contract, between), of_model),
        )


def _stored(
    connection: Connection, contract: Contract, first: date, last: date, champion: Model | None
) -> Iterator[_Rows]:
    """Yield the rows of the feature table of a period, if there are any, and a champion to compare them with."""
    features = build_tables(contract).features
    there = features.c[contract.event_date.name].between(first, last)
    groups = [features.c[column.name] for column in contract.identity]
    if champion is None:
        return
    for rows, effective in count(connection, features, groups, there).values():
        yield _Rows(
            source="features",
            model=champion,
            rows=rows,
            effective=effective,
            query=select(*(features.c[name] for name in names(contract.model_inputs))).where(there),
        )


def _record(column: ColumnDrift) -> dict[str, Any]:
    row = {**vars(column), "feature": column.feature[:FEATURE_LENGTH], "drifted": list(column.drifted)}
    return row | {"distance_limit": row.pop("limit")}


def comparisons(binned: Binned) -> int:
    """Return the number of comparisons of a column: distribution, missing values and unseen values."""
    return (len(binned.counts.bins) > 1) + 1 + (binned.categories is not None)


def _of_sample(sample: Sample, found: FeatureDrift) -> ColumnDrift:
    facts = {name: value for name, value in vars(sample).items() if name != "verdict"}
    return ColumnDrift(**vars(found), **facts)


def compared(
    name: str, binned: Binned, counts: Counts, effective_rows: float, *, level: float, limits: Drift
) -> FeatureDrift:
    """Return how the values of a feature, with these counts, differ from its reference.

    Args:
        name: what the reference calls the column.
        binned: bins and counts of the training data.
        counts: counts of its values in the bins.
        effective_rows: effective number of rows of these values.
        level: probability of a false alarm of each comparison, 0 to 1.
        limits: smallest changes that matter.
    """
    reference = binned.counts
    now, then = sum(counts.bins), sum(reference.bins)
    rows, reference_rows = counts.rows, then + reference.missing
    sizes = effective_rows / rows, binned.effective / reference_rows
    drifted = []

    def explained(part: int, whole: int, reference_part: int, reference_whole: int) -> bool:
        """Return whether the difference of two shares can be due to chance."""
        here, there = (sizes[0] * part, sizes[0] * whole), (sizes[1] * reference_part, sizes[1] * reference_whole)
        return formulas.share_chance(*here, *there) > level

    def moved(part: int, whole: int, reference_part: int, reference_whole: int) -> bool:
        """Return whether the difference of two shares is large enough to matter, and not due to chance."""
        change = abs(part / whole - reference_part / reference_whole)
        return change >= limits.min_share and not explained(part, whole, reference_part, reference_whole)

    psi = distance = limit = None
    if len(reference.bins) > 1 and now:
        effective = sizes[0] * now, sizes[1] * then
        least = formulas.least_share(level, *effective)
        cells = formulas.pooled(counts.bins, reference.bins, least)
        psi, distance = formulas.psi(counts.bins, reference.bins), formulas.js_distance(*cells)
        if len(cells[0]) > 2:
            limit = formulas.js_limit(formulas.careful(level), len(cells[0]), *effective)
            chance = distance <= limit
        else:
            chance = explained(int(cells[0][0]), now, int(cells[1][0]), then)
        if psi >= limits.min_psi and not chance:
            drifted.append("distribution")

    if moved(counts.missing, rows, reference.missing, reference_rows):
        drifted.append("missing")
    unseen = reference_unseen = None
    if binned.categories is not None:
        there = now + counts.unseen
        unseen, reference_unseen = counts.unseen / max(there, 1), reference.unseen / max(then, 1)
        if there and then and moved(counts.unseen, there, reference.unseen, then):
            drifted.append("unseen")
    return FeatureDrift(
        feature=name,
        psi=psi,
        distance=distance,
        limit=limit,
        missing=counts.missing / rows,
        reference_missing=reference.missing / reference_rows,
        unseen=unseen,
        reference_unseen=reference_unseen,
        drifted=tuple(drifted),
    )
