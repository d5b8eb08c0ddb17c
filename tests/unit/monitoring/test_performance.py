"""Performance measured with late labels, and estimated without, in an embedded store."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from sqlalchemy import Engine, insert, null
from support.instance import CONTRACT, INSTANCE
from support.small_contracts import BARE, write_instance
from support.stores import TABLES, rows_of

from ctcd.contract.instance import load_instance
from ctcd.monitoring import performance
from ctcd.monitoring.formulas import macro_f1_interval
from ctcd.monitoring.performance import Performance, write_performance
from ctcd.monitoring.periods import Period
from ctcd.monitoring.samples import by_model
from ctcd.promotion.policy import Slices, load_policy
from ctcd.store.engine import connect, transaction
from ctcd.store.prediction_log import LoggedPrediction, append
from ctcd.store.tables import build_tables

ZONE = ZoneInfo("Asia/Seoul")
DAY = date(2025, 9, 3)
CLASSES = CONTRACT.classes
KEY, GROUP, EVENT, LABEL = (each.name for each in (CONTRACT.key, CONTRACT.group, CONTRACT.event_date, CONTRACT.label))
SLICES = load_policy(INSTANCE).slices
assert isinstance(SLICES, Slices)
BY_GRADE = SLICES.model_copy(update={"by": {"grade": "each value", "power": [20.0]}, "min_rows": 30})


def log(store: Engine, rows: list[dict[str, Any]], *, day: date = DAY) -> None:
    """Log predictions of version 7 at noon of a day; what is not given is the same in all of them."""
    with transaction(store) as connection:
        connection.execute(
            insert(TABLES.predictions),
            [
                {
                    GROUP: number + 1,
                    "features": {"grade": "Fair", "power": 10.0},
                    "prediction": CLASSES[0],
                    "confidence": 0.5,
                    "probabilities": None,
                    "elapsed_ms": 1.0,
                    "created_at": datetime.combine(day, time(12), ZONE),
                    "request_id": f"{day}-{number}",
                    "model_version": "7",
                    "run_id": "run",
                }
                | row
                for number, row in enumerate(rows)
            ],
        )


def label(store: Engine, labels: list[str], *, days: int = 1, first_group: int = 1) -> None:
    """Let the labels of the first groups become known, so many days after `DAY`."""
    with transaction(store) as connection:
        connection.execute(
            insert(TABLES.labels),
            [
                {KEY: days * 100_000 + number, GROUP: number, EVENT: DAY + timedelta(days=days), LABEL: each}
                for number, each in enumerate(labels, first_group)
            ],
        )


def performed(store: Engine, slices: Slices | None = None, period: Period = Period.DAILY) -> Performance:
    """Return the row of the day, or week, in the report."""
    base_dt = DAY + timedelta(days=1 if period is Period.DAILY else 7)
    report = write_performance(store, CONTRACT, base_dt, period=period, zone=ZONE, slices=slices, chunk_rows=70)
    [row] = report.rows
    return row


def drawn(rows: int, *, seed: int = 1) -> tuple[list[dict[str, Any]], list[str]]:
    """Return predictions with probabilities, and labels drawn with these probabilities: a model that is calibrated."""
    random = np.random.default_rng(seed)
    table = random.dirichlet([0.7] * len(CLASSES), rows)
    labels = [CLASSES[random.choice(len(CLASSES), p=each)] for each in table]
    logged = [
        {"prediction": CLASSES[each.argmax()], "probabilities": dict(zip(CLASSES, each.tolist(), strict=True))}
        for each in table
    ]
    return logged, labels


def test_scores_have_the_intervals_of_their_rows(store: Engine) -> None:
    """Accuracy, macro F1 and recall are those of the labelled rows, with Wilson's interval, and the rest is said to be missing."""
    logged, labels = drawn(500)
    log(store, logged)
    label(store, labels[:400])
    row = performed(store)
    predicted = [each["prediction"] for each in logged[:400]]
    hits = sum(one == two for one, two in zip(predicted, labels, strict=False))
    assert (row.predictions, row.labelled, row.completeness) == (500, 400, 0.8)
    assert row.accuracy == hits / 400
    wilson = binomtest(hits, 400).proportion_ci(0.95, method="wilson")
    assert (row.accuracy_low, row.accuracy_high) == pytest.approx((wilson.low, wilson.high))
    assert row.macro_f1 == pytest.approx(f1_score(labels[:400], predicted, average="macro"))
    assert row.macro_f1_low is not None
    assert row.macro_f1_high is not None
    assert row.macro_f1 is not None
    assert row.macro_f1_low < row.macro_f1 < row.macro_f1_high
    for name, recall in row.recall.items():
        of_class = [one == two for one, two in zip(predicted, labels, strict=False) if two == name]
        known = binomtest(sum(of_class), len(of_class)).proportion_ci(0.95, method="wilson")
        assert recall == sum(of_class) / len(of_class)
        assert row.recall_interval[name] == pytest.approx((known.low, known.high))
    [written] = rows_of(store, TABLES.performance)
    assert {
        name: written[name] for name in ("completeness", "accuracy_low", "estimated_accuracy", "macro_f1_error")
    } == {name: getattr(row, name) for name in ("completeness", "accuracy_low", "estimated_accuracy", "macro_f1_error")}


