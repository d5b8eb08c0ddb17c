"""The command line: help, exit codes, one line for every error."""

import json
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console
from support.instance import CONTRACT, INSTANCE

from ctcd.cli import app as command_line
from ctcd.cli import demo
from ctcd.cli.app import COMMANDS, load, run
from ctcd.errors import CtcdError, DataRefused, GateRefused, NotFound, Unreachable, UsageError
from ctcd.promotion.decision import Decision, RuleResult, Status, to_markdown
from ctcd.promotion.gate import GateOutcome
from ctcd.registry.versions import RegisteredVersion
from ctcd.scoring.replay import Difference, Replayed, ReplayReport
from ctcd.settings import Settings, load_settings
from ctcd.stages import audit, connections, promotion
from ctcd.store.engine import transaction
from ctcd.store.tables import build_tables

GROUPS = {
    "traffic": ("start", "step", "stop", "status", "judge"),
    "contract": ("check", "diff", "lock"),
    "findings": ("close", "due", "list", "show"),
    "outbox": ("export", "list", "retry"),
    "training": ("finish", "prepare", "trial"),
}
SCREEN_LINES, SCREEN_COLUMNS = 43, 100
IMAGE = f"registry.example/api@sha256:{'1' * 64}"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path / "var"))
    for name in ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _empty_registry(tmp_path: Path, empty_mlflow: Path) -> None:
    """A registry that need not be created."""
    (tmp_path / "var").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "var")


def test_the_help_lists_every_command_by_stage_on_one_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--help names each command, with its summary on the same line, each stage and every exit code."""
    monkeypatch.setattr(command_line, "out", Console(width=SCREEN_COLUMNS))
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN_LINES
    for name, entry in COMMANDS.items():
        assert [line for line in lines if f" {name} " in line and entry.summary in line], name
    shown = " ".join(lines)
    assert all(f" {entry.stage}  " in shown for entry in COMMANDS.values())
    kinds: list[type[CtcdError]] = [CtcdError, *CtcdError.__subclasses__()]
    assert all(f"{kind.exit_code} " in shown[shown.index("Exit codes") :] for kind in kinds)


@pytest.mark.parametrize("call", [["lookup"], ["generate"], ["predict"], ["outbox", "export"]])
def test_an_argument_that_is_no_text_is_refused(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8, as of a file from an old system, reach no library and no database."""
    assert run([*call, "x\udcff"]) == 2
    assert "'x\\udcff': the argument is not UTF-8" in capsys.readouterr().err


