"""Drift of a day and of a week, in an embedded store."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, binomtest, chi2
from sqlalchemy import Engine, insert, select
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.rows import plain_rows
from support.serving import small_scorer
from support.stores import TABLES, rows_of

from ctcd.cli.monitor import show_drift
from ctcd.contract.spec import names
from ctcd.model.reference import Binned, Counts, FeatureDrift, Reference, make_reference
from ctcd.monitoring.drift import ColumnDrift, DriftReport, compared, comparisons, raise_findings, write_drift
from ctcd.monitoring.findings import close_finding, list_findings
from ctcd.monitoring.periods import Period
from ctcd.monitoring.samples import by_model
from ctcd.monitoring.since import drift_since
from ctcd.monitoring.tolerances import Drift, load_tolerances
from ctcd.promotion.evidence import DriftSince
from ctcd.registry.versions import RegisteredVersion
from ctcd.store.engine import transaction

ZONE = ZoneInfo("Asia/Seoul")
DAY = date(2025, 9, 3)  # a Wednesday
LIMITS = load_tolerances(INSTANCE).drift
GROUP = CONTRACT.group.name
Change = Callable[[pd.DataFrame], pd.DataFrame]


@cache
def population() -> pd.DataFrame:
    """Rows of one distribution, each of a machine of its own."""
    frame = snapshot_frame(CONTRACT, rows=12_000, seed=5, months=1)
    return frame.assign(**{GROUP: np.arange(1, len(frame) + 1)}).sample(frac=1, random_state=1, ignore_index=True)


@cache
def reference() -> Reference:
    frame = population().iloc[:6_000]
    holdout = frame.iloc[:1_500]
    return make_reference(small_scorer().encoder, [frame], holdout, small_scorer().predict(holdout), group=GROUP)


def later(rows: int = 2_000) -> pd.DataFrame:
    return population().iloc[6_000 : 6_000 + rows].reset_index(drop=True)


def log(store: Engine, frame: pd.DataFrame, when: datetime, *, version: str = "7", run_id: str = "run") -> None:
    """Log the small model's answers to some rows."""
    answers = small_scorer().predict(frame)
    rows = [
        {
            GROUP: int(group),
            "features": features,
            "prediction": prediction,
            "confidence": confidence,
            "elapsed_ms": 1.0,
            "created_at": when,
            "request_id": f"{when:%d%H%M%S%f}-{version}-{number}",
            "model_version": version,
            "run_id": run_id,
        }
        for number, (group, features, prediction, confidence) in enumerate(
            zip(frame[GROUP], plain_rows(frame, CONTRACT), answers.classes, answers.confidences, strict=True)
        )
    ]
    with transaction(store) as connection:
        connection.execute(insert(TABLES.predictions), rows)


def noon(day: date = DAY) -> datetime:
    return datetime.combine(day, time(12), ZONE)


def drift(store: Engine, base_dt: date = DAY + timedelta(days=1), **changes: Any) -> DriftReport:
    given: dict[str, Any] = {
        "period": Period.DAILY,
        "zone": ZONE,
        "limits": LIMITS,
        "champion": None,
        "find_reference": {"run": reference()}.get,
        "chunk_rows": 700,
    }
    return write_drift(store, CONTRACT, base_dt, **given | changes)


def drifted(report: DriftReport) -> dict[str, tuple[str, ...]]:
    return {column.feature: column.drifted for column in report.columns if column.drifted}


@pytest.mark.slow
def test_a_quiet_day_raises_no_alarm_and_is_written_once(store: Engine) -> None:
    """Rows of the reference's distribution are within all limits; a second run leaves the same rows."""
    log(store, later(), noon())
    first = drift(store)
    assert drifted(first) == {}
    [sample] = first.samples
    assert (sample.rows, sample.effective_rows, sample.verdict) == (2_000, 2_000, "judged")
    written = rows_of(store, TABLES.drift)
    assert len(written) == len(first.columns) == len(reference().columns) + 2
    assert {row["feature"] for row in written} == {*reference().columns, *reference().answers}
    assert drift(store) == first
    assert [row | {"computed_at": None} for row in rows_of(store, TABLES.drift)] == [
        row | {"computed_at": None} for row in written
    ]