def test_rows_of_one_group_make_no_interval_narrower(store: Engine) -> None:
    """A machine that asks ten times counts once: its answers and its label are the same each time."""
    answers = [{GROUP: number % 50 + 1, "prediction": CLASSES[number % 50 % 2]} for number in range(500)]
    log(store, answers)
    label(store, [CLASSES[0]] * 50)
    row = performed(store, BY_GRADE)
    once = binomtest(25, 50).proportion_ci(0.95, method="wilson")
    assert (row.labelled, row.accuracy) == (500, 0.5)
    assert (row.accuracy_low, row.accuracy_high) == pytest.approx((once.low, once.high))
    recall = binomtest(25, 50).proportion_ci(0.95, method="wilson")
    assert row.recall_interval[CLASSES[0]] == pytest.approx((recall.low, recall.high))
    fair = row.slices["grade"]["Fair"]
    assert (fair.low, fair.high) == pytest.approx((once.low, once.high))
    f1 = macro_f1_interval(np.array(row.confusion), 50, 0.95)
    assert (row.macro_f1_low, row.macro_f1_high) == (fair.macro_f1_low, fair.macro_f1_high) == pytest.approx(f1)


@pytest.mark.slow
def test_a_calibrated_model_is_estimated_before_its_labels(store: Engine) -> None:
    """The estimate is there without labels; its error appears with them, and is what chance makes of it."""
    logged, labels = drawn(4_000)
    log(store, logged)
    before = performed(store)
    assert (before.labelled, before.accuracy, before.accuracy_error, before.macro_f1_error) == (0, None, None, None)
    confidence = np.mean([each["probabilities"][each["prediction"]] for each in logged])
    assert before.estimated_accuracy == pytest.approx(confidence)
    label(store, labels)
    after = performed(store)
    assert (after.estimated_accuracy, after.estimated_macro_f1) == (
        before.estimated_accuracy,
        before.estimated_macro_f1,
    )
    assert after.accuracy is not None
    assert after.estimated_accuracy is not None
    assert after.accuracy_error == pytest.approx(after.estimated_accuracy - after.accuracy)
    assert after.estimated_macro_f1 is not None
    assert after.macro_f1 is not None
    assert after.macro_f1_error == pytest.approx(after.estimated_macro_f1 - after.macro_f1)
    for error in (after.accuracy_error, after.macro_f1_error):
        assert error is not None
        assert abs(error) < 0.03
    [written] = rows_of(store, TABLES.performance)
    assert written["accuracy_error"] == after.accuracy_error


