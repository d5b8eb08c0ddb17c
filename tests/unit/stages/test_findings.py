"""What a command finds is kept as a finding, which a person closes on the command line."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.snapshots import loosen_snapshot_table, put_snapshot
from support.stores import TABLES

from ctcd.cli.app import run
from ctcd.monitoring.findings import raise_finding
from ctcd.settings import Settings
from ctcd.stages import findings
from ctcd.store.engine import connect, transaction
from ctcd.store.prediction_log import LoggedPrediction, append

FOUND: dict[str, Any] = {
    "kind": "drift",
    "subject": "temperature",
    "evidence": {"psi": 0.4, "bins": [1, 2]},
    "day": date(2025, 9, 2),
}


@pytest.fixture
def settings(tmp_path: Path, migrated_file: bytes, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a home with an empty store."""
    (tmp_path / "store.db").write_bytes(migrated_file)
    for name, value in {"CTCD_HOME": tmp_path, "CTCD_CONTRACTS": INSTANCE.folder}.items():
        monkeypatch.setenv(name, str(value))
    return Settings(home=tmp_path, contracts=INSTANCE.folder)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings.store_url)
    yield engine
    engine.dispose()


@pytest.fixture
def ctcd(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with a number of arguments, and return its exit code and its output as JSON, or its error."""
    assert settings.home.is_dir()

    def called(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = run([*arguments, "--json"])
        shown = capsys.readouterr()
        return code, json.loads(shown.out or shown.err)

    return called


@pytest.mark.slow
def test_a_refused_snapshot_is_a_finding_until_somebody_closes_it(
    ctcd: Any, settings: Settings, engine: Engine
) -> None:
    """With the rows that break each rule, whichever command refuses it; a snapshot that is accepted is none, and closes none."""
    today = settings.today()
    good = snapshot_frame(CONTRACT, rows=120, base_dt=today)
    bounded = next(column for column in CONTRACT.model_inputs if column.maximum is not None)
    bad = good.copy()
    bad.loc[bad.index[:3], bounded.name] = bounded.maximum + 1  # type: ignore[operator] # it is a number
    loosen_snapshot_table(engine, CONTRACT)

    put_snapshot(engine, CONTRACT, good, today)
    assert [ctcd(name)[0] for name in ("validate", "monitor")] == [0, 0]
    assert ctcd("findings", "list") == (0, [])

    put_snapshot(engine, CONTRACT, bad, today)
    for _ in range(2):
        assert [ctcd(name)[0] for name in ("validate", "monitor")] == [3, 3]
    code, found = ctcd("findings", "list")
    assert (code, [each["subject"] for each in found]) == (0, ["ctcd validate", "ctcd monitor"])
    for each in found:
        assert (each["kind"], each["day"], each["last_seen"]) == ("snapshot", today.isoformat(), today.isoformat())
        (rule, rows), *_ = ((name, rows) for name, rows in each["evidence"].items() if rows)
        assert bounded.name in rule
        assert rows == 3

    put_snapshot(engine, CONTRACT, good, today)
    assert [ctcd(name)[0] for name in ("validate", "monitor")] == [0, 0]
    assert ctcd("findings", "list") == (0, found)

    code, closed = ctcd("findings", "close", "1", "--reason", "corrected", "--by", "ann")
    assert (code, closed["closed_by"], closed["reason"]) == (0, "ann", "corrected")
    assert ctcd("findings", "list") == (0, found[1:])
    assert ctcd("findings", "list", "--all") == (0, [closed, *found[1:]])
    assert ctcd("findings", "show", "1") == (0, closed)


def test_a_finding_is_closed_by_whoever_runs_the_command(
    ctcd: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the name of the setting; nothing is closed without a reason."""
    raise_finding(engine, CONTRACT, **FOUND)
    assert ctcd("findings", "close", "1")[0] == 2
    assert len(ctcd("findings", "list")[1]) == 1
    monkeypatch.setenv("CTCD_ACTOR", "ann")
    code, closed = ctcd("findings", "close", "1", "--reason", "corrected")
    assert (code, closed["closed_by"]) == (0, "ann")
    assert ctcd("findings", "close", "1", "--reason", "twice")[0] == 2
    assert ctcd("findings", "show", "2")[0] == 5


def test_findings_are_shown_as_tables(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """The list has a row for each, and the page of one has its evidence; without any, a sentence says so."""
    assert run(["findings", "list"]) == run(["findings", "list", "--all"]) == 0
    assert capsys.readouterr().out == "no finding is open\nno finding is on record\n"
    raise_finding(engine, CONTRACT, **FOUND)
    assert run(["findings", "list"]) == run(["findings", "show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Open findings" in shown
    assert shown.count("temperature") == 2
    assert "bins.1" in shown
    assert run(["findings", "close", "1", "--reason", "a holiday", "--by", "ann"]) == 0
    assert "finding 1 is closed: drift, temperature" in capsys.readouterr().out


def test_open_findings_are_in_the_summary_of_a_workflow(engine: Engine, tmp_path: Path) -> None:
    """As a Markdown table that a bar in a subject does not break; without any, only their number."""
    summary = tmp_path / "summary.md"
    assert run(["findings", "list", "--summary", str(summary)]) == 0
    assert summary.read_text() == "### Findings: 0\n"
    raise_finding(engine, CONTRACT, **FOUND | {"subject": "a|b"})
    assert run(["findings", "list", "--summary", str(summary)]) == 0
    assert summary.read_text().splitlines()[1:] == [
        "### Findings: 1",
        "",
        "| number | kind | subject | found on | last seen |",
        "| --- | --- | --- | --- | --- |",
        r"| 1 | drift | a\|b | 2025-09-02 | 2025-09-02 |",
    ]


def test_findings_start_a_training_only_if_the_settings_let_them(
    ctcd: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Off by default, whatever is open; switched on, with the cool-down of the settings; the next step reads it."""
    outputs = tmp_path / "outputs"
    raise_finding(engine, CONTRACT, **FOUND)
    code, report = ctcd("findings", "due", "--started", "--outputs", str(outputs))
    assert (code, report["due"], report["findings"]) == (0, False, [])
    assert report["why"] == "findings start no training: the setting train_on_findings is off"
    monkeypatch.setenv("CTCD_TRAIN_ON_FINDINGS", "true")
    monkeypatch.setenv("CTCD_COOL_DOWN_DAYS", "3")
    for _ in range(2):
        assert ctcd("findings", "due", "--outputs", str(outputs))[1]["due"]
    assert ctcd("findings", "due", "--started")[1]["due"]
    raise_finding(engine, CONTRACT, **FOUND | {"subject": "power"})
    code, report = ctcd("findings", "due", "--outputs", str(outputs))
    assert (code, report["due"]) == (0, False)
    day = Settings().today()
    assert f"on {day}, and none starts another before {day + timedelta(days=3)}" in report["why"]
    assert outputs.read_text() == "due=false\ndue=true\ndue=true\ndue=false\n"


def test_to_ask_whether_a_training_is_due_starts_none(settings: Settings, engine: Engine) -> None:
    """The answer is the same until somebody records that one has started; the open findings are those that ask for it."""
    raise_finding(engine, CONTRACT, **FOUND)
    settings = settings.model_copy(update={"train_on_findings": True})
    assert [findings.training_due(settings).due for _ in range(2)] == [True, True]
    assert [each.subject for each in findings.list_findings(settings)] == ["temperature"]
    findings.close_finding(settings, 1, reason="corrected", by="ann")
    assert findings.list_findings(settings) == ()


@pytest.mark.slow
def test_wrong_answers_are_a_finding_once_their_labels_are_known(ctcd: Any, engine: Engine) -> None:
    """The report of performance, of a day and of a week, judges the scores by the floors of the instance, and names the finding."""
    day, (right, wrong, *_) = date(2025, 9, 2), CONTRACT.classes
    label = {CONTRACT.event_date.name: day, CONTRACT.label.name: right}
    machines = range(1, 121)
    with transaction(engine) as connection:
        keys = [{CONTRACT.group.name: each, CONTRACT.key.name: each} for each in machines]
        connection.execute(insert(TABLES.labels), [label | key for key in keys])
    for answer, subjects in ((right, set()), (wrong, {"accuracy", f"recall of {right}"})):
        made = [
            LoggedPrediction(
                request_id=f"{answer} {each}",
                group=each,
                features={},
                prediction=answer,
                confidence=0.9,
                model_version=answer,
                run_id="",
                elapsed_ms=1.0,
                created_at=datetime(2025, 9, 1, 16, each % 60, tzinfo=UTC),  # it is the 2nd in Seoul
            )
            for each in machines
        ]
        append(engine, CONTRACT, made)
        for period, first in (("daily", "2025-09-02"), ("weekly", "2025-09-01")):
            code, report = ctcd("performance", "--base-dt", "2025-09-08", "--period", period)
            assert (code, {row["first_day"] for row in report["rows"]}) == (0, {first})
            assert {each["subject"] for each in report["findings"]} == {
                f"{each} of version {wrong}" for each in subjects
            }
    found = ctcd("findings", "list")[1]
    assert [(each["kind"], each["last_seen"]) for each in found] == [("performance", "2025-09-07")] * len(subjects)
    assert {each["evidence"]["value"] for each in found} == {0.0}
