"""A day begins and ends at midnight of the configured zone, by the real defaults of stages and commands."""

import json
import re
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, insert, select
from support.clock import frozen
from support.instance import CONTRACT
from support.small_contracts import BARE, write_instance
from support.stores import TABLES

from ctcd.cli.app import run
from ctcd.cli.scoring import show_performance
from ctcd.derived import synthetic
from ctcd.monitoring.performance import UNKNOWABLE, Performance, PerformanceReport
from ctcd.monitoring.periods import Period
from ctcd.settings import Settings, load_settings
from ctcd.stages.connections import open_store
from ctcd.store.engine import transaction
from ctcd.store.tables import build_tables

ZONE = ZoneInfo("Pacific/Kiritimati")
"""Fourteen hours ahead of UTC: half past midnight is half past ten of the day before in UTC."""
DAY = date(2025, 9, 2)
MODULES = (
    "ctcd.cli.data",
    "ctcd.cli.scoring",
    "ctcd.monitoring.drift",
    "ctcd.monitoring.performance",
    "ctcd.stages.data",
    "ctcd.stages.scoring",
)


def at(day: date) -> datetime:
    """Return half past midnight of a day, where it is the day before in UTC."""
    moment = datetime.combine(day, time(0, 30), ZONE)
    assert moment.astimezone(UTC).date() == day - timedelta(days=1)
    return moment


def ctcd_json(*arguments: str) -> Any:
    """Run a command in this process, as its user does; return its report."""
    printed, reported = StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(reported):
        code = run([*arguments, "--json"])
    assert code == 0, reported.getvalue()
    return json.loads(printed.getvalue())


