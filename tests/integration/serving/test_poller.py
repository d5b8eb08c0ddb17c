"""The process that polls the registry."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.load import wait

from ctcd.files import locked
from ctcd.settings import Settings

pytestmark = pytest.mark.integration

SCRIPT = """
import atexit
from ctcd.serving.champion.poller import main
atexit.register(print, "handlers were run")
main()
"""


def test_a_poll_that_hangs_is_left_without_a_normal_exit(tmp_path: Path) -> None:
    """Exit handlers would delete temporary folders to which the poll still writes, and report that they cannot."""
    lock = tmp_path / ".mlflow.db.lock"
    with locked(lock):
        process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-c", SCRIPT],
            env=os.environ | Settings(home=tmp_path).environment_variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait(lambda: any(file.path == str(lock) for file in psutil.Process(process.pid).open_files()))
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