PLANTED: dict[str, tuple[Change, str, str]] = {
    "shift": (lambda f: f.assign(vibration=f["vibration"] + 2), "vibration", "distribution"),
    "unit": (lambda f: f.assign(power=f["power"] * 1_000), "power", "distribution"),
    "missing": (lambda f: f.assign(humidity=f["humidity"].where(f.index % 10 > 0)), "humidity", "missing"),
    "new category": (lambda f: f.assign(maker=f["maker"].where(f.index % 10 > 0, "Foxtrot")), "maker", "unseen"),
    "entry of a list": (lambda f: f.assign(parts="bearing"), "parts: bearing", "distribution"),
    "answers": (lambda f: f[f["vibration"] > 10], "(prediction)", "distribution"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_drift_is_found(store: Engine, name: str) -> None:
    """In its column, and as what it is."""
    change, feature, what = PLANTED[name]
    log(store, change(later()), noon())
    assert what in drifted(drift(store))[feature]


@pytest.mark.slow
def test_a_small_change_of_many_rows_is_no_alarm(store: Engine) -> None:
    """Chance explains no difference in enough rows, but one below the smallest that matters is none."""
    log(store, later(5_000).assign(vibration=lambda f: f["vibration"] * 1.08), noon())
    loose = LIMITS.model_copy(update={"min_psi": 0.2})
    strict = LIMITS.model_copy(update={"min_psi": 1e-6})
    assert "vibration" in drifted(drift(store, limits=strict))
    assert "vibration" not in drifted(drift(store, limits=loose))


def judged(reference_values: np.ndarray, values: np.ndarray, *, level: float = 1e-4) -> FeatureDrift:
    """Return what is said about the values of independent rows."""
    binned = Binned.of(reference_values, np.arange(len(reference_values)))
    return compared("x", binned, binned.count(values), len(values), level=level, limits=LIMITS)


RARE = np.arange(20_000) % 50 == 0
TAKEN_OVER: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "a flag": (RARE.astype(float), np.ones(300)),
    "a constant number": (np.zeros(20_000), np.full(300, 50.0)),
    "a category": (np.where(RARE, "B", "A").astype(object), np.array(["B"] * 300, dtype=object)),
    "a number that is mostly 0": (np.where(RARE, np.arange(20_000), 0).astype(float), np.full(300, 1_000.0)),
}


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_a_rare_value_that_takes_over_is_found(name: str) -> None:
    """Even if nearly all rows of the training had the same value."""
    assert judged(*TAKEN_OVER[name]).drifted == ("distribution",)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.008, 0.017, 0.03, 0.05])
@pytest.mark.parametrize("rows", [300, 500])
def test_small_shares_alarm_as_rarely_as_the_level_says(share: float, rows: int) -> None:
    """Of missing values and of a flag: the days whose count alarms are together no more probable than the level, exactly."""
    size, level = 20_000, 2e-4
    marked = np.arange(size) < share * size
    for what, usual, rare in (("missing", 1.0, np.nan), ("distribution", 0.0, 1.0)):
        alarms = [
            count
            for count in range(61)
            if what in judged(
                np.where(marked, rare, usual), np.where(np.arange(rows) < count, rare, usual), level=level
            ).drifted
        ]  # fmt: skip
        assert 60 in alarms
        assert binom.pmf(alarms, rows, share).sum() <= level


@pytest.mark.slow
def test_small_bins_alarm_as_rarely_as_the_level_says() -> None:
    """Of three bins, two of which hold only 2.5 % of the reference, on days of 300 rows, as if all sizes mattered."""
    random, rows, level = np.random.default_rng(4), 300, 1e-3
    values = np.repeat([0.0, 1.0, 2.0], [500, 19_000, 500])
    binned = Binned.of(values, np.arange(len(values)))
    days, seen = np.unique(random.multinomial(rows, [0.025, 0.95, 0.025], 40_000), axis=0, return_counts=True)
    alarms = sum(
        int(times)
        for bins, times in zip(days.tolist(), seen, strict=True)
        if compared(
            "x", binned, Counts(bins=tuple(bins), missing=0, unseen=0), rows, level=level, limits=LIMITS
        ).drifted
    )
    assert binomtest(alarms, 40_000, level, alternative="greater").pvalue > 1e-4


