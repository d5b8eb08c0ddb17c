"""The data monitor on real stores: each kind of expectation fails on the defect that it is meant for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event, make_url, text
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.snapshots import loosen_snapshot_table, put_snapshot

from ctcd.contract.spec import names
from ctcd.monitoring.checkpoint import MOST_ROWS
from ctcd.monitoring.data_monitor import monitor_data
from ctcd.monitoring.expectations import ColumnProfile, Profile, numeric_columns, snapshot_rules
from ctcd.monitoring.outcome import DataMonitorReport, SnapshotRefused
from ctcd.monitoring.profiles import accept, accepted_before
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.settings import Settings
from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade

pytestmark = pytest.mark.integration

DAY = date(2025, 8, 31)
TOLERANCES = load_tolerances(INSTANCE)
BEFORE = DAY - timedelta(days=1)


@pytest.fixture(scope="session")
def good() -> pd.DataFrame:
    """A snapshot that keeps the contract."""
    return snapshot_frame(CONTRACT, rows=400, base_dt=DAY)


# Coverage is measured on SQLite, and of MariaDB where a DAG monitors its snapshot: it takes two thirds as long again.
@pytest.fixture(params=["sqlite_url", pytest.param("store_url", marks=pytest.mark.no_cover)], ids=["sqlite", "mariadb"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty store, on SQLite and on MariaDB."""
    return Settings(home=tmp_path, feature_store_url=SecretStr(request.getfixturevalue(request.param)))


@pytest.fixture
def engine(settings: Settings, good: pd.DataFrame) -> Iterator[Engine]:
    """That store with yesterday's accepted snapshot, and with a snapshot table without constraints."""
    engine = connect(settings.store_url)
    loosen_snapshot_table(engine, CONTRACT)
    put_snapshot(engine, CONTRACT, good, BEFORE)
    accept(engine, CONTRACT, BEFORE)
    yield engine
    engine.dispose()


def check(settings: Settings, day: date = DAY, **options: Any) -> DataMonitorReport:
    """Monitor a day's snapshot with the tolerances of the tests' instance."""
    store = connect(settings.store_url)
    return monitor_data(store, CONTRACT, day, reports=settings.reports, tolerances=TOLERANCES, **options)


def refused(settings: Settings) -> dict[tuple[str, str], int]:
    """Return every rule that the data monitor reports as broken, with the number of rows."""
    with pytest.raises(SnapshotRefused) as caught:
        check(settings)
    return broken(caught.value.report)


def broken(report: DataMonitorReport) -> dict[tuple[str, str], int]:
    return {(check.column, check.rule): check.failed for check in report.checks if check.verdict == "failed"}


def test_every_defect_of_single_rows_is_refused_by_its_own_rule(
    settings: Settings, engine: Engine, good: pd.DataFrame
) -> None:
    """Nulls, bounds, categories, spelling, lengths, lists and keys: exactly the injected errors are counted."""
    bad = good.astype(object)
    for row, (column, value) in enumerate(
        [
            ("hours", None),
            ("hours", 0),
            ("hours", 20_001),
            ("vibration", -0.001),
            ("grade", "Excellent"),
            ("grade", "high"),
            ("shift", "night "),
            ("maker", "_______"),
            ("maker", "Acme\n"),
            ("maker", "x" * 65),
            ("parts", "steering wheel"),
            ("parts", "oil pump,"),
            ("condition", "Fair"),
            ("machine", 0),
        ]
    ):
        bad.loc[row, column] = value
    put_snapshot(engine, CONTRACT, pd.concat([bad, bad.iloc[50:52]]), DAY)
    found = refused(settings)
    unpadded = engine.dialect.name == "sqlite"  # MariaDB takes "night " for "night": hence the rule about blanks
    assert found.pop(("shift", "is a known category"), 0) == unpadded
    assert found == {
        ("hours", "is not missing"): 1,
        ("hours", "is within its bounds"): 2,
        ("vibration", "is within its bounds"): 1,
        ("grade", "is a known category"): 2,
        ("shift", "does not end in a blank"): 1,
        ("maker", "is spelled as the contract says"): 2,
        ("maker", "is not too long"): 1,
        ("parts", "has known entries only"): 2,
        ("condition", "is a known category"): 1,
        ("machine", "is within its bounds"): 1,
        ("taken_on, reading, machine", "no two rows have the same keys"): 4,
    }


