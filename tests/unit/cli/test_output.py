"""Tables stay readable on a narrow terminal."""

import os
import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.instance import INSTANCE

from ctcd import progress
from ctcd.cli import demo, model, output, scoring, traffic, views
from ctcd.cli.options import parse_moment
from ctcd.errors import UsageError
from ctcd.registry.versions import RegisteredVersion
from ctcd.settings import Settings
from ctcd.store.retention import RetentionReport
from ctcd.times import moment


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What is printed on a terminal of 80 characters."""
    file = StringIO()
    monkeypatch.setattr(output, "out", Console(width=80, file=file))
    return file


def test_every_column_is_readable_at_80_characters(printed: StringIO) -> None:
    """A long text or heading takes no other column's room: a date and a number are in one piece."""
    columns = ("day", "labels from", "rows", "distinct machine", "classes", "older rows deleted")
    output.table("Snapshot", columns, [("2025-08-31", "2025-08-01", 1234567, 26000, "sound 51.1%, worn 1.2%" * 2, 0)])
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("2025-08-31" in line and "2025-08-01" in line and "1,234,567" in line for line in lines)


def test_a_table_that_is_too_wide_is_printed_row_by_row(printed: StringIO) -> None:
    """More columns than 80 characters can show: each row has a line for each column, with nothing missing."""
    columns = [f"column {number:02}" for number in range(12)]
    output.table("Versions", columns, [[f"{row} {column} value" for column in columns] for row in ("one", "two")])
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "Versions (2 of 2)" in printed.getvalue()
    for row in ("one", "two"):
        for column in columns:
            assert any(column in line and f"{row} {column} value" in line for line in lines)


def test_a_time_is_in_one_line_beside_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of 120 characters with an image's digest: the texts give way, as a broken time can be neither read nor given back."""
    file = StringIO()
    monkeypatch.setattr(output, "out", Console(width=output.LOG_WIDTH, file=file))
    times = ("2025-08-31T03:30:05Z", "2025-09-01T03:30:05Z")
    columns = ("from", "to", "version", "variant", "run", "served by", "answers")
    image = f"registry.example:5000/team/service@sha256:{'0a' * 32}"
    output.table(
        "What answered", columns, [(*times, "12", "", "ab" * 16, image, 1_234_567), (*times, "13", "", "", "", 1)]
    )
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= output.LOG_WIDTH
    assert sum(all(each in line for each in times) for line in lines) == 2
    cells = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    assert "".join(cell.strip() for cell in list(zip(*cells, strict=True))[5]) == image


def test_a_table_without_rows_has_its_headings(printed: StringIO) -> None:
    """A table without rows shows its title and headings."""
    output.table("Nothing", ("file", "rows"), [])
    assert "file" in printed.getvalue()


