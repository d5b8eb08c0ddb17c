"""Each option of each command reaches the stage that it is for, and without it the stage gets the promised default."""

import inspect
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.called import Calls, recording

from ctcd.cli.app import COMMANDS, load, run
from ctcd.deployment.smoke import SmokeReport
from ctcd.deployment.target import TargetName
from ctcd.settings import Settings
from ctcd.stages import deployment, outbox

TODAY, DAY = date(2025, 9, 2), date(2025, 8, 31)
STAGES = (
    "audit",
    "data",
    "deployment",
    "findings",
    "outbox",
    "pipeline",
    "promotion",
    "scoring",
    "site",
    "traffic",
    "training",
)
WITHOUT_STAGE = (("ctcd.derived.synthetic", "write"), ("ctcd.drafts.draft", "draft"), ("ctcd.serving.launch", "serve"))
"""What commands call that have no stage."""
IMAGE = f"registry.example/api@sha256:{'1' * 64}"
NO_TRAINING = {"base_dt": None, "profile": "fast"}
JUDGED = {"version": None, "run_id": None, "today": None, "without_champion": None}
DEPLOYED = {
    "target": TargetName.PROCESS,
    "version": None,
    "image": None,
    "promote": False,
    "reason": "not given",
    "probed": True,
}
REPLAYED: dict[str, Any] = {"requests": (), "begin": None, "end": None, "sample": None}
BACK = {"to": None, "reason": "not given", "target": None, "image_only": False}
WRITTEN = {"rows": 20_000, "seed": 42, "end": TODAY, "months": 8, "error_rate": 0.005}
TABLE = {"path": Path("raw.csv"), "label": "y", "key": None, "group": None, "date": None, "name": None, "version": "1.0.0", "seed": 42}  # fmt: skip

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("write", {**WRITTEN, "folder": Path("var/synthetic")}),
    "generate raw --rows 1000 --seed 7 --end 2025-08-31 --error-rate 0.1": (
        "write", {"folder": Path("raw"), "rows": 1000, "seed": 7, "end": DAY, "months": 8, "error_rate": 0.1},
    ),
    "init raw.csv --label y": ("draft", TABLE),
    "init raw.csv --label y --key k --group g --date d --name n --into made --replace": (
        "draft", {**TABLE, "key": "k", "group": "g", "date": "d", "name": "n", "version": "8.0.0"},
    ),
    "demo": ("write", {**WRITTEN, "folder": Path("demo/machine-condition-synthetic/raw")}),
    "demo --rows 2000 --seed 7": (
        "write", {**WRITTEN, "folder": Path("demo/machine-condition-synthetic/raw"), "rows": 2000, "seed": 7},
    ),
    "demo --data raw": ("run", {"source": Path("raw"), "profile": "fast"}),
    "demo --data raw --profile full": ("run", {"source": Path("raw"), "profile": "full"}),
    "migrate": ("migrate", {}),
    "ingest raw": ("ingest", {"source": Path("raw"), "replace": False}),
    "ingest raw --replace": ("ingest", {"source": Path("raw"), "replace": True}),
    "snapshot": ("snapshot", {"base_dt": TODAY, "months": None}),
    "snapshot --base-dt 2025-08-31 --months 3": ("snapshot", {"base_dt": DAY, "months": 3}),
    "validate": ("validate_snapshot", {"base_dt": None}),
    "validate --base-dt 2025-08-31": ("validate_snapshot", {"base_dt": DAY}),
    "monitor": ("monitor_data", {"base_dt": None, "accept_change": False}),
    "monitor --base-dt 2025-08-31": ("monitor_data", {"base_dt": DAY, "accept_change": False}),
    "monitor --accept-change": ("monitor_data", {"base_dt": None, "accept_change": True}),
    "train": ("train", {**NO_TRAINING, "force": False, "snapshot": None}),
    "train --base-dt 2025-08-31 --profile full": (
        "train", {"base_dt": DAY, "profile": "full", "force": False, "snapshot": None},
    ),
    "train --force": ("train", {**NO_TRAINING, "force": True, "snapshot": None}),
    "training prepare": ("prepare_training", NO_TRAINING),
    "training prepare --base-dt 2025-08-31 --profile full": ("prepare_training", {"base_dt": DAY, "profile": "full"}),
    "training trial 1f0c2e --index 3": ("run_trial", {"training": "1f0c2e", "index": 3}),
    "training finish 1f0c2e": ("finish_training", {"training": "1f0c2e"}),
    "gate": ("gate", JUDGED),
    "gate --version 7": ("gate", {**JUDGED, "version": "7"}),
    "gate --run-id abc": ("gate", {**JUDGED, "run_id": "abc"}),
    "gate --today 2025-08-31": ("gate", {**JUDGED, "today": DAY}),
    "gate --without-champion gone": ("gate", {**JUDGED, "without_champion": "gone"}),
    "promote": ("promote", {"version": None, "reason": "not given"}),
    "promote --version 7 --reason better": ("promote", {"version": "7", "reason": "better"}),
    "models": ("models", {}),
    "why 7": ("why", {"version": "7"}),
    "compare 7 8": ("compare", {"first": "7", "second": "8", "page": None}),
    "compare 7 8 --html c.html": ("compare", {"first": "7", "second": "8", "page": Path("c.html")}),
    "build": ("build", {"version": None}),
    "build --version 7": ("build", {"version": "7"}),
    "image": ("released_image", {"version": None}),
    "image --version 7": ("released_image", {"version": "7"}),
    "deploy": ("deploy", DEPLOYED),
    "deploy --target compose": ("deploy", {**DEPLOYED, "target": TargetName.COMPOSE}),
    "deploy --version 7": ("deploy", {**DEPLOYED, "version": "7"}),
    f"deploy --image {IMAGE}": ("deploy", {**DEPLOYED, "image": IMAGE}),
    "deploy --promote": ("deploy", {**DEPLOYED, "promote": True}),
    "deploy --reason Monday": ("deploy", {**DEPLOYED, "reason": "Monday"}),
    "deploy --no-probe": ("deploy", {**DEPLOYED, "probed": False}),
    "deploy --check": ("check", {}),
    "deploy --render --target kubernetes": ("render_manifests", {"version": None, "image": None}),
    f"deploy --render --target kubernetes --version 7 --image {IMAGE}": (
        "render_manifests", {"version": "7", "image": IMAGE},
    ),
    "smoke": ("smoke", {"version": None, "url": ""}),
    "smoke --version 7": ("smoke", {"version": "7", "url": ""}),
    "smoke --image api:v7": ("smoke_image", {"image": "api:v7", "version": None}),
    "smoke --image api:v7 --version 7": ("smoke_image", {"image": "api:v7", "version": "7"}),
    "rollback": ("roll_back", BACK),
    "rollback --to 7": ("roll_back", {**BACK, "to": "7"}),
    "rollback --reason slow": ("roll_back", {**BACK, "reason": "slow"}),
    "rollback --target compose": ("roll_back", {**BACK, "target": TargetName.COMPOSE}),
    "rollback --target compose --image-only": (
        "roll_back", {**BACK, "target": TargetName.COMPOSE, "image_only": True},
    ),
    "rollback --failed 7": ("roll_back_failed", {"version": "7", "reason": "not given", "target": None}),
    "rollback --failed 7 --target compose --reason slow": (
        "roll_back_failed", {"version": "7", "reason": "slow", "target": TargetName.COMPOSE},
    ),
    "stop": ("stop", {"target": TargetName.PROCESS, "reason": "not given"}),
    "stop --target compose --reason moved": ("stop", {"target": TargetName.COMPOSE, "reason": "moved"}),
    "traffic start 8": ("start", {"version": "8", "kind": "shadow", "reason": "not given"}),
    "traffic start 8 --kind canary --reason spring": ("start", {"version": "8", "kind": "canary", "reason": "spring"}),
    "traffic step": ("step", {"to": None, "reason": "not given"}),
    "traffic step --to 3 --reason quiet": ("step", {"to": 3, "reason": "quiet"}),
    "traffic stop": ("stop", {"reason": "not given"}),
    "traffic stop --reason holidays": ("stop", {"reason": "holidays"}),
    "traffic status": ("status", {}),
    "traffic judge": ("judge", {}),
    "serve": ("serve", {"target": "api:v7", "host": "127.0.0.1", "port": 3000}),
    "serve --host 0.0.0.0 --port 3001": ("serve", {"target": "api:v7", "host": "0.0.0.0", "port": 3001}),  # noqa: S104 - nothing is bound
    "predict rows.csv": ("predict", {"source": "rows.csv", "out": None, "engine": "process"}),
    "predict rows.csv --out scores.csv": (
        "predict", {"source": "rows.csv", "out": Path("scores.csv"), "engine": "process"},
    ),
    "predict rows.parquet --engine spark": ("predict", {"source": "rows.parquet", "out": None, "engine": "spark"}),
    "predict --new": ("predict_new", {"engine": "process"}),
    "predict --new --engine spark": ("predict_new", {"engine": "spark"}),
    "performance": ("performance", {"base_dt": TODAY, "period": "daily"}),
    "performance --base-dt 2025-08-31 --period weekly": ("performance", {"base_dt": DAY, "period": "weekly"}),
    "drift": ("drift", {"base_dt": TODAY, "period": "daily"}),
    "drift --base-dt 2025-08-31 --period weekly": ("drift", {"base_dt": DAY, "period": "weekly"}),
    "export": ("export", {"base_dt": TODAY, "folder": "", "days": 31}),
    "export s3://bucket/log --base-dt 2025-08-31 --days 7": (
        "export", {"base_dt": DAY, "folder": "s3://bucket/log", "days": 7},
    ),
    "export --sql duckdb": ("warehouse_statements", {"folder": "", "table": "", "dialect": "duckdb"}),
    "export gs://bucket/log --sql bigquery --into data.log": (
        "warehouse_statements", {"folder": "gs://bucket/log", "table": "data.log", "dialect": "bigquery"},
    ),
    "lookup r-1": ("lookup", {"request_id": "r-1"}),
    "replay r-1 r-2": ("replay", {**REPLAYED, "requests": ["r-1", "r-2"]}),
    "replay --from 2025-08-31 --to 2025-09-01T12:30:00+09:00 --sample 5": (
        "replay",
        {**REPLAYED, "begin": DAY, "end": datetime(2025, 9, 1, 3, 30, tzinfo=UTC), "sample": 5},
    ),
    "history": ("history", {"begin": None, "end": None, "at": None}),
    "history --from 2025-08-31T12:30:00 --to 2025-09-02": (
        "history", {"begin": datetime(2025, 8, 31, 12, 30), "end": TODAY, "at": None},  # noqa: DTZ001 - the stage adds it
    ),
    "history --at 2025-08-31": ("history", {"begin": None, "end": None, "at": DAY}),
    "outbox list": ("list_outboxes", {}),
    "outbox retry": ("retry", {}),
    "outbox export letters.jsonl": ("export", {"to": Path("letters.jsonl"), "remove": False}),
    "outbox export letters.jsonl --remove": ("export", {"to": Path("letters.jsonl"), "remove": True}),
    "retain": ("retain", {"partition": False}),
    "retain --partition": ("retain", {"partition": True}),
    "report": ("write_site", {"into": None, "load": Path("build/reports/load")}),
    "report --out there --load here": ("write_site", {"into": Path("there"), "load": Path("here")}),
    "findings due": ("training_due", {"started": False}),
    "findings due --started": ("training_due", {"started": True}),
    "findings list": ("list_findings", {"closed": False}),
    "findings list --all --summary summary.md": ("list_findings", {"closed": True}),
    "findings show 3": ("show_finding", {"number": 3}),
    "findings close 3 --reason mended --by ann": ("close_finding", {"number": 3, "reason": "mended", "by": "ann"}),
}  # fmt: skip
"""What each command calls, with all arguments but settings and progress."""

