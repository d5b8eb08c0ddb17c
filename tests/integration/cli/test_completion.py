"""Completion in a shell, and what the command imports to offer it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import COMMAND

from ctcd.cli.app import COMMANDS

pytestmark = pytest.mark.integration

SLOW = {"bentoml", "great_expectations", "mlflow", "numpy", "pandas", "pandera", "sklearn", "sqlalchemy"}
"""Packages whose import takes longer than a user waits for help."""


def bash(home: Path, script: str) -> str:
    """Run a script in bash, with the command on its path, and return what it prints."""
    variables = {"HOME": str(home), "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}
    done = subprocess.run(  # noqa: S603 - our own script
        ["bash", "--norc", "-c", script],  # noqa: S607 - bash on the PATH
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(home: Path, *words: str, script: str = 'eval "$(ctcd --show-completion)"') -> list[str]:
    """Return what bash offers in place of the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    call = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _ctcd_completion ctcd; echo ${{COMPREPLY[@]}}"
    return bash(home, f"{script}; {call}").split()


def test_bash_completes_commands_and_their_options(tmp_path: Path) -> None:
    """Commands, commands of a group, options and their values are offered."""
    assert completed(tmp_path, "ctcd", "") == list(COMMANDS)
    assert completed(tmp_path, "ctcd", "pr") == ["promote", "predict"]
    assert completed(tmp_path, "ctcd", "training", "") == ["prepare", "trial", "finish"]
    assert completed(tmp_path, "ctcd", "gate", "--run") == ["--run-id"]
    assert completed(tmp_path, "ctcd", "deploy", "--target", "") == ["process", "compose", "kubernetes"]


def test_completion_can_be_installed(tmp_path: Path) -> None:
    """--install-completion makes the next bash of the user complete commands."""
    assert "installed" in bash(tmp_path, "ctcd --install-completion; true")
    assert completed(tmp_path, "ctcd", "roll", script=f'. "{tmp_path}/.bashrc"') == ["rollback"]


@pytest.mark.parametrize(
    "words", [None, "ctcd ga", "ctcd training "], ids=["help", "completion of a command", "completion in a group"]
)
def test_help_and_completion_import_no_slow_package(words: str | None) -> None:
    """The help and the list of commands come without the packages that stages work with."""
    variables = {} if words is None else {
        "_CTCD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))
    }  # fmt: skip
    program = (
        "import sys; from ctcd.cli.app import run\n"
        "sys.argv = ['ctcd', *sys.argv[1:]]\n"
        "try: run()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, *([] if words else ["--help"])],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not set(done.stderr.split()) & SLOW