@pytest.mark.parametrize("text", ["see [/JIRA-7]", "x[0] [y]", "[red]alarm", "an :ant: in it"])
def test_a_text_is_printed_as_it_was_written(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets and colons are no markup: not in a table's title, heading and cells, not in a line, not in progress."""
    output.table(f"title {text}", ("field", f"heading {text}"), [("reason", f"cell {text}")])
    output.out.print(f"line {text}")
    with output.shown_progress() as shown:
        shown(f"task {text}", 0, None)
    printed = capsys.readouterr()
    assert all(f"{place} {text}" in printed.out for place in ("title", "heading", "cell", "line"))
    assert f"task {text}" in printed.err


def test_no_text_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and values of data may hold anything: what a terminal would obey is escaped; lines and tabs stay."""
    text = "a\x1b[31m \x00 \x9b1m \x7f \r \x07 \u00e9\n\tb"
    output.out.print(text)
    output.err.print(text)
    output.table("title", ("field",), [(text.partition("\n")[0],)])
    printed = capsys.readouterr()
    escaped = r"a\x1b[31m \x00 \x9b1m \x7f \r \x07 " + "\u00e9"
    assert printed.err.startswith(escaped)
    assert printed.out.count(escaped) == 2
    assert not any(ord(each) < 32 and each != "\n" for each in (printed.out + printed.err).expandtabs())


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_summary_is_written_to_a_file_only(kind: str, tmp_path: Path) -> None:
    """Anything else is refused by name, not waited for."""
    place = {"pipe": tmp_path / "pipe", "device": Path("/dev/null"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(place)
    with pytest.raises(UsageError, match="not a regular file") as caught:
        output.append(place, "text")
    assert caught.value.where == str(place)


def test_a_bar_of_progress_shows_its_task_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, a task's name is no markup either."""
    file = StringIO()
    monkeypatch.setattr(output, "err", Console(width=80, file=file, force_terminal=True))
    with output.shown_progress() as shown:
        shown("read [/x]", 1, 2)
    assert "read [/x]" in file.getvalue()


def test_no_duration_is_shown_of_a_task_whose_beginning_was_not_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A task that is first reported when it is done took longer than the 0.0 s since its first report."""
    with output.shown_progress() as shown:
        shown("seen", 0, 2)
        shown("seen", 2, 2)
        shown("unseen", 2, 2)
    assert re.fullmatch(r"seen \.\.\.\nseen: done in \d+\.\d s\nunseen: done\n", capsys.readouterr().err)


def test_a_wait_is_complete_only_when_it_is_over() -> None:
    """A wait has a total from its beginning, however long it takes, and reaches it when what was waited for happens."""
    seen: list[tuple[str, int, int | None]] = []
    for waited, done in ((0.2, False), (7.9, False), (90.0, False), (91.0, True)):
        progress.report_wait(lambda *now: seen.append(now), "start it", waited, 60.0, done=done)
    assert seen == [("start it (at most 60 s)", seconds, 60) for seconds in (0, 7, 59, 60)]


@pytest.mark.parametrize("partitioned", [True, False])
def test_rows_that_were_deleted_are_told(capsys: pytest.CaptureFixture[str], partitioned: bool) -> None:
    """Also of a log with partitions, whose oldest one that is left gets what arrives late."""
    report = RetentionReport(
        table="log", first_month="2026-09", partitioned=partitioned, added=(), dropped=(), deleted=1_234
    )
    scoring._show_retained(report)
    assert "rows deleted: 1,234" in capsys.readouterr().out


def test_a_time_that_is_printed_can_be_given_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a zone it would be one of the configured zone, which is hours away."""
    at = "2025-08-31T12:30:05.250+09:00"
    tags = {"base_dt": "2025-08-31", "promoted_at": at}
    version: Any = RegisteredVersion(
        model_name="m", version="1", run_id="r", aliases=(), created_at="", tags=tags, uri=""
    )
    model._show_models([version])
    experiment: Any = SimpleNamespace(version="1", mode="canary", step=1, share=0.1, effective=at)
    shown = capsys.readouterr().out + traffic._shown(experiment)
    assert "2025-08-31 " in shown
    assert shown.count(moment(at)) == 2
    assert parse_moment(moment(at)) == datetime(2025, 8, 31, 3, 30, 5, tzinfo=UTC)


def test_what_comes_after_the_demo_is_of_the_same_instance(printed: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the project is given the home, and the instance unless it is the default one."""
    monkeypatch.setattr(views, "out", output.out)
    for contracts in (Path("contracts"), Path("my contracts")):
        monkeypatch.setattr(demo, "instance", lambda _settings: INSTANCE)
        demo._show_next(Settings(home=Path("var/demo/x"), contracts=contracts))
    default, other = printed.getvalue().replace(" \n", " ").split("Next\n")[1:]
    for text, prefix in ((default, ""), (other, "CTCD_CONTRACTS='my contracts' ")):
        for command in ("serve", "report", "history", "replay --sample 10", "findings", "predict "):
            assert f"    {prefix}CTCD_HOME=var/demo/x .venv/bin/ctcd {command}" in text