SHOWN = {"--help", "--json"}
ELSEWHERE = {
    "config": "unit/cli/test_command_line.py::test_settings_are_shown_without_secrets",
    "consume": "broker/test_consume.py",
    "contract lock": "integration/cli/test_contract_change.py",
    "contract check": "unit/drafts/test_conformance.py",
    "contract diff": "integration/cli/test_contract_change.py",
    "findings due --outputs": "unit/stages/test_findings.py",
    "gate --summary": "integration/deployment/test_release.py",
    "gate --outputs": "integration/deployment/test_release.py",
    "deploy --summary": "integration/deployment/test_release.py",
    "rollback --summary": "integration/deployment/test_release.py",
}
"""Commands without a stage, and options about what is written; the test that runs them."""


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Names and arguments of the stages that were called; each of them ends its command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path))
    monkeypatch.setattr(Settings, "today", lambda _: TODAY)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw.csv").touch()
    (tmp_path / "made" / "lock").mkdir(parents=True)
    (tmp_path / "made" / "lock" / "contract.json").write_text('{"version": "7.1.0"}')
    calls: Calls = []
    for module in (import_module(f"ctcd.stages.{name}") for name in STAGES):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                monkeypatch.setattr(module, name, recording(function, calls))
    for path, name in WITHOUT_STAGE:
        monkeypatch.setattr(import_module(path), name, recording(getattr(import_module(path), name), calls))
    monkeypatch.setattr(deployment, "servable", lambda _: deployment.Servable(tag="api:v7"))
    return calls


