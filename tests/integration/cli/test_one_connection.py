"""A database user who may have one connection at a time can run every command."""

import secrets
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from support.instance import CONTRACT
from support.mariadb import own_server

from ctcd.cli.app import run
from ctcd.derived import synthetic

pytestmark = pytest.mark.integration

DAY = "2025-08-31"
COMMANDS = (
    ("migrate",),
    ("ingest", "raw"),
    ("snapshot", "--base-dt", DAY, "--months", "8"),
    ("validate",),
    ("monitor", "--base-dt", DAY),
    ("train", "--profile", "smoke"),
    ("training", "prepare", "--profile", "smoke"),
    ("gate", "--today", DAY),
    ("promote",),
    ("predict", CONTRACT.features_table, "--out", "scores.csv"),
    ("predict", CONTRACT.snapshot_table, "--out", "scores.csv"),
    ("predict", "--new"),
    ("performance", "--base-dt", DAY),
    ("performance", "--base-dt", DAY, "--period", "weekly"),
    ("config",),
)


@pytest.fixture(scope="module")
def modest() -> Iterator[str]:
    """URL of a new database, with a user of its own who may have one connection."""
    password = secrets.token_hex(16)
    with own_server() as server:
        server.execute("CREATE DATABASE modest_test CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        server.execute(f"CREATE USER modest@'%' IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS 1")
        server.execute("GRANT ALL ON modest_test.* TO modest@'%'")
        url = server.url.set(username="modest", password=password, database="modest_test")
        yield url.render_as_string(hide_password=False)


def test_every_command_needs_one_connection(
    modest: str, tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the migration to the performance report, no command opens a second connection."""
    (tmp_path / "var").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "var")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("FEATURE_STORE_URL", modest)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    synthetic.write(CONTRACT, tmp_path / "raw", rows=2_000, seed=7, end=date.fromisoformat(DAY), error_rate=0.01)
    for command in COMMANDS:
        assert run(list(command)) == 0, (command, capsys.readouterr().err)