@pytest.fixture
def settings(tmp_path: Path, migrated_file: bytes, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a home with an empty store, in that zone."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {"CTCD_HOME": str(home), "CTCD_TIMEZONE": ZONE.key}.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    Path(str(loaded.store_url).removeprefix("sqlite:///")).write_bytes(migrated_file)
    return loaded


def _log(settings: Settings, moments: list[datetime]) -> None:
    """Log a prediction at each moment, and nothing else."""
    rows = [
        {
            CONTRACT.group.name: number,
            "features": {},
            "prediction": CONTRACT.classes[0],
            "confidence": 0.5,
            "elapsed_ms": 1.0,
            "created_at": moment,
            "request_id": f"midnight-{number}",
            "model_version": "1",
            "run_id": "run",
        }
        for number, moment in enumerate(moments, 1)
    ]
    store = open_store(settings)
    with transaction(store) as connection:
        connection.execute(delete(TABLES.predictions))
        connection.execute(insert(TABLES.predictions), rows)
    store.dispose()


@pytest.mark.parametrize(
    ("period", "begins", "length"),
    [
        ("daily", [DAY - timedelta(days=back) for back in (3, 2, 1)], timedelta(days=1)),
        ("weekly", [date(2025, 8, 18), date(2025, 8, 25)], timedelta(weeks=1)),
    ],
)
def test_a_row_exactly_at_midnight_counts_once(
    settings: Settings, period: str, begins: list[date], length: timedelta
) -> None:
    """At the zone's midnight a row belongs to the period that begins, a moment before to the one that ends."""
    moment = timedelta(microseconds=1)
    midnights = [datetime.combine(day, time(), ZONE) for day in begins]
    end = datetime.combine(begins[-1] + length, time(), ZONE)
    # So many that every mistake at a border changes a number: 1 just before, and 2, 4, ... exactly at a midnight.
    moments = [
        each
        for number, midnight in enumerate([*midnights, end])
        for each in [midnight - moment, *[midnight] * 2 ** (number + 1)]
    ]
    _log(settings, moments)
    with frozen(at(DAY), *MODULES):
        rows = ctcd_json("performance", "--period", period)["rows"]
    found = {row["first_day"]: row["predictions"] for row in rows}
    expected = {day.isoformat(): 2 ** (number + 1) + 1 for number, day in enumerate(begins)}
    assert {day: found[day] for day in expected} == expected
    # Only the one just before the first midnight is in an earlier period; those at the last are in one to come.
    assert sum(found.values()) == sum(expected.values()) + 1


def test_a_person_reads_the_performance_as_a_table(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A row without labels has empty cells, and its estimate would stand beside them; without a row, a sentence says so."""
    with frozen(at(DAY), *MODULES):
        assert run(["performance"]) == 0
        assert capsys.readouterr().out == "no prediction was logged in the days before 2025-09-02\n"
        assert run(["performance", "--period", "weekly"]) == 0
        assert capsys.readouterr().out == "no prediction was logged in the weeks before 2025-09-02\n"
        _log(settings, [datetime.combine(DAY - timedelta(days=1), time(12), ZONE)])
        assert run(["performance"]) == 0
    shown = capsys.readouterr().out
    assert "Performance, daily" in shown
    assert "2025-09-01" in shown
    assert "(0.0%)" in shown


def test_every_heading_of_the_performance_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A share is in percent, each interval stands beside its score, and a row fits into a log."""
    week = Performance(
        period=Period.WEEKLY, first_day="2025-08-25", last_day="2025-08-31", model_version="12", run_id="0123456789",
        predictions=1_234_567, labelled=124_074, completeness=0.1005, accuracy=0.71239, accuracy_low=0.69, accuracy_high=0.7321,
        macro_f1=0.6543, macro_f1_low=0.61, macro_f1_high=0.68, recall={}, recall_interval={}, confusion=[], slices={},
        estimated_accuracy=0.7234, estimated_macro_f1=0.66, accuracy_error=-0.011, macro_f1_error=0.0,
    )  # fmt: skip
    show_performance(PerformanceReport(table="", joined_by="machine", rows=(week,)), "weekly")
    shown = capsys.readouterr().out
    assert "1 of 1" not in shown
    assert UNKNOWABLE not in shown
    lines = [re.split("[┃│]", line)[1:-1] for line in shown.splitlines() if line[0] in "┃│"]
    assert [" ".join(" ".join(column).split()) for column in zip(*lines, strict=True)] == [
        "from 2025-08-25", "version 12", "run 01234567", "predictions 1,234,567", "labelled 124,074 (10.1%)",
        "accuracy (95 %) 0.712 (0.690-0.732)", "macro F1 (95 %) 0.654 (0.610-0.680)", "estimated accuracy 0.7234",
        "its error -0.0110",
    ]  # fmt: skip


def test_labels_that_can_never_be_known_are_not_awaited(capsys: pytest.CaptureFixture[str]) -> None:
    """Where requests have neither group nor key, the table is followed by that sentence."""
    show_performance(PerformanceReport(table="", joined_by=None, rows=()), "daily")
    assert UNKNOWABLE in capsys.readouterr().out


@pytest.mark.slow
def test_rows_without_a_date_are_of_the_day_of_their_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the zone, where the contract has no event date."""
    instance = write_instance(BARE, tmp_path / "contracts")
    home, contracts = str(tmp_path / "home"), str(instance.folder)
    for name, value in {"CTCD_HOME": home, "CTCD_CONTRACTS": contracts, "CTCD_TIMEZONE": ZONE.key}.items():
        monkeypatch.setenv(name, value)
    synthetic.write(instance.contract, tmp_path / "raw", rows=20, seed=7, end=DAY, error_rate=0.0)
    with frozen(at(DAY), *MODULES):
        ctcd_json("ingest", str(tmp_path / "raw"))
    store, tables = open_store(load_settings()), build_tables(instance.contract)
    with store.connect() as connection:
        days = connection.scalars(select(tables.features.c[instance.contract.event_date.name])).all()
    store.dispose()
    assert set(days) == {DAY}


@pytest.mark.slow
def test_seven_days_of_snapshots_are_kept(settings: Settings) -> None:
    """Taken every night by the defaults, the store has the snapshots of the last seven days, today's among them."""
    raw = settings.home / "raw"
    synthetic.write(CONTRACT, raw, rows=200, seed=7, end=DAY, error_rate=0.0)
    ctcd_json("ingest", str(raw))
    taken = [DAY + timedelta(days=number) for number in range(9)]
    for day in taken:
        with frozen(at(day), *MODULES):
            assert ctcd_json("snapshot")["base_dt"] == day.isoformat()
    store = open_store(settings)
    with store.connect() as connection:
        kept = set(connection.scalars(select(TABLES.snapshot.c[CONTRACT.snapshot_date]).distinct()))
    store.dispose()
    assert kept == set(taken[-7:])