def _shown(name: str, given: dict[str, Any], home: Path) -> tuple[str, dict[str, Any]]:
    """Return a call as it is written above: paths as they were given, of the settings what a command may change."""
    settings = given.pop("settings", None)
    if name == "serve":
        given |= {"host": settings.host, "port": settings.port}
    for each, value in given.items():
        if isinstance(value, Path) and value.is_absolute():
            given[each] = value.relative_to(home)
    return name, {each: value for each, value in given.items() if each not in ("contract", "progress")}


@pytest.mark.parametrize("line", CALLS)
def test_an_option_reaches_its_stage(line: str, called: Calls, tmp_path: Path) -> None:
    """The stage gets what is on the command line, and the promised default of everything else."""
    into = [] if "--into" in line or not line.startswith("init") else ["--into", "new"]
    assert run([*line.split(), *into]) == 1
    assert [_shown(*call, tmp_path) for call in called] == [CALLS[line]]


NO_LETTERS = outbox.RetryReport(sent=0, left={}, unusable={})
EXPORTED = outbox.ExportReport(path=Path("letters.jsonl"), letters=0, removed=False, unusable={})
PROBED = SmokeReport(url="http://api.example", version="7", probes=25, problems=(), median_ms=1.0)
BROKEN = replace(PROBED, problems=("its answers differ from the model's",))
ENDS: list[tuple[str, str, Any, int]] = [
    ("smoke", "deployment.smoke", PROBED, 0),
    ("smoke", "deployment.smoke", BROKEN, 7),
    ("smoke --image api:v7", "deployment.smoke_image", PROBED, 0),
    ("smoke --image api:v7", "deployment.smoke_image", BROKEN, 7),
    ("outbox retry", "outbox.retry", NO_LETTERS, 0),
    ("outbox retry", "outbox.retry", replace(NO_LETTERS, left={"the store refuses it": 1}), 3),
    ("outbox retry", "outbox.retry", replace(NO_LETTERS, unusable={"a.outbox": "it is damaged"}), 6),
    ("outbox export letters.jsonl", "outbox.export", EXPORTED, 0),
    ("outbox export letters.jsonl", "outbox.export", replace(EXPORTED, unusable={"a.outbox": "it is damaged"}), 6),
]
"""What a stage reports, and the exit code of its command; other stages raise what they refuse."""


