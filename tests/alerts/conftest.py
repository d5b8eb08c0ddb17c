"""The tools of Prometheus and Alertmanager, which `make alerts` installs."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Run promtool or amtool in a folder of the test's own."""

    def called(name: str, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        program = shutil.which(name)
        assert program, f"{name} is not installed: run make alerts"
        return subprocess.run(  # noqa: S603 - a tool of the system
            [program, *arguments], cwd=tmp_path, input=given, capture_output=True, text=True, check=False
        )

    return called