def test_the_error_of_an_estimate_is_that_of_the_same_rows(store: Engine) -> None:
    """What is labelled first may be what is easy: the estimate for it is compared, not that for all."""
    sure = {"prediction": CLASSES[0], "probabilities": dict(zip(CLASSES, (1.0, 0.0, 0.0), strict=True))}
    unsure = {"prediction": CLASSES[0], "probabilities": dict(zip(CLASSES, (0.5, 0.5, 0.0), strict=True))}
    old = {"prediction": CLASSES[1], "probabilities": None}
    other = {"prediction": CLASSES[0], "probabilities": {"a class of that time": 1.0}}
    log(store, [sure] * 10 + [unsure] * 10 + [old] * 5 + [other] * 5)
    label(store, [CLASSES[0]] * 10)
    label(store, [CLASSES[0]] * 5, first_group=21)
    row = performed(store)
    assert (row.estimated_accuracy, row.accuracy_error) == (0.75, 0.0)
    # Of 20 that are predicted to be of the first class, 15 are expected to be: F1 of 2 * 15 / (15 + 20), 0 of the others.
    assert row.estimated_macro_f1 == pytest.approx(30 / 35 / 3)
    assert row.macro_f1_error == 0.0
    assert (row.labelled, row.accuracy) == (15, 10 / 15)


def test_each_slice_is_scored(store: Engine) -> None:
    """Those of the promotion policy, by value and by band, if they have enough labelled rows; missing values are one."""
    rows: list[dict[str, Any]] = [
        *[
            {"features": {"grade": "Low", "power": 19.9}, "prediction": CLASSES[number % 4 == 0]}
            for number in range(40)
        ],
        *[{"features": {"grade": None, "power": 20.0}} for _ in range(60)],
        *[{"features": {"grade": "High", "power": 20.0}} for _ in range(20)],
    ]
    log(store, rows)
    label(store, [CLASSES[0]] * 120)
    found = performed(store, BY_GRADE).slices
    low = binomtest(30, 40).proportion_ci(0.95, method="wilson")
    assert {
        column: {name: (each.labelled, each.accuracy) for name, each in of.items()} for column, of in found.items()
    } == {
        "grade": {"Low": (40, 0.75), "missing": (60, 1.0)},
        "power": {"below 20": (40, 0.75), "20 and above": (80, 1.0)},
    }
    assert (found["grade"]["Low"].low, found["grade"]["Low"].high) == pytest.approx((low.low, low.high))
    [written] = rows_of(store, TABLES.performance)
    assert written["slices"]["power"]["20 and above"]["labelled"] == 80
    assert performed(store).slices == {}


@pytest.mark.parametrize(("days", "labelled"), [(-1, 0), (0, 10), (31, 10), (32, 0)])
def test_a_label_belongs_to_the_month_after_its_prediction(store: Engine, days: int, labelled: int) -> None:
    """One of the day itself or of the 31 days after it is that of the prediction; an older or later one is not.

    As many labels are kept with the row, to see from it how many there are more.
    """
    log(store, [{}] * 10)
    label(store, [CLASSES[0]] * 10, days=days)
    assert performed(store).labelled == labelled
    [written] = rows_of(store, TABLES.performance)
    assert (written["counts"]["logged"], written["counts"]["labels"]) == (10, labelled)


def test_the_first_label_of_a_machine_counts(store: Engine) -> None:
    """By its date, and on one day by its key; a machine with several labels is counted once."""
    log(store, [{}] * 3)
    label(store, [CLASSES[0]] * 3, days=3)
    label(store, [CLASSES[1]], days=2)
    with transaction(store) as connection:
        lower = {KEY: 1, GROUP: 2, EVENT: DAY + timedelta(days=3), LABEL: CLASSES[2]}
        connection.execute(insert(TABLES.labels), [lower])
    row = performed(store)
    assert [true[0] for true in row.confusion] == [1, 1, 1]
    assert (row.predictions, row.labelled) == (3, 3)