@pytest.mark.parametrize(("line", "stage", "report", "code"), ENDS)
def test_a_command_fails_if_its_stage_reports_a_failure(
    monkeypatch: pytest.MonkeyPatch, line: str, stage: str, report: object, code: int
) -> None:
    """As text and as JSON, with the exit code of its kind."""
    monkeypatch.setattr(f"ctcd.stages.{stage}", lambda *_, **__: report)
    assert run(line.split()) == code
    assert run([*line.split(), "--json"]) == code


def _commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in COMMANDS:
        command = load(name)
        parts = getattr(command, "commands", None)
        found |= {f"{name} {each}": part for each, part in parts.items()} if parts else {name: command}
    return found


def test_no_command_and_no_option_is_left_out() -> None:
    """Each option is in a call above, or has another test; the commands without a stage have, too."""
    missing = []
    for name, command in _commands().items():
        lines = [line.split() for line in CALLS if f"{line} ".startswith(f"{name} ")]
        options = {
            each for parameter in command.params if parameter.param_type_name == "option" for each in parameter.opts
        }
        missing += [name] if not lines and name not in ELSEWHERE else []
        missing += [
            f"{name} {option}"
            for option in options - SHOWN
            if not any(option in line for line in lines) and not ELSEWHERE.keys() & {name, f"{name} {option}"}
        ]
    assert missing == []
    assert all((Path(__file__).parents[2] / test.partition("::")[0]).is_file() for test in ELSEWHERE.values())