def categories(bins: tuple[int, ...], *, missing: int = 0, unseen: int = 0, effective: float | None = None) -> Binned:
    """Return a reference with these counts of categories, by default of independent rows."""
    rows = sum(bins) + missing
    known = {f"category {place}": place for place in range(len(bins))}
    counts = Counts(bins=bins, missing=missing, unseen=unseen)
    return Binned(edges=(), categories=known, counts=counts, effective=effective or rows)


def test_a_column_is_compared_in_as_many_ways_as_it_can_differ() -> None:
    """Missing values of all columns, unseen values of categories, and the distribution if there is more than one bin."""
    number = Binned.of(np.arange(100.0), np.arange(100))
    flag = Binned.of(np.arange(100) % 2.0, np.arange(100))
    nothing = Binned.of(np.full(100, np.nan), np.arange(100))
    assert [comparisons(each) for each in (nothing, flag, number)] == [1, 2, 2]
    assert [comparisons(categories(bins)) for bins in ((9,), (9, 9), (9, 9, 9))] == [2, 3, 3]


def test_the_numbers_of_a_comparison_are_those_of_their_formulas() -> None:
    """Of a distribution in three bins, of missing and of unseen values, by hand; rows that come in groups widen the limit."""
    reference = categories((500, 300, 200), missing=1_000, unseen=20, effective=500)
    counts = Counts(bins=(100, 100, 160), missing=200, unseen=40)
    found = compared("x", reference, counts, 300.0, level=1e-3, limits=LIMITS)
    p, q = np.array([100.5, 100.5, 160.5]) / 361.5, np.array([500.5, 300.5, 200.5]) / 1_001.5
    assert found.psi == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert found.distance == pytest.approx(jensenshannon([100, 100, 160], [500, 300, 200]))
    # Of the rows one half is effective, of the reference a quarter: the values stand for 180 against 250.
    limit = math.sqrt(chi2.isf(1e-3 / 6, 2) * (1 / 180 + 1 / 250) / 8)
    assert found.limit == pytest.approx(limit)
    assert (found.missing, found.reference_missing) == (200 / 600, 0.5)
    assert (found.unseen, found.reference_unseen) == (0.1, 0.02)
    assert (found.feature, found.drifted) == ("x", ("distribution", "missing", "unseen"))
    alike = compared(
        "x", reference, Counts(bins=(150, 120, 90), missing=367, unseen=7), 367.0, level=1e-3, limits=LIMITS
    )
    assert alike.limit == pytest.approx(limit, rel=0.01)
    assert alike.psi is not None
    assert alike.psi > LIMITS.min_psi
    assert alike.drifted == ()


def test_a_change_of_the_smallest_size_that_matters_is_a_drift() -> None:
    """Of a share and of the PSI; a smaller one is none, however many rows there are."""
    reference = categories((60_000, 20_000, 20_000), missing=100_000, unseen=0)
    counts = Counts(bins=(20_000, 15_000, 15_000), missing=150_000, unseen=0)
    psi = compared("x", reference, counts, 200_000, level=1e-3, limits=LIMITS).psi
    assert psi is not None
    for min_psi, min_share, drifted in (
        (psi, 0.25, ("distribution", "missing")),
        (psi * 1.001, 0.25, ("missing",)),
        (psi, 0.251, ("distribution",)),
    ):
        limits = LIMITS.model_copy(update={"min_psi": min_psi, "min_share": min_share})
        assert compared("x", reference, counts, 200_000, level=1e-3, limits=limits).drifted == drifted


def test_as_few_effective_rows_are_as_little_evidence() -> None:
    """A difference that many independent rows prove is none if the rows are of few groups, on either side."""
    counts = Counts(bins=(400, 550), missing=50, unseen=0)
    for bins, missing in (((550, 400), 50), ((420, 580), 0)):  # another distribution, and fewer missing values
        expected = "missing" if missing == 0 else "distribution"
        for reference_rows, rows, drifted in ((1_000, 1_000, True), (20, 1_000, False), (1_000, 20, False)):
            reference = categories(bins, missing=missing, effective=reference_rows)
            found = compared("x", reference, counts, rows, level=1e-3, limits=LIMITS)
            assert (expected in found.drifted) == drifted, (expected, reference_rows, rows)
            assert found.limit is None