def test_a_report_has_the_rows_that_it_has_written(store: Engine) -> None:
    """With the days of the period, and the time at which they were computed."""
    log(store, [{}] * 40)
    label(store, [CLASSES[0]] * 40)
    for period, base_dt, last in (
        (Period.DAILY, DAY + timedelta(1), DAY),
        (Period.WEEKLY, date(2025, 9, 8), date(2025, 9, 7)),
    ):
        began = datetime.now(UTC)
        report = write_performance(store, CONTRACT, base_dt, period=period, zone=ZONE, slices=BY_GRADE, chunk_rows=70)
        [row] = report.rows
        [written] = [each for each in rows_of(store, TABLES.performance) if each["period"] == period.value]
        assert report.table == TABLES.performance.name
        assert (row.period, row.last_day) == (period, last.isoformat())
        assert (written["first_day"].isoformat(), written["last_day"].isoformat()) == (row.first_day, row.last_day)
        assert began <= written["computed_at"] <= datetime.now(UTC)
        assert written["slices"] == {
            "grade": {"Fair": vars(row.slices["grade"]["Fair"])},
            "power": {"below 20": vars(row.slices["power"]["below 20"])},
        }
        counted = {name: written["counts"][name] for name in ("confusion", "checked", "slices")}
        assert "." not in json.dumps([row.confusion, counted])  # all of them are integers
        others = vars(row).keys() - {"period", "first_day", "last_day", "slices", "recall_interval"}
        assert {name: written[name] for name in others} == {name: getattr(row, name) for name in others}


def test_a_slice_with_just_enough_rows_is_scored(store: Engine) -> None:
    """One row less, and it is not."""
    log(store, [{}] * 40)
    label(store, [CLASSES[0]] * 40)
    assert list(performed(store, BY_GRADE.model_copy(update={"min_rows": 40})).slices) == ["grade", "power"]
    assert performed(store, BY_GRADE.model_copy(update={"min_rows": 41})).slices == {}


def test_a_week_adds_up_its_days(store: Engine) -> None:
    """Each day's predictions meet the labels from that day on; a machine that asks on several days is one group of the week."""
    for back in range(3):
        log(store, [{}] * 50, day=DAY - timedelta(days=back))
    label(store, [CLASSES[0]] * 25 + [CLASSES[1]] * 25)
    week = performed(store, period=Period.WEEKLY)
    assert (week.first_day, week.predictions, week.labelled, week.accuracy) == ("2025-09-01", 150, 150, 0.5)
    once = binomtest(25, 50).proportion_ci(0.95, method="wilson")
    assert week.accuracy_low == pytest.approx(once.low)


@pytest.mark.parametrize("days", [1, 3])
def test_chunks_and_days_are_added_up(store: Engine, days: int) -> None:
    """Estimates, their errors and slices are those of all rows, whether these are of one day or of several."""
    logged, labels = drawn(240)
    for number, each in enumerate(logged):
        each |= {GROUP: number + 1, "features": {"grade": ("Low", "High")[number % 4 == 0], "power": 1.0}}
    for back in range(days):
        log(store, logged[back::days], day=DAY - timedelta(days=back))
    label(store, labels[:200])
    period = Period.DAILY if days == 1 else Period.WEEKLY
    row = performed(store, BY_GRADE, period)
    sure = [max(each["probabilities"].values()) for each in logged]
    hits = [one["prediction"] == two for one, two in zip(logged, labels, strict=True)]
    assert (row.predictions, row.labelled) == (240, 200)
    assert row.estimated_accuracy == pytest.approx(np.mean(sure))
    assert row.accuracy == np.mean(hits[:200])
    assert row.accuracy_error == pytest.approx(np.mean(sure[:200]) - np.mean(hits[:200]))
    slices = {name: (each.labelled, each.accuracy) for name, each in row.slices["grade"].items()}
    high = range(0, 200, 4)
    low = sorted({*range(200)} - {*high})
    assert slices == {
        "High": (50, np.mean([hits[number] for number in high])),
        "Low": (150, np.mean([hits[number] for number in low])),
    }


def test_a_week_has_the_days_from_monday_to_sunday(store: Engine) -> None:
    """Whose rows are written, too; weeks are reported with the days that they have, the oldest first, as far as five back."""
    monday = date(2025, 9, 1)
    for days, rows in ((-29, 1), (-28, 2), (-1, 4), (0, 8), (6, 16), (7, 32)):
        log(store, [{}] * rows, day=monday + timedelta(days=days))
    report = write_performance(
        store, CONTRACT, date(2025, 9, 8), period=Period.WEEKLY, zone=ZONE, slices=None, chunk_rows=70
    )
    assert [(row.first_day, row.last_day, row.predictions) for row in report.rows] == [
        ("2025-08-04", "2025-08-10", 2),
        ("2025-08-25", "2025-08-31", 4),
        ("2025-09-01", "2025-09-07", 24),
    ]
    written = rows_of(store, TABLES.performance)
    days_written = [row["first_day"] for row in written if row["period"] == Period.DAILY.value]
    assert [(day - monday).days for day in days_written] == [-28, -1, 0, 6]