def test_an_empty_path_is_one_that_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell variable that is not set does not select the current folder; an argument that has no default is missing."""
    monkeypatch.chdir(tmp_path)
    assert run(["generate", "", "--rows", "200"]) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["var"]
    assert run(["outbox", "export", ""]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its help, and that of the commands of a group, has an example of a call and the exit codes."""
    calls = [(name, each) for each in GROUPS[name]] if name in GROUPS else [(name,)]
    assert sorted(getattr(load(name), "commands", {})) == sorted(GROUPS.get(name, ()))
    for call in calls:
        assert run([*call, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert f"Example: ctcd {' '.join(call)}" in shown
        assert "Exit codes" in shown


@pytest.mark.parametrize("name", ["drift", "performance"])
def test_a_report_about_past_days_says_which(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its base date is the day after them."""
    assert run([name, "--help"]) == 0
    assert "Day after the days that are looked at" in " ".join(
        re.sub("[^A-Za-z ]", " ", capsys.readouterr().out).split()
    )


def test_no_argument_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The bare command shows its help and no error."""
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "Usage" in shown.out
    assert shown.err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("_empty_registry")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ingest", "nowhere"], 2, "nowhere"),
        (["snapshot", "--base-dt", "2025-02-30"], 2, "2025-02-30"),
        (["snapshot", "--base-dt", "2025-08-31"], 5, "2025-08-31"),
        (["validate"], 5, "ctcd snapshot"),
        (["validate", "--base-dt", "2025-08-31"], 5, "2025-08-31"),
        (["train"], 5, "ctcd snapshot"),
        (["frobnicate"], 2, "frobnicate"),
        (["promot"], 2, "promote"),
        (["contract", "frobnicate"], 2, "frobnicate"),
        (["snapshot", "--months", "0"], 2, "--months"),
        (["gate", "--version", "1", "--run-id", "x"], 2, "--run-id"),
        (["gate", "--version", "1"], 5, "version 1"),
        (["deploy"], 5, "champion"),
        (["deploy", "--version", "1"], 5, "version 1"),
        (["deploy", "--version", ""], 5, "version"),
        (["deploy", "--image", IMAGE], 2, "--image"),
        (["deploy", "--target", "compose", "--image", "api:latest"], 2, "by digest"),
        (["deploy", "--target", "compose", "--image", ""], 2, "by digest"),
        (["deploy", "--target", "moon"], 2, "moon"),
        (["deploy", "--check", "--promote"], 2, "--check"),
        (["deploy", "--check", "--version", "1"], 2, "--check"),
        (["deploy", "--render"], 2, "--target kubernetes"),
        (["deploy", "--render", "--target", "kubernetes", "--promote"], 2, "--render"),
        (["image"], 5, "champion"),
        (["smoke"], 5, "champion"),
        (["rollback"], 5, "champion"),
        (["rollback", "--failed", "1"], 5, "champion"),
        (["rollback", "--failed", "", "--to", "1"], 2, "--failed"),
        (["rollback", "--failed", "1", "--target", "process", "--image-only"], 2, "--failed"),
        (["rollback", "--image-only"], 2, "--target"),
        (["predict"], 2, "SOURCE"),
        (["predict", "rows.csv", "--new"], 2, "--new"),
        (["predict", "--new", "--out", "scores.csv"], 2, "--out"),
        (["predict", "rows.csv"], 2, "rows.csv: there is no such file"),
        (["predict", CONTRACT.features_table], 5, "champion"),
        (["replay"], 2, "--sample"),
        (["replay", "r-1", "--sample", "5"], 2, "--sample"),
        (["replay", "--sample", "0"], 2, "--sample"),
        (["replay", "--from", "yesterday"], 2, "yesterday"),
        (["replay", "--from", "2025-08-31T25:00:00"], 2, "2025-08-31T25:00:00"),
        (["replay", "r-1"], 5, "r-1"),
        (["replay", "--from", "2025-09-01", "--to", "2025-08-31"], 2, "begins at 2025-09-01"),
        (["history", "--from", "2025-09-01", "--to", "2025-08-31"], 2, "begins at 2025-09-01"),
        (["history", "--at", "2025-08-31T12:30:05", "--to", "2025-08-31"], 2, "--at"),
    ],
)
def test_a_mistake_ends_in_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """Whatever is wrong is reported in one line on standard error, without a traceback."""
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


@pytest.mark.slow
def test_a_mistake_is_one_line_even_if_the_registry_is_created(capsys: pytest.CaptureFixture[str]) -> None:
    """The first command in an empty home reports what is wrong, and nothing of the database that it has made."""
    assert run(["predict", CONTRACT.features_table]) == 5
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "champion" in shown.err
    assert shown.err.count("\n") == 1


def test_a_missing_instance_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without an instance is named, with exit code 2."""
    monkeypatch.setenv("CTCD_CONTRACTS", "nowhere")
    assert run(["contract", "lock"]) == 2
    shown = capsys.readouterr()
    assert "nowhere" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("revision", ["no-such-branch", "1" * 40, "--all"])
def test_a_revision_that_does_not_exist_is_not_one_without_a_contract(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], revision: str
) -> None:
    """A branch whose name is misspelled would pass every change; one from before the first contract has nothing to compare."""
    monkeypatch.setenv("CTCD_CONTRACTS", str(INSTANCE.folder))
    assert run(["contract", "diff", "--", revision]) == 2
    assert f"{revision!r} is not a revision of the checkout" in capsys.readouterr().err


def test_a_folder_that_cannot_be_copied_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as an instance with the link that Emacs makes beside a file: what cannot be copied is named, and is no bug."""
    (tmp_path / "instance").mkdir()
    link = tmp_path / "instance" / ".#features.py"
    link.symlink_to("somebody@host.1")

    def fail(*_: object, **__: object) -> None:
        shutil.copytree(link.parent, tmp_path / "copy")

    monkeypatch.setattr(command_line, "app", fail)
    assert run([]) == 2
    assert capsys.readouterr().err == f"error: [Errno 2] No such file or directory: '{link}'\n"


def test_links_that_lead_to_each_other_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are named wherever they were given, and are no bug."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for name in ("CTCD_HOME", "CTCD_CONTRACTS"):
        with monkeypatch.context() as given:
            given.setenv(name, str(loop))
            assert run(["contract", "lock", "--check"]) == 2
        assert capsys.readouterr().err == f"error: {loop}: Too many levels of symbolic links\n"


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
    """Expected errors, an interrupt and a bug have different exit codes, and one line each."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    assert run([]) == code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "code", "message"), [("jsonschema", 2, "make install"), ("ctcd.nothing", 1, "report")]
)
def test_a_missing_package_says_what_to_do(
    module: str, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that is not installed is named, with the command that installs it; a module of ours is a defect."""

    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("ctcd.cli.app.app", fail)
    assert run(["contract", "lock"]) == code
    error = capsys.readouterr().err
    assert module in error
    assert message in error
    assert len(error.splitlines()) == 1


def test_settings_are_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config` shows the settings in force and where they come from, and never a password or key."""
    monkeypatch.setenv("FEATURE_STORE_URL", "mysql+pymysql://user:hunter2@127.0.0.1:1/mlops")
    monkeypatch.setenv("CTCD_API_KEYS", "swordfish-0123456789abcdef0123456789")
    for arguments in (["config"], ["config", "--json"]):
        assert run(arguments) == 0
        shown = capsys.readouterr().out
        assert "hunter2" not in shown
        assert "swordfish" not in shown
        assert "127.0.0.1" in shown


@pytest.mark.parametrize("code", [0, None, 3, "stopped"])
def test_an_instance_that_ends_the_process_is_an_error(
    code: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """sys.exit(0) in an estimator or a contract is no success of the command that ran it."""

    def end(*_: object, **__: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(promotion, "gate", end)
    assert run(["gate"]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: the instance's code, such as its estimator, called sys.exit({code!r})"
    )


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that cannot be used is named with its rule."""
    monkeypatch.setenv("CTCD_PORT", "0")
    assert run(["config"]) == 2
    assert "CTCD_PORT" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("_empty_registry")
def test_without_a_champion_there_is_nothing_to_deploy_or_to_score(capsys: pytest.CaptureFixture[str]) -> None:
    """`deploy --check` skips, `predict --new` scores nothing and `stop` stops nothing; none of them fails."""
    assert run(["deploy", "--check", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert (checked["action"], checked["reason"]) == ("skip", "there is no champion yet")
    assert run(["predict", "--new", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert (scored["model_version"], scored["rows"]) == (None, 0)
    assert run(["stop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False, "unrecorded": ""}


@pytest.mark.slow
def test_a_request_is_found_in_the_log_with_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """`lookup` shows every logged row of a request; one that is not in the log is exit code 5, and names it."""
    settings = load_settings()
    assert run(["lookup", "r-1"]) == 5
    assert "no prediction has the request id 'r-1'" in capsys.readouterr().err
    with transaction(connections.open_store(settings)) as connection:
        for version in ("1", "2"):
            row = {"features": {"hours": 1}, "prediction": "worn", "confidence": 0.5, "elapsed_ms": 1.5}
            keys = {CONTRACT.group.name: 4_711, "request_id": f"r-{version}", "model_version": version}
            values = {**row, **keys, "created_at": datetime(2025, 1, 2, tzinfo=UTC)}
            connection.execute(build_tables(CONTRACT).predictions.insert(), [values])
    assert run(["lookup", "r-1", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["prediction"], found["confidence"], found["model_version"]) == ("worn", 0.5, "1")
    assert found["features"] == {"hours": 1}
    assert run(["lookup", "r-2"]) == 0
    shown = capsys.readouterr().out
    assert "worn" in shown
    assert "2025-01-02T00:00:00.000000Z" in shown


@pytest.mark.slow
def test_the_request_of_a_batch_is_found_with_each_of_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Their ids are that of the request without dashes, and a number; rows of other batches are not among them."""
    batch, other = (UUID(int=number << 64) for number in (1, 2))
    with transaction(connections.open_store(load_settings())) as connection:
        known = {"features": {}, "prediction": "worn", "confidence": 0.5, "elapsed_ms": 1.5, "model_version": "1"}
        known |= {CONTRACT.group.name: 1, "created_at": datetime(2025, 1, 2, tzinfo=UTC)}
        ids = [f"{each.hex}{number:04d}" for number in (0, 1, 9_999) for each in (batch, other)]
        rows = [known | {"request_id": each} for each in ids]
        connection.execute(build_tables(CONTRACT).predictions.insert(), rows)
    assert run(["lookup", str(batch), "--json"]) == 0
    assert [row["request_id"] for row in json.loads(capsys.readouterr().out)] == ids[::2]
    assert run(["lookup", ids[1], "--json"]) == 0
    assert [row["request_id"] for row in json.loads(capsys.readouterr().out)] == [ids[1]]


@pytest.mark.parametrize(("different", "missing", "code"), [(0, 0, 0), (1, 0, 4), (0, 2, 5), (1, 2, 4)])
def test_a_replay_says_what_differs_and_ends_in_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    different: int,
    missing: int,
    code: int,
) -> None:
    """4 if an answer differs, otherwise 5 if one could not be computed; the report is printed either way."""
    difference = Difference(
        request_id="r-1", model_version="1", run_id="run 1", field="confidence", logged=0.5, computed=0.25
    )
    versions = [
        Replayed(model_version="1", run_id="run 1", answers=5, equal=5 - different, different=different, partial=2),
        Replayed(model_version="2", run_id="", answers=missing, problem="there is no version 2 any more"),
    ]
    report = ReplayReport(
        answers=5 + missing,
        equal=5 - different,
        different=different,
        partial=2,
        not_computed=missing,
        seconds=0.1,
        versions=tuple(versions[: 1 + bool(missing)]),
        differences=(difference,) * different,
    )
    monkeypatch.setattr(audit, "replay", lambda *_, **__: report)
    assert run(["replay", "r-1", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["differences"] == [asdict(difference)] * different
    assert run(["replay", "r-1"]) == code
    shown = capsys.readouterr()
    assert ("0.25" in shown.out, "no version 2" in shown.out) == (bool(different), bool(missing))
    assert ("1 of" in shown.err, "2 of 7" in shown.err) == (bool(different), bool(missing) and not different)


@pytest.mark.slow
@pytest.mark.usefixtures("_empty_registry")
def test_a_history_shows_answers_changes_and_what_is_in_service(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a period; of a second without an answer, the last one before it. A time that is printed can be given as it is."""
    settings = load_settings()
    with transaction(connections.open_store(settings)) as connection:
        known = {"features": {}, "prediction": "worn", "confidence": 0.5, "elapsed_ms": 1.5, "model_version": "7"}
        known |= {CONTRACT.group.name: 1, "created_at": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)}
        connection.execute(build_tables(CONTRACT).predictions.insert(), [known | {"request_id": "r"}])
    registry = connections.open_registry(settings)
    version = RegisteredVersion(model_name="", version="7", run_id="run 7", aliases=(), created_at="", tags={}, uri="")
    registry.record_deployment(version, before="6", reason="Monday", target="compose (local)", artifact="api@sha256:1")
    assert run(["history", "--from", "2025-01-02"]) == 0
    shown = capsys.readouterr().out
    begin = datetime(2025, 1, 2, tzinfo=ZoneInfo(settings.timezone)).astimezone(UTC)
    assert begin.utcoffset() != begin.astimezone(ZoneInfo(settings.timezone)).utcoffset()
    assert re.search(rf"What answered from {begin:%Y-%m-%dT%H:%M:%S}Z to \S+T\d\d:\d\d:\d\dZ\s", shown)
    for text in (
        "2025-01-02T03:04:05Z",
        "Monday",
        settings.who,
        "deployed at compose (local): version 7",
        "none on record",
    ):
        assert text in shown
    assert run(["history", "--at", "2025-01-02T03:04:06+00:00"]) == 0
    shown = capsys.readouterr().out
    assert "nothing answered from 2025-01-02T03:04:06Z to 2025-01-02T03:04:07Z" in shown
    assert "the last answer before is of 2025-01-02T03:04:05Z, by version 7" in shown
    assert "no change of what is in service is on record" in shown
    assert run(["history", "--at", "2025-01-02T03:04:05Z", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["model_version"] for each in found["answering"]] == ["7"]
    assert (found["changes"], found["champion"]) == ([], None)


def test_the_log_of_a_judged_version_has_every_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With --json, standard error shows the decision's short form, as the log of an Airflow task does."""
    rules = (
        RuleResult(name="accuracy", value=0.9, limit=0.6, passed=True, explanation="at or above its floor"),
        RuleResult(name="artifact in MB", value=101.0, limit=100.0, passed=False, explanation="101 is above its limit"),
    )
    decision = Decision(
        status=Status.REFUSE,
        candidate="3",
        candidate_run="r",
        champion=None,
        champion_run=None,
        holdout="0",
        rules=rules,
    )
    short_form = tmp_path / "1.md"
    short_form.write_text(to_markdown(decision))
    outcome = GateOutcome(
        version="3",
        run_id="r",
        status=decision.status,
        promote=False,
        reasons=decision.reasons,
        decision=decision,
        candidate=None,
        champion=None,
        json_file="1.json",
        markdown_file=str(short_form),
        page_file="1.html",
    )
    monkeypatch.setattr(promotion, "gate", lambda *_, **__: outcome)
    assert run(["gate", "--json"]) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "refuse"
    assert shown.err.startswith(f"{to_markdown(decision)}\n")
    # The link is for people, and only where MLflow has pages.
    assert "MLflow:" not in shown.out + shown.err
    assert run(["gate"]) == 4
    assert "MLflow:" not in capsys.readouterr().out
    monkeypatch.setenv("CTCD_MLFLOW_UI", "https://mlflow.example/")
    assert run(["gate"]) == 4
    assert f"MLflow: https://mlflow.example/#/models/{CONTRACT.name}/versions/3\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_empty_registry")
def test_without_a_version_there_is_nothing_to_list_or_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """`models` says so, `why` is exit code 5."""
    assert run(["models"]) == 0
    assert "no version yet" in capsys.readouterr().out
    assert run(["why", "1"]) == 5
    assert "there is no version 1" in capsys.readouterr().err


@pytest.mark.slow
def test_data_commands_print_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """From generated files to a validated snapshot, every command prints a JSON report, and the same one twice."""

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


@pytest.mark.slow
def test_a_snapshot_that_breaks_the_contract_is_shown_rule_by_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`validate` opens the store once and shows rule, column, count and keys of changed rows, as table, JSON and page."""
    for arguments in (
        ["generate", "raw", "--rows", "1000", "--end", "2025-08-31"],
        ["ingest", "raw"],
        ["snapshot", "--base-dt", "2025-08-31", "--months", "8"],
    ):
        assert run(arguments) == 0
    store = sqlite3.connect(tmp_path / "var" / "store.db")
    with store:
        table, key = CONTRACT.snapshot_table, CONTRACT.key.name
        store.execute(f"update {table} set vibration = 700 where {key} in (select {key} from {table} limit 3)")  # noqa: S608 - names of the contract
    store.close()
    capsys.readouterr()
    assert run(["validate"]) == 3
    shown = capsys.readouterr()
    assert "vibration is above 100 in 3 of" in shown.err
    assert "'700.0'" in shown.out
    opened = Mock(wraps=connections.open_store)
    monkeypatch.setattr("ctcd.stages.data.open_store", opened)
    assert run(["validate", "--json"]) == 3
    assert opened.call_count == 1
    report = json.loads(capsys.readouterr().out)
    (breach,) = report["breaches"]
    assert (breach["column"], breach["rule"], breach["count"]) == ("vibration", "is above 100", 3)
    page = tmp_path / "var" / "reports" / "validation" / "2025-08-31.html"
    assert Path(report["page"]) == page
    assert "is above 100" in page.read_text()
    assert run(["train", "--profile", "smoke"]) == 3


def test_the_demo_has_a_home_for_each_folder_of_data(tmp_path: Path) -> None:
    """Two folders of the same name share no store; the same folder does, however it is written."""
    folders = [tmp_path / name / "data" for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    homes = [demo._embedded(data).home for data in (*folders, tmp_path / "a" / ".." / "b" / "data", None)]
    assert len(set(homes)) == 3
    assert homes[1] == homes[2]


def test_the_demo_serves_on_a_port_that_is_free_when_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on one that was free before its minutes of training, and that another process may have now."""

    @contextmanager
    def running(_tag: str, settings: Settings, **_options: object) -> Iterator[SimpleNamespace]:
        with socket.socket() as service:
            service.bind((settings.host, settings.port))
            yield SimpleNamespace(url="")

    monkeypatch.setattr("ctcd.serving.launch.running", running)
    monkeypatch.setattr("ctcd.deployment.client.predict", Mock(return_value={"request_id": "1"}))
    monkeypatch.setattr("ctcd.stages.scoring.logged_predictions", Mock(return_value=["1"]))
    settings = demo._embedded(None)
    with socket.socket() as other:
        with suppress(OSError):  # it may be in use
            other.bind((settings.host, settings.port))
        assert demo._ask(settings, "tag", None)[1:] == ({"request_id": "1"}, 1)