def test_what_has_no_values_or_no_bins_has_no_distance() -> None:
    """If all values are missing, in the rows or in the reference, or are unseen; shares are compared as far as they exist."""
    many = categories((50, 50), missing=100)
    nothing = categories((), missing=200)
    for reference, counts, shares, drifted in (
        (many, Counts(bins=(0, 0), missing=300, unseen=0), (1.0, 0.5, 0.0, 0.0), ("missing",)),
        (many, Counts(bins=(0, 0), missing=299, unseen=1), (299 / 300, 0.5, 1.0, 0.0), ("missing",)),
        (many, Counts(bins=(0, 0), missing=150, unseen=150), (0.5, 0.5, 1.0, 0.0), ("unseen",)),
        (nothing, Counts(bins=(), missing=0, unseen=300), (0.0, 1.0, 1.0, 0.0), ("missing",)),
        (categories((200,)), Counts(bins=(300,), missing=0, unseen=0), (0.0, 0.0, 0.0, 0.0), ()),
        (categories((1,), missing=199, unseen=1), Counts(bins=(0,), missing=300, unseen=0), (1.0, 0.995, 0.0, 1.0), ()),
    ):
        found = compared("x", reference, counts, 300, level=1e-3, limits=LIMITS)
        assert (found.psi, found.distance, found.limit) == (None, None, None)
        assert (found.missing, found.reference_missing, found.unseen, found.reference_unseen) == shares
        assert found.drifted == drifted
    number = compared(
        "x", Binned.of(np.arange(200.0), np.arange(200)), Counts(bins=(30,) * 10, missing=0, unseen=0), 300,
        level=1e-3, limits=LIMITS,
    )  # fmt: skip
    assert (number.unseen, number.reference_unseen, number.drifted) == (None, None, ())


@pytest.mark.slow
def test_rows_of_few_groups_are_not_judged(store: Engine) -> None:
    """A machine that sends the same row a thousand times says as much as once; a model without a reference says nothing."""
    log(store, later(1_000).assign(**{GROUP: 1, "vibration": 99.0}), noon())
    log(store, later(400), noon(), version="6", run_id="forgotten")
    log(store, later(10), noon(), version="5", run_id="")
    report = drift(store)
    assert [(each.model_version, each.verdict) for each in report.samples] == [
        ("5", "too few rows"),
        ("6", "no reference"),
        ("7", "too few rows"),
    ]
    assert (report.columns, rows_of(store, TABLES.drift)) == ((), [])


@pytest.mark.slow
def test_each_model_is_compared_with_its_own_reference(store: Engine) -> None:
    """The number of comparisons of a period counts those of all its models, and each alarm is one of its model."""
    moved = later().assign(vibration=lambda f: f["vibration"] + 2)
    own = make_reference(small_scorer().encoder, [moved], moved, small_scorer().predict(moved), group=GROUP)
    log(store, moved, noon(), version="7", run_id="run")
    one = drift(store)
    log(store, moved, noon(), version="8", run_id="own")
    both = drift(store, find_reference={"run": reference(), "own": own}.get, champion=("7", "run"))
    assert both.checks > 1.9 * one.checks
    assert both.level == pytest.approx(one.level * one.checks / both.checks)
    found = {(column.model_version, column.feature) for column in both.columns if column.drifted}
    assert ("7", "vibration") in found
    assert {version for version, _ in found} == {"7"}


@pytest.mark.slow
def test_the_rows_that_are_read_are_reported_in_chunks(store: Engine) -> None:
    """With what they are, how many are done and how many there are to do."""
    log(store, later(400), noon())
    reported: list[tuple[object, ...]] = []
    drift(store, chunk_rows=150, progress=lambda *given, **_: reported.append(given))
    assert reported == [("predictions of version 7", done, 400) for done in (150, 300, 400)]