@pytest.mark.slow
@pytest.mark.parametrize("weeks_later", [1, 5])
def test_the_sizes_of_a_week_are_read_as_long_as_they_change(
    store: Engine, monkeypatch: pytest.MonkeyPatch, weeks_later: int
) -> None:
    """Another version or more predictions of a known one change what is independent; without either it is kept."""
    sizes: list[Any] = []
    base_dt = date(2025, 9, 1) + timedelta(
        weeks=weeks_later
    )  # the week of `DAY` is the newest or the oldest of the report

    def counted(connection: Any, contract: Any, between: Any) -> Any:
        if (between[1] - between[0]).days == 7:
            sizes.append(between)
        return by_model(connection, contract, between)

    monkeypatch.setattr("ctcd.monitoring.performance.by_model", counted)
    for rows, read, independent in (
        ([{"request_id": f"a{number}"} for number in range(2)], 1, {"7": 1.0}),
        ([], 0, {"7": 1.0}),
        ([{"request_id": "b", "model_version": "8"}], 1, {"7": 1.0, "8": 1.0}),
        ([], 0, {"7": 1.0, "8": 1.0}),
        ([{"request_id": f"c{number}", GROUP: 1} for number in range(2)], 1, {"7": 16 / 10 / 4, "8": 1.0}),
        ([], 0, {"7": 16 / 10 / 4, "8": 1.0}),
    ):
        if rows:
            log(store, rows)
        sizes.clear()
        write_performance(store, CONTRACT, base_dt, period=Period.WEEKLY, zone=ZONE, slices=None, chunk_rows=70)
        assert len(sizes) == read
        weeks = [row for row in rows_of(store, TABLES.performance) if row["period"] == Period.WEEKLY.value]
        assert {row["model_version"]: row["counts"]["independent"] for row in weeks} == pytest.approx(independent)


@pytest.mark.slow
def test_without_a_group_no_label_is_known_and_all_rows_are_independent(tmp_path: Path) -> None:
    """Requests do not say which row they are about; the estimate does not need that."""
    write_instance(BARE, tmp_path / "contracts")
    bare = load_instance(tmp_path / "contracts").contract
    store = connect(f"sqlite:///{tmp_path / 'bare.db'}")
    tables = build_tables(bare)
    tables.metadata.create_all(store)
    logged = LoggedPrediction(
        request_id="",
        group=None,
        features={},
        prediction="true",
        confidence=0.75,
        probabilities={"false": 0.25, "true": 0.75},
        model_version="7",
        run_id="run",
        elapsed_ms=1.0,
        created_at=datetime.combine(DAY, time(12), ZONE),
    )
    append(store, bare, [replace(logged, request_id=str(number)) for number in range(10)])
    report = write_performance(
        store, bare, DAY + timedelta(days=1), period=Period.DAILY, zone=ZONE, slices=None, chunk_rows=70
    )
    [row] = report.rows
    [written] = rows_of(store, tables.performance)
    store.dispose()
    assert (row.predictions, row.labelled, row.estimated_accuracy, row.accuracy_error) == (10, 0, 0.75, None)
    assert (written["counts"]["labels"], written["counts"]["independent"]) == (0, 1.0)


