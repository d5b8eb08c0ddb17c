"""The demo runs on the instance."""

from pathlib import Path

import pytest
from support.command import Command
from support.tested_instance import CONTRACT, INSTANCE

pytestmark = pytest.mark.integration
ROWS = 6_000
"""Enough for the slices of the holdout to hold more than chance."""
SECONDS = 540


@pytest.mark.timeout(SECONDS + 60)
def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On synthetic data a model of the profile `fast` passes the gate, is served, and its answer is logged."""
    monkeypatch.setenv("CTCD_CONTRACTS", str(INSTANCE.folder))
    process = Command(tmp_path).start("demo", "--rows", str(ROWS))
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    assert f"rows of {CONTRACT.predictions_table} with this request id: 1" in out
