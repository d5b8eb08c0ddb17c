"""The home may have any name: all that the embedded mode writes is in it, and nothing of its name is expanded."""

from datetime import date
from pathlib import Path

import pytest
from support.instance import CONTRACT

from ctcd.cli.app import run
from ctcd.derived import synthetic

pytestmark = pytest.mark.integration

DAY = "2025-08-31"
NAME = "a b?c#d%20e$HOME ${USER}'f\"g;&*:@김"
"""Characters that mean something in a URL, in a shell or in Great Expectations' configuration."""
COMMANDS = (
    ("ingest", "raw"),
    ("snapshot", "--base-dt", DAY, "--months", "8"),
    ("validate",),
    ("monitor", "--base-dt", DAY),
    ("train", "--profile", "smoke"),
    ("gate", "--today", DAY),
    ("promote",),
    ("predict", CONTRACT.features_table, "--out", "scores.csv"),
    ("config",),
)
WRITTEN = (
    "store.db",
    "mlflow.db",
    "mlartifacts",
    "reports/data-monitor",
    "reports/data-monitor/index.html",
)


def test_everything_is_in_a_home_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every stage works in a folder with an odd name, and writes into it alone."""
    home = tmp_path / "homes" / NAME
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    # Matplotlib keeps a list of the machine's fonts in the user's cache, whichever program draws first.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path.parent / "matplotlib"))
    monkeypatch.setenv("CTCD_HOME", str(home))
    for name in ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    synthetic.write(CONTRACT, tmp_path / "raw", rows=2_000, seed=7, end=date.fromisoformat(DAY), error_rate=0.01)
    for command in COMMANDS:
        assert run(list(command)) == 0, (command, capsys.readouterr().err)
    # BentoML expands variables in the name of its folder, whatever it is told: it is refused before it writes elsewhere.
    assert run(["build"]) == 2
    assert "BentoML would expand" in capsys.readouterr().err
    assert [path.name for path in home.parent.iterdir()] == [NAME]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["homes", "raw", "scores.csv"]
    assert [path for path in WRITTEN if not (home / path).exists()] == []