@pytest.mark.slow
def test_what_is_written_names_its_period_and_its_limit(store: Engine) -> None:
    """A row of the store has the numbers of the report's column, and the days of the period."""
    log(store, later(400).assign(humidity=np.nan), noon())
    report = drift(store)
    assert (report.period, report.first_day, report.last_day) == (Period.DAILY, "2025-09-03", "2025-09-03")
    written = {row["feature"]: row for row in rows_of(store, TABLES.drift)}
    assert written.keys() == {column.feature for column in report.columns}
    for column in report.columns:
        row = written[column.feature]
        assert (row["period"], row["first_day"], row["last_day"]) == ("daily", DAY, DAY)
        assert row["computed_at"] is not None
        assert row["drifted"] == list(column.drifted)
        for name, value in vars(column).items():
            if name not in ("feature", "drifted", "limit"):
                assert row[name] == value, name
        assert row["distance_limit"] == column.limit
    assert written["humidity"]["drifted"] == ["missing"]
    assert (written["humidity"]["missing"], written["humidity"]["psi"]) == (1.0, None)


@pytest.mark.slow
def test_a_column_that_is_ignored_is_not_monitored(store: Engine) -> None:
    """Nor are the entries of an ignored list, and the others have its share of the false alarms."""
    log(store, later().assign(vibration=99.0, parts="bearing"), noon())
    report = drift(store, limits=LIMITS.model_copy(update={"ignored": {"vibration": "x" * 10, "parts": "x" * 10}}))
    monitored = {column.feature for column in report.columns}
    assert "vibration" not in monitored
    assert not any(name.startswith("parts") for name in monitored)
    assert "power" in monitored
    assert report.level > drift(store).level


@pytest.mark.slow
def test_rows_of_the_store_are_compared_with_the_champions_reference(store: Engine) -> None:
    """Those whose event date is in the period, whether anybody asked for a prediction or not."""
    key, event = CONTRACT.key.name, CONTRACT.event_date.name
    frame = later().assign(vibration=lambda f: f["vibration"] + 2)
    columns = names(CONTRACT.model_inputs)
    with transaction(store) as connection:
        for number, day in enumerate((DAY - timedelta(days=1), DAY, DAY + timedelta(days=1))):
            rows = [
                {**row, key: place + number * 10_000 + 1, GROUP: place + 1, event: day}
                for place, row in enumerate(plain_rows(frame if day == DAY else later(), CONTRACT))
            ]
            assert set(columns) < rows[0].keys()
            connection.execute(insert(TABLES.features), rows)
    assert drift(store).samples == ()
    report = drift(store, champion=("7", "run"))
    [sample] = report.samples
    assert (sample.source, sample.rows, sample.model_version) == ("features", 2_000, "7")
    assert drifted(report) == {"vibration": ("distribution",)}
    assert not {"(prediction)", "(confidence)"} & {column.feature for column in report.columns}


@pytest.mark.slow
def test_a_column_that_the_contract_has_dropped_is_no_error(store: Engine) -> None:
    """Until a model of the new contract is champion, rows of the feature table are not compared; those of the log are."""
    key, event = CONTRACT.key.name, CONTRACT.event_date.name
    rows = [
        {**row, key: place, GROUP: place, event: DAY} for place, row in enumerate(plain_rows(later(600), CONTRACT), 1)
    ]
    with transaction(store) as connection:
        connection.execute(insert(TABLES.features), rows)
    log(store, later(600), noon())
    encoder = reference().encoder
    center, scale = (*encoder.center, 0.0), (*encoder.scale, 1.0)
    inputs, numeric = (*encoder.inputs, "gone"), (*encoder.numeric, "gone")
    older = replace(reference(), encoder=replace(encoder, inputs=inputs, numeric=numeric, center=center, scale=scale))
    found = {"run": older}.get
    # The column "gone" has no bins, so it is not looked up.
    report = drift(store, champion=("7", "run"), find_reference=found)
    assert {sample.source: sample.verdict for sample in report.samples} == {
        "predictions": "judged",
        "features": "another contract",
    }
    assert {column.source for column in report.columns} == {"predictions"}


