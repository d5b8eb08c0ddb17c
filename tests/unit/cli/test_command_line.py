"""The command line: help, exit codes, one line for every error."""

import json
import sqlite3
from pathlib import Path

import pytest
from support.instance import CONTRACT

from ctcd.cli import app as command_line
from ctcd.cli.app import app, run
from ctcd.errors import CtcdError, DataRefused, GateRefused, NotFound, Unreachable, UsageError

VERBS = (
    "build",
    "config",
    "demo",
    "deploy",
    "gate",
    "generate",
    "ingest",
    "migrate",
    "performance",
    "predict",
    "promote",
    "rollback",
    "score",
    "serve",
    "snapshot",
    "train",
    "validate",
    "monitor",
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path / "var"))
    for name in ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_every_verb_is_listed_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help of the command names every verb, and each verb explains its options and the exit codes."""
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    registered = {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands}
    assert registered == set(VERBS)
    for verb in VERBS:
        assert verb in listed
        assert run([verb, "--help"]) == 0
        assert "Exit codes" in capsys.readouterr().out


def test_no_argument_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The bare command shows its help and no error."""
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "Usage" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["ingest", "nowhere"], 2, "nowhere"),
        (["snapshot", "--base-dt", "2025-02-30"], 2, "2025-02-30"),
        (["snapshot", "--base-dt", "2025-08-31"], 5, "2025-08-31"),
        (["validate"], 5, "ctcd snapshot"),
        (["validate", "--base-dt", "2025-08-31"], 5, "2025-08-31"),
        (["train"], 5, "ctcd snapshot"),
        (["frobnicate"], 2, "frobnicate"),
        (["snapshot", "--months", "0"], 2, "--months"),
        (["contract", "lock", "--folder", "nowhere"], 2, "nowhere"),
    ],
)
def test_a_mistake_ends_in_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    """Whatever is wrong is told in one line on standard error, without a traceback."""
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataRefused("x"), 3),
        (GateRefused("x"), 4),
        (NotFound("x"), 5),
        (Unreachable("x"), 6),
        (CtcdError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    """Expected errors, an interrupt and a bug are told apart by the exit code, each in one line."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    assert run([]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_settings_are_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config` shows what is in force and where it comes from, and never a password."""
    monkeypatch.setenv("FEATURE_STORE_URL", "mysql+pymysql://user:hunter2@127.0.0.1:1/mlops")
    for arguments in (["config"], ["config", "--json"]):
        assert run(arguments) == 0
        shown = capsys.readouterr().out
        assert "hunter2" not in shown
        assert "127.0.0.1" in shown


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that cannot be used is named with its rule."""
    monkeypatch.setenv("CTCD_PORT", "0")
    assert run(["config"]) == 2
    assert "CTCD_PORT" in capsys.readouterr().err


def test_data_verbs_print_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """From generated files to a validated snapshot, every verb prints a report that programs can read; twice the same."""

    def report(*arguments: str) -> dict[str, object]:
        assert run([*arguments, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        document.pop("seconds", None)
        assert isinstance(document, dict)
        return document

    generate = ("generate", "raw", "--rows", "1000", "--end", "2025-08-31")
    assert report(*generate) == report(*generate)
    first = report("ingest", "raw")
    assert report("ingest", "raw") == first
    assert [table["read"] for table in first["tables"]] == [1000, 1000]  # type: ignore[attr-defined] # plain JSON
    taken = ("snapshot", "--base-dt", "2025-08-31", "--months", "8")
    assert report(*taken)["rows"] == report(*taken)["rows"]
    assert report("validate")["breaches"] == []


def test_a_snapshot_that_breaks_the_contract_is_shown_rule_by_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`validate` on rows that were changed behind the contract's back shows rule, column, count and keys, as table, JSON and page."""
    for arguments in (
        ["generate", "raw", "--rows", "1000", "--end", "2025-08-31"],
        ["ingest", "raw"],
        ["snapshot", "--base-dt", "2025-08-31", "--months", "8"],
    ):
        assert run(arguments) == 0
    store = sqlite3.connect(tmp_path / "var" / "store.db")
    with store:
        table, key = CONTRACT.snapshot_table, CONTRACT.key.name
        store.execute(f"update {table} set age = 700 where {key} in (select {key} from {table} limit 3)")  # noqa: S608 - names of the contract
    store.close()
    capsys.readouterr()
    assert run(["validate"]) == 3
    shown = capsys.readouterr()
    assert "age is above 120 in 3 of" in shown.err
    assert "value 700" in shown.out
    assert run(["validate", "--json"]) == 3
    (breach,) = json.loads(capsys.readouterr().out)["breaches"]
    assert (breach["column"], breach["rule"], breach["count"]) == ("age", "is above 120", 3)
    page = tmp_path / "var" / "reports" / "validation" / "2025-08-31.html"
    assert "is above 120" in page.read_text()
    assert run(["train", "--profile", "smoke"]) == 3
