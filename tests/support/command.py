"""Runs the `ctcd` command as its user does, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("ctcd")
INSTALLED = (str(COMMAND),)
TIMEOUT_SECONDS = 600
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Command:
    """The command with a home and a store of its own.

    Args:
        home: folder for everything embedded.
        store_url: the feature store; empty: a SQLite file in home.
        program: what is started; another one than the installed command is that of `warm_commands`.
    """

    home: Path
    store_url: str = ""
    program: tuple[str, ...] = INSTALLED

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it; what it prints is captured."""
        environment = {
            **os.environ,
            "CTCD_HOME": str(self.home),
            "FEATURE_STORE_URL": self.store_url,
            "MLFLOW_TRACKING_URI": "",
        }
        self.home.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(  # noqa: S603 - our own command
            [*self.program, *arguments],
            env=environment,
            cwd=self.home,  # the installed package is imported, not the checkout
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def report(self, *arguments: str) -> dict[str, Any]:
        """Run it with --json, expect success and return its report."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document