def test_rows_that_arrive_meanwhile_are_counted_once(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between counting the rows of a period and reading them, more may be logged: shares are those of what was read."""

    def counted(*given: Any) -> Any:
        # SQLite shows a reader one state of the store; MariaDB, read committed, shows each query its own.
        return dict.fromkeys(by_model(*given), (300, 150.0))

    log(store, later(1_200).assign(humidity=np.nan), noon())
    monkeypatch.setattr("ctcd.monitoring.drift.by_model", counted)
    few = LIMITS.model_copy(update={"smallest_sample": 150})
    report = drift(store, limits=few)
    assert [(sample.rows, sample.effective_rows) for sample in report.samples] == [(1_200, 600)]
    [humidity] = [column for column in report.columns if column.feature == "humidity"]
    assert (humidity.rows, humidity.missing) == (1_200, 1.0)


def test_a_period_ends_at_midnight_of_the_zone(store: Engine) -> None:
    """A row exactly at midnight belongs to the day and the week that begin; other periods keep their rows."""
    moment = timedelta(microseconds=1)
    midnight = datetime.combine(DAY, time(), ZONE)
    monday = datetime.combine(DAY - timedelta(days=2), time(), ZONE)
    few = LIMITS.model_copy(update={"smallest_sample": 1})
    for number, when in enumerate((monday - moment, monday, midnight - moment, midnight, midnight + timedelta(days=1))):
        log(store, later(2**number), when)
    days = {day: drift(store, DAY + timedelta(days=day + 1), limits=few).samples for day in range(-3, 2)}
    assert {day: sum(sample.rows for sample in found) for day, found in days.items()} == {
        -3: 1,
        -2: 2,
        -1: 4,
        0: 8,
        1: 16,
    }
    week = drift(store, DAY + timedelta(days=7), period=Period.WEEKLY, limits=few)
    assert (week.first_day, week.last_day, week.samples[0].rows) == ("2025-09-01", "2025-09-07", 2 + 4 + 8 + 16)
    with store.connect() as connection:
        periods = connection.execute(select(TABLES.drift.c.period, TABLES.drift.c.first_day).distinct()).all()
    assert len(periods) == 6


@pytest.mark.slow
def test_a_column_that_has_drifted_is_found_once(store: Engine) -> None:
    """A finding for each column beyond a limit, with its numbers; a second run and the next day see the same one."""
    run_id = "0123456789abcdef"
    for day in (DAY, DAY + timedelta(days=1)):
        log(store, later().assign(vibration=99.0), noon(day), run_id=run_id)
    for base_dt in (DAY + timedelta(days=1), DAY + timedelta(days=1), DAY + timedelta(days=2)):
        report = drift(store, base_dt, find_reference={run_id: reference()}.get)
        raise_findings(store, CONTRACT, report)
    found = {finding.subject: finding for finding in list_findings(store, CONTRACT)}
    assert len(found) == len(drifted(report))
    finding = found["vibration of predictions, version 7, run 01234567"]
    assert (finding.kind, finding.day, finding.last_seen) == ("drift", "2025-09-03", "2025-09-04")
    assert finding.evidence["psi"] > LIMITS.min_psi
    assert finding.evidence["rows"] == 2_000


def test_a_finding_of_a_week_is_of_its_last_day(store: Engine) -> None:
    """Each column that has drifted is one, also behind one that has not; a finding closed during the week comes again."""
    steady = ColumnDrift(
        feature="wear", psi=0.3, distance=0.2, limit=0.1, missing=0.0, reference_missing=0.0, unseen=None,
        reference_unseen=None, drifted=(), source="predictions", model_version="7", run_id="run", rows=500,
        effective_rows=400.0,
    )  # fmt: skip
    columns = (steady, replace(steady, feature="power", drifted=("missing",)), replace(steady, drifted=("missing",)))
    week = DriftReport(
        period=Period.WEEKLY, first_day="2025-09-01", last_day="2025-09-07", table="", checks=3, level=0.1, drifted=2,
        samples=(), columns=columns,
    )  # fmt: skip
    found = raise_findings(store, CONTRACT, week)
    assert [(each.subject.partition(" ")[0], each.day) for each in found] == [
        ("power", "2025-09-07"),
        ("wear", "2025-09-07"),
    ]
    close_finding(store, CONTRACT, found[0].id, reason="known", by="ann", day=date(2025, 9, 5))
    assert [each.new for each in raise_findings(store, CONTRACT, week)] == [True, False]


@pytest.mark.slow
def test_a_person_sees_what_has_drifted_and_what_was_not_judged(
    store: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has the columns, those that have drifted first, and each sample has a line."""
    log(store, later().assign(vibration=99.0), noon())
    log(store, later(10), noon(), version="5")
    report = drift(store)
    show_drift(report)
    shown = capsys.readouterr().out
    assert "Drift, 2025-09-03" in shown
    assert "vibration" in shown
    assert "10 predictions of version 5, 10 effective: too few rows" in shown
    assert f"{report.drifted} of {len(report.columns)} columns have drifted; kept in {TABLES.drift.name}" in shown
    [few] = [sample for sample in report.samples if sample.model_version == "5"]
    show_drift(replace(report, samples=(replace(few, source="features"),)))
    assert (
        "10 rows of the feature table, compared with version 5, 10 effective: too few rows" in capsys.readouterr().out
    )
    show_drift(replace(report, samples=(), columns=()))
    assert "2025-09-03: no predictions and no rows of the feature table to compare" in capsys.readouterr().out


@pytest.mark.slow
def test_drift_needs_both_chance_and_size_to_be_exceeded(store: Engine) -> None:
    """Each alarm of a distribution is above the limit and the smallest PSI, and nothing else is."""
    log(store, later().assign(vibration=lambda f: f["vibration"] + 1, stops=lambda f: f["stops"] + 1), noon())
    report = drift(store)

    def beyond(column: ColumnDrift, limits: Drift) -> bool:
        values = (column.distance, column.limit, column.psi)
        return None not in values and column.distance > column.limit and column.psi >= limits.min_psi  # type: ignore[operator] # none is None

    assert {column.feature for column in report.columns if "distribution" in column.drifted} == {
        column.feature for column in report.columns if beyond(column, LIMITS)
    }
    assert report.drifted == len(drifted(report)) > 0
    order = [(bool(column.drifted), column.psi or 0.0) for column in report.columns]
    assert order == sorted(order, reverse=True)


CHAMPION = RegisteredVersion(
    model_name=CONTRACT.name, version="6", run_id="run", aliases=(), created_at="", tags={}, uri=""
)


def since(rows: pd.DataFrame, **changes: Any) -> DriftSince:
    given: dict[str, Any] = {"find_reference": {"run": reference()}.get, "contract": CONTRACT, "limits": LIMITS}
    return drift_since(CHAMPION, rows, **given | changes)


@pytest.mark.slow
def test_drift_since_the_last_training_is_that_of_the_monitor(store: Engine) -> None:
    """Of the same rows, each feature has the numbers that the monitor of the feature table finds, and the same verdict."""
    rows = later()
    rows["hours"] = rows["hours"] * 3
    with transaction(store) as connection:
        for number, row in enumerate(plain_rows(rows, CONTRACT)):
            key = {CONTRACT.key.name: number, GROUP: int(rows[GROUP][number]), CONTRACT.event_date.name: DAY}
            connection.execute(insert(TABLES.features), key | row)
    found = since(rows)
    report = drift(store, champion=("6", "run"))
    assert (found.version, found.rows, found.effective_rows, found.level) == ("6", 2_000, 2_000, report.level)
    kept = [each.name for each in fields(FeatureDrift)]
    assert {each.feature: each for each in found.features} == {
        each.feature: FeatureDrift(**{name: getattr(each, name) for name in kept}) for each in report.columns
    }
    assert [each.feature for each in found.features if each.drifted] == ["hours"]
    assert found.features[0].feature == "hours"
    ignoring = LIMITS.model_copy(update={"ignored": {"hours": "a reason for it"}})
    assert "hours" not in [each.feature for each in since(rows, limits=ignoring).features]


def test_drift_since_the_last_training_says_why_it_is_not_known() -> None:
    """Without a reference, without a column of the champion, of values of another kind, and of too few groups."""
    rows = later()
    for reference_of, given, why in (
        (None, rows, "the training of version 6 left no reference"),
        (reference(), rows.drop(columns="hours"), "version 6 reads hours, which the rows do not have"),
        (reference(), rows.assign(hours="many"), "hours"),
        (reference(), rows.assign(**{GROUP: 1}), "1 effective rows are fewer than"),
    ):
        found = since(given, find_reference=lambda _, found=reference_of: found)
        assert (found.features, why in found.unknown) == ((), True), found.unknown