def test_a_version_that_begins_to_answer_meanwhile_is_left_to_the_next_run(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first rows of a day may be logged between counting the rows of the day and reading them."""

    def counted(*given: Any) -> Any:
        # SQLite shows a reader one state of the store; MariaDB, read committed, shows each query its own.
        return {model: sizes for model, sizes in by_model(*given).items() if model[0] != "8"}

    log(store, [{}] * 10)
    log(store, [{"model_version": "8", "request_id": "late"}])
    with monkeypatch.context() as patched:
        patched.setattr("ctcd.monitoring.performance.by_model", counted)
        assert performed(store).predictions == 10
    report = write_performance(
        store, CONTRACT, DAY + timedelta(days=1), period=Period.DAILY, zone=ZONE, slices=None, chunk_rows=70
    )
    assert [(row.model_version, row.predictions) for row in report.rows] == [("7", 10), ("8", 1)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """The days that were read, in a store where every day is a large one."""
    days: list[date] = []
    original = performance._Log._read

    def noted(log: Any, day: date, *counts: int) -> Any:
        days.append(day)
        return original(log, day, *counts)

    monkeypatch.setattr(performance, "ALWAYS_READ", 0)
    monkeypatch.setattr(performance._Log, "_read", noted)
    return days


def reported(store: Engine, base_dt: date, period: Period = Period.DAILY, slices: Slices | None = BY_GRADE) -> Any:
    report = write_performance(store, CONTRACT, base_dt, period=period, zone=ZONE, slices=slices, chunk_rows=70)
    return {(row.first_day, row.model_version): row for row in report.rows}


def days_of(store: Engine) -> None:
    """Log 40 predictions of each of five days, some of another version."""
    for back in range(5):
        logged, _ = drawn(40, seed=back)
        log(
            store,
            [row | {"model_version": "78"[number > 30]} for number, row in enumerate(logged)],
            day=DAY - timedelta(days=back),
        )


@pytest.mark.slow
def test_a_large_day_is_read_again_when_there_are_half_as_many_labels_again(store: Engine, read: list[date]) -> None:
    """A run of the next day reads the day that is over, and the others only as labels for them come in."""
    days_of(store)
    reported(store, DAY + timedelta(days=1))
    assert sorted(read) == [DAY - timedelta(days=back) for back in reversed(range(5))]
    read.clear()
    _, labels = drawn(40, seed=0)
    log(store, [{"request_id": "new"}], day=DAY + timedelta(days=1))
    reported(store, DAY + timedelta(days=2))
    assert read == [DAY + timedelta(days=1)]
    for count, expected in ((20, 6), (29, 0), (30, 6), (30, 0)):  # labels; days that are read
        read.clear()
        with transaction(store) as connection:
            connection.execute(TABLES.labels.delete())
        label(store, labels[:count])
        reported(store, DAY + timedelta(days=2))
        assert len(read) == expected, count
    with transaction(store) as connection:
        connection.execute(TABLES.labels.delete())
    read.clear()
    assert not any(row.labelled for row in reported(store, DAY + timedelta(days=2)).values())
    assert len(read) == 6


@pytest.mark.slow
def test_what_is_kept_says_what_is_read(store: Engine, read: list[date], monkeypatch: pytest.MonkeyPatch) -> None:
    """Days and weeks that are made of kept counts have the same numbers, in report and store, as if they were read."""
    days_of(store)
    label(store, drawn(40)[1])
    slices = BY_GRADE.model_copy(update={"min_rows": 5})
    for period, base_dt in ((Period.DAILY, DAY + timedelta(days=1)), (Period.WEEKLY, DAY + timedelta(days=7))):
        before = reported(store, base_dt, period, slices)
        read.clear()
        kept, stored = reported(store, base_dt, period, slices), rows_of(store, TABLES.performance)
        assert read == []
        with monkeypatch.context() as patched:
            patched.setattr(performance, "ALWAYS_READ", 10_000)
            assert before == kept == reported(store, base_dt, period, slices)
        assert len(read) == 5
        again = rows_of(store, TABLES.performance)
        for one, two in zip(stored, again, strict=True):
            differing = {"computed_at": None, "counts": two["counts"] | {"read_on": one["counts"]["read_on"]}}
            assert one | {"computed_at": None} == two | differing
        assert any(row.slices["grade"] for row in kept.values())


def test_a_large_day_is_read_a_last_time_when_its_labels_are_complete(store: Engine, read: list[date]) -> None:
    """A label that was corrected, so that there are no more of them, counts at the latest 31 days after the prediction."""
    log(store, [{}] * 40)
    label(store, [CLASSES[1]] * 40)
    assert reported(store, DAY + timedelta(days=2))[DAY.isoformat(), "7"].accuracy == 0.0
    with transaction(store) as connection:
        connection.execute(TABLES.labels.update().values({LABEL: CLASSES[0]}))
    for days, accuracy in ((30, 0.0), (31, 1.0), (31, 1.0)):
        assert reported(store, DAY + timedelta(days=days))[DAY.isoformat(), "7"].accuracy == accuracy
    assert read == [DAY, DAY]


@pytest.mark.slow
def test_a_day_that_is_not_large_is_always_read(
    store: Engine, read: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row more, and it is large."""
    log(store, [{}] * 40)
    for always, times in ((40, 2), (39, 0)):
        monkeypatch.setattr(performance, "ALWAYS_READ", always)
        for _ in range(2):
            reported(store, DAY + timedelta(days=1))
        assert read == [DAY] * times, always
        read.clear()


@pytest.mark.slow
def test_a_version_whose_rows_were_removed_from_the_log_is_not_reported(store: Engine, read: list[date]) -> None:
    """Its row of an earlier reading is still in the store; the newest reading of a day says which versions there are."""
    log(store, [{"model_version": "78"[number % 2]} for number in range(40)])
    assert {version for _, version in reported(store, DAY + timedelta(days=1))} == {"7", "8"}
    with transaction(store) as connection:
        connection.execute(TABLES.predictions.delete().where(TABLES.predictions.c.model_version == "8"))
    for days in (2, 3):
        assert {version for _, version in reported(store, DAY + timedelta(days=days))} == {"7"}
    assert read == [DAY, DAY]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["late", "slices", "classes"])
