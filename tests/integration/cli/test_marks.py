"""No marked secret and no personal value is in anything that any command says or writes, whether it succeeds or fails."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from socket import create_server, socket

import pytest
from pydantic import SecretStr
from sqlalchemy import URL, make_url
from support.instance import CONTRACT
from support.mariadb import database
from support.marks import (
    CREDENTIALS,
    NAME,
    PASSWORD,
    SECRETS,
    in_files,
    in_texts,
    marked,
    marks_of,
    talkative,
    unreachable,
    with_names,
)

from ctcd.cli.app import COMMANDS, run
from ctcd.derived import synthetic
from ctcd.settings import MLFLOW_SECRETS, Settings, load_settings, variable

pytestmark = pytest.mark.integration

DAY = "2025-08-31"
TABLE = CONTRACT.features_table
STEPS: list[tuple[int, str]] = [
    (0, "config"),
    (0, "contract lock --check"),
    (2, "contract diff no-such-revision"),
    (0, f"generate raw --rows 2000 --seed 7 --end {DAY} --error-rate 0.01"),
    (0, f"init raw/{TABLE}.csv.gz --label grade --into drafted"),
    (5, "ingest raw"),  # before migrate
    (0, "migrate"),
    (0, "ingest raw"),
    (3, "ingest bad"),
    (0, f"snapshot --base-dt {DAY} --months 8"),
    (5, "validate --base-dt 2020-01-01"),
    (0, "validate"),
    (0, f"monitor --base-dt {DAY}"),
    (0, "train --profile smoke"),
    (0, "training prepare --profile smoke"),
    (5, "training trial no-such-training --index 0"),
    (5, "training finish no-such-training"),
    (4, "gate"),  # the data is too old today
    (4, "promote --version 1"),
    (0, f"gate --today {DAY}"),
    (0, "promote"),
    (0, "models"),
    (0, "why 1"),
    (0, "compare 1 1"),
    (0, "traffic status"),
    (0, "traffic judge"),
    (2, "traffic start 1 --kind canary"),
    (5, "traffic stop"),
    (0, "build"),
    (5, "image"),
    (2, "deploy --target process --image registry.example/api:tag"),
    (6, "smoke"),
    (5, "rollback"),
    (0, "stop --target process"),
    (2, "serve --port {port}"),  # which is taken
    (6, "consume"),  # from a broker that does not answer
    (0, f"predict {TABLE} --out scores.csv"),
    (3, f"predict raw/{TABLE}.csv.gz --out scores.csv"),
    (0, "predict --new"),
    (2, "predict --new --engine spark"),  # which is not installed
    (0, f"performance --base-dt {DAY}"),
    (0, f"drift --base-dt {DAY} --period weekly"),
    (0, "findings list"),
    (5, "findings close 99 --reason checked"),
    (5, f"lookup {NAME}"),
    (5, "replay --sample 5"),  # of an empty log
    (0, "history"),
    (0, "export warehouse"),
    (0, "retain"),
    (0, "report"),
    (0, "outbox list"),
    (0, "outbox retry"),
    (0, "outbox export letters.jsonl"),
    (2, f"demo --data {NAME}"),
]
"""Commands with the exit code of each, in an order in which they can be run."""
WITHOUT_JSON = {"migrate", "serve", "consume", "demo"}
ECHOED = {f"lookup {NAME}", f"demo --data {NAME}"}
"""Commands that may repeat what their user has just typed."""


@pytest.fixture
def folder(tmp_path: Path, mariadb: URL, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder whose store is on a server, with marked secrets in all settings that hold one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "var")
    synthetic.write(CONTRACT, tmp_path / "bad", rows=300, seed=7, end=date.fromisoformat(DAY), error_rate=0.3)
    with_names(tmp_path / "bad" / f"{TABLE}.csv.gz")
    with database(mariadb) as url:
        settings = {
            "CTCD_HOME": str(tmp_path / "var"),
            "FEATURE_STORE_URL": marked(url).render_as_string(hide_password=False),
            "CTCD_LOG_LEVEL": "debug",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",  # a server that does not answer is asked again at once
            **CREDENTIALS,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


@pytest.fixture
def taken() -> Iterator[socket]:
    """A socket that listens."""
    with create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_every_secret_has_a_mark() -> None:
    """A setting that is new and holds a secret is marked, too, or this fails."""
    held = {variable(name) for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    marked_ones = CREDENTIALS | unreachable()
    assert held | {*MLFLOW_SECRETS} == set(marked_ones)
    assert all(len([mark for mark in SECRETS if mark in value]) >= 1 for value in marked_ones.values())


def test_no_command_says_a_secret_or_a_name(
    folder: Path, taken: socket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every command, as text and as JSON, while all is there, then with a wrong password, then with nothing that answers."""
    assert {step.split()[0] for _, step in STEPS} == set(COMMANDS)
    url = make_url(load_settings().store_url)
    marks = marks_of(url)
    places = {
        "all is there": {},
        "wrong password": {"FEATURE_STORE_URL": url.set(password=PASSWORD).render_as_string(hide_password=False)},
        "nothing answers": unreachable(),
    }
    for place, changes in places.items():
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        for number, (expected, step) in enumerate(STEPS):
            arguments = step.format(port=taken.getsockname()[1]).split()
            if place != "all is there" and arguments[0] in ("generate", "contract", "demo", "config"):
                continue
            with talkative():
                code = run([*arguments, *(["--json"] if number % 2 and arguments[0] not in WITHOUT_JSON else [])])
            said = capfd.readouterr()
            assert in_texts(marks if step not in ECHOED else SECRETS, out=said.out, err=said.err) == [], step
            assert code == expected or place != "all is there", (step, said.err)
            if arguments[0] == "generate":
                with_names(folder / "raw" / f"{TABLE}.csv.gz")
    raw = [path for name in ("raw", "bad") for path in (folder / name).iterdir()]
    assert in_files([NAME], folder / "raw") != []
    assert in_files(marks, folder, besides=raw) == []
