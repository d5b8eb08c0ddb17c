"""The load test from the command line."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def smoke(url: str, reports: Path, key: str = "none") -> "subprocess.CompletedProcess[str]":
    """Run its shortest shape against a service; the reports are written to a folder."""
    command = [sys.executable, "-m", "load", "smoke", "--url", url, "--reports", str(reports), "--key", key]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    # Not in the root of the repository, whose packages would be imported instead of those under test.
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