def test_a_large_day_is_read_again_if_what_is_kept_is_of_something_else(
    store: Engine, read: list[date], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Predictions that were logged late, other slices of the policy, and other classes of the contract."""
    log(store, [{}] * 40)
    label(store, [CLASSES[0]] * 40)
    reported(store, DAY + timedelta(days=2))
    slices: Slices | None = BY_GRADE
    if what == "late":
        log(store, [{"request_id": "late"}])
    elif what == "slices":
        slices = BY_GRADE.model_copy(update={"by": {"power": [20.0, 30.0]}})
    else:
        with monkeypatch.context() as patched:
            patched.setitem(vars(CONTRACT), "classes", CLASSES[::-1])
            [row] = reported(store, DAY + timedelta(days=2)).values()
            assert row.confusion[len(CLASSES) - 1][len(CLASSES) - 1] == 40
            assert len(read) == 2
    [row] = reported(store, DAY + timedelta(days=2), slices=slices).values()
    assert len(read) == {"late": 2, "slices": 2, "classes": 3}[what]
    assert row.predictions == (41 if what == "late" else 40)
    assert row.confusion[0][0] == row.predictions
    assert list(row.slices) == (["power"] if what == "slices" else ["grade", "power"])


def test_rows_of_a_release_that_kept_nothing_are_counted(store: Engine, read: list[date]) -> None:
    """Their counts are null after the migration, and the day is read."""
    days_of(store)
    before = reported(store, DAY + timedelta(days=1))
    with transaction(store) as connection:
        connection.execute(TABLES.performance.update().values(counts=null()))
    read.clear()
    assert reported(store, DAY + timedelta(days=1)) == before
    assert len(read) == 5


def test_a_slice_has_a_macro_f1_with_its_interval(store: Engine) -> None:
    """It is that of its rows, as scikit-learn computes it, and the interval is that of the whole for a slice that is all rows."""
    logged, labels = drawn(300)
    log(
        store,
        [
            row | {"features": {"grade": ("Low", "High")[number % 3 == 0], "power": 1.0}}
            for number, row in enumerate(logged)
        ],
    )
    label(store, labels)
    row = performed(store, BY_GRADE)
    of_slice = [number for number in range(300) if number % 3]
    predicted = [logged[number]["prediction"] for number in of_slice]
    found = row.slices["grade"]["Low"]
    assert found.macro_f1 == pytest.approx(f1_score([labels[n] for n in of_slice], predicted, average="macro"))
    assert found.macro_f1_low < found.macro_f1 < found.macro_f1_high
    whole = row.slices["power"]["below 20"]
    assert (whole.macro_f1, whole.macro_f1_low, whole.macro_f1_high) == (
        row.macro_f1,
        row.macro_f1_low,
        row.macro_f1_high,
    )