def test_every_shift_against_the_accepted_snapshot_is_refused(
    settings: Settings, engine: Engine, good: pd.DataFrame
) -> None:
    """Units, two swapped columns, a lost class and missing values that have moved are refused, each by its rule.

    A shifted unit may break the bounds of its column in every row, too.
    """
    bad = good.assign(
        power=good["power"] / 1_000,
        hours=good["hours"] // 100,
        output=good["output"] / 10,
        vibration=good["stops"],
        stops=good["vibration"],
        wear=good["humidity"].fillna(45.0),
        humidity=good["wear"],
    )
    bad.loc[bad["condition"] == "sound", "condition"] = "worn"
    bad.loc[bad.index[:20], "shift"] = None
    put_snapshot(engine, CONTRACT, bad, DAY)
    rows = refused(settings)
    assert rows["power", "is within its bounds"] == len(good)
    found = {(column, rule.removesuffix(" as in the last accepted snapshot")) for column, rule in rows}
    assert {
        ("power", "is within its bounds"),
        ("power", "mean"),
        ("power", "median"),
        ("hours", "mean"),
        ("hours", "median"),
        ("output", "mean"),
        ("output", "median"),
        ("vibration", "mean"),
        ("stops", "mean"),
        ("wear", "mean"),
        ("humidity", "mean"),
        ("condition", "share of class worn"),
        ("condition", "share of class sound"),
        ("condition", "class sound can be learned"),
        ("shift", "share of values that are there"),
    } <= found
    touched = {"power", "hours", "output", "vibration", "stops", "wear", "humidity", "condition", "shift"}
    assert {column for column, _ in found} == touched


def test_each_statistic_is_compared_with_itself() -> None:
    """Mean and median lie around those of the accepted snapshot, each as far away as its own tolerance allows."""
    numeric = names(numeric_columns(CONTRACT))
    numbers = dict.fromkeys(numeric, ColumnProfile(mean=100.0, spread=2.0, median=150.0))
    accepted = Profile(day=BEFORE, rows=400, shares={}, present={}, numbers=numbers)
    rules = {(rule.column, rule.rule): rule for rule in snapshot_rules(CONTRACT, TOLERANCES, DAY, accepted)}
    for name in numeric:
        for what, centre in (("mean", 100.0), ("median", 150.0)):
            found: Any = rules[name, f"{what} as in the last accepted snapshot"].expectation
            width = 2.0 * getattr(TOLERANCES, what)
            assert (found.column, found.min_value, found.max_value) == (
                name,
                pytest.approx(centre - width),
                pytest.approx(centre + width),
            )


def test_a_stale_snapshot_is_refused(settings: Settings, engine: Engine, good: pd.DataFrame) -> None:
    """If the newest snapshot is older than the day needed, all its rows are stale; the message has its date."""
    with pytest.raises(
        SnapshotRefused, match=r'of 2025-08-30: .*"the newest snapshot is fresh" is broken in 400 rows'
    ) as caught:
        check(settings)
    assert broken(caught.value.report) == {("taken_on", "the newest snapshot is fresh"): len(good)}
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM machine_condition_snapshot_profile")) == 1


def test_a_personal_column_is_refused_and_never_shown(settings: Settings, engine: Engine, good: pd.DataFrame) -> None:
    """A column that is not in the contract, such as a personal one, is named; its values are in no report."""
    put_snapshot(engine, CONTRACT, good, DAY)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE machine_readings_labelled ADD COLUMN badge VARCHAR(20)"))
        connection.execute(text("UPDATE machine_readings_labelled SET badge = '123-45-6789'"))
        connection.execute(text("ALTER TABLE machine_readings_labelled DROP COLUMN hours"))
    with pytest.raises(SnapshotRefused, match="badge") as caught:
        check(settings)
    found = broken(caught.value.report)
    assert ("", "the columns are those of the contract") in found
    assert ("hours", "is not missing") in found  # what cannot be answered does not pass
    assert "123-45-6789" not in everything_below(settings.reports) + str(caught.value)


def test_the_first_snapshot_is_compared_with_nothing(each_store_url: str, tmp_path: Path, good: pd.DataFrame) -> None:
    """The first snapshot is checked against the contract only and recorded; a second run changes nothing."""
    settings = Settings(home=tmp_path, feature_store_url=SecretStr(each_store_url))
    engine = connect(each_store_url)
    put_snapshot(engine, CONTRACT, good, DAY)
    report = check(settings)
    assert report.passed
    assert report.compared_with is None
    assert {check.observed for check in report.checks if check.compares} == {"first snapshot"}
    assert {check.verdict for check in report.checks if check.compares} == {"not compared"}
    assert {check.verdict for check in report.checks if not check.compares} == {"passed"}

    before = {path.relative_to(tmp_path) for path in settings.reports.rglob("*")}
    assert check(settings) == report
    assert {path.relative_to(tmp_path) for path in settings.reports.rglob("*")} == before
    assert accepted_before(engine, CONTRACT, DAY) is None
    profile = accepted_before(engine, CONTRACT, DAY + timedelta(days=1))
    assert profile is not None
    assert (profile.day, profile.rows) == (DAY, len(good))

    pages = {path.name: path.read_text() for path in settings.reports.rglob("*.html")}
    assert set(pages) == {"index.html", "2025-08-31.html"}
    assert "2025-08-31.html" in pages["index.html"]
    for name, page in pages.items():
        assert "//" not in page, f"{name} refers to another host"
    assert json.loads(Path(report.page).with_suffix(".json").read_text())["passed"] is True
    assert "accepted" in Path(report.page).read_text()
    engine.dispose()


def test_an_investigated_change_can_be_accepted(settings: Settings, engine: Engine, good: pd.DataFrame) -> None:
    """With `accept_change`, a snapshot that differs is accepted and the next one compared with it; never a breach of contract."""
    half = good.iloc[:150]
    put_snapshot(engine, CONTRACT, half, DAY)
    with pytest.raises(SnapshotRefused, match="or accept the change"):
        check(settings)
    report = check(settings, accept_change=True)
    assert report.passed
    assert ("", "rows as in the last accepted snapshot") in broken(report)
    tomorrow = DAY + timedelta(days=1)
    put_snapshot(engine, CONTRACT, half, tomorrow)
    assert broken(check(settings, tomorrow)) == {}

    put_snapshot(engine, CONTRACT, half.assign(hours=0), DAY)
    with pytest.raises(SnapshotRefused) as caught:
        check(settings, accept_change=True)
    assert "accept the change" not in str(caught.value)


def test_the_server_does_the_work(store_url: str, tmp_path: Path, good: pd.DataFrame) -> None:
    """Few rows are fetched from the server, even if every row breaks a rule, and yet all are counted."""
    engine = connect(store_url)
    put_snapshot(engine, CONTRACT, good.assign(power=0.5), DAY)
    with fetched() as rows:
        found = refused(Settings(home=tmp_path, feature_store_url=SecretStr(store_url)))
    assert found == {("power", "is within its bounds"): len(good)}
    assert 0 < max(rows) <= MOST_ROWS < len(good)
    engine.dispose()


@contextmanager
def fetched() -> Iterator[list[int]]:
    """Count the rows that each query gives back, on any engine."""
    rows: list[int] = []

    def count(_connection: object, cursor: object, *_: object) -> None:
        number = getattr(cursor, "rowcount", -1)
        if getattr(cursor, "description", None):
            rows.append(number)

    event.listen(Engine, "after_cursor_execute", count)
    try:
        yield rows
    finally:
        event.remove(Engine, "after_cursor_execute", count)


def test_the_password_stays_secret(store_url: str, tmp_path: Path, good: pd.DataFrame) -> None:
    """Nothing that the data monitor writes contains credentials of the store."""
    engine = connect(store_url)
    put_snapshot(engine, CONTRACT, good, DAY)
    engine.dispose()
    assert check(Settings(home=tmp_path, feature_store_url=SecretStr(store_url))).passed
    url = make_url(store_url)
    shown = everything_below(tmp_path)
    for secret in (url.password, f"{url.username}@", f"{url.username}:", store_url):
        assert secret
        assert secret not in shown


def test_any_path_of_a_store_will_do(tmp_path: Path, good: pd.DataFrame) -> None:
    """A store's path may contain blanks and what Great Expectations would take for environment variables."""
    url = f"sqlite:///{tmp_path}/a$HOME, ${{USER}} and $/store.db"
    upgrade(url, INSTANCE.migrations)
    engine = connect(url)
    put_snapshot(engine, CONTRACT, good, DAY)
    engine.dispose()
    assert check(Settings(home=tmp_path, feature_store_url=SecretStr(url))).passed


def everything_below(folder: Path) -> str:
    """Return the text of every file."""
    files = [path.read_bytes().decode(errors="ignore") for path in folder.rglob("*") if path.is_file()]
    assert files
    return "".join(files)
