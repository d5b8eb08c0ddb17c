"""What surrounds a command: closed or full outputs, interrupts, odd files, and callers that read JSON."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from support.command import COMMAND
from support.instance import CONTRACT, INSTANCE
from support.warm_commands import Program

pytestmark = pytest.mark.integration

READINGS = f"{CONTRACT.features_table}.csv"
LONG = "x" * 300
"""A name that is too long for every file system."""
PATIENCE = 300
"""Seconds after which a command is taken to hang."""


def shell(home: Path, script: str, *, commands: Path = COMMAND.parent) -> "subprocess.CompletedProcess[str]":
    """Run a script in bash in which `ctcd` is our command, or the one in another folder, with a home of its own."""
    variables = os.environ | {
        "CTCD_HOME": str(home / "var"),
        "CTCD_CONTRACTS": str(INSTANCE.folder),
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(  # noqa: S603 - our own script
        ["bash", "-c", f"set -o pipefail; {script}"],  # noqa: S607 - bash on the PATH
        env=variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def warm(warm_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `ctcd` that saves the imports of each call."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "ctcd").write_text(f'#!/bin/sh\nexec {shlex.join(warm_program())} "$@"\n')
    (folder / "ctcd").chmod(0o755)
    return folder


@pytest.fixture
def _registry(tmp_path: Path, empty_mlflow: Path) -> None:
    """A registry in the home that need not be created."""
    (tmp_path / "var").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "var")


@pytest.mark.parametrize("command", ["config --json", "--help"])
@pytest.mark.parametrize("ending", ["| head -1", "| true", ">&-", ">&- 2>&-", "<&-", "2>&1 | true"])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, command: str, ending: str) -> None:
    """A command whose output is closed does its work in silence, with its own exit code."""
    done = shell(tmp_path, f"ctcd {command} {ending}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_output_keeps_the_exit_code(tmp_path: Path) -> None:
    """A failure stays one, also where nobody reads what it says; a file that is opened is not taken for an output."""
    assert shell(tmp_path, "ctcd ingest nowhere >&- 2>&-").returncode == 2
    assert shell(tmp_path, "ctcd migrate >&- 2>&-; ctcd snapshot --base-dt 2025-08-31 >&- 2>&-").returncode == 5
    assert (tmp_path / "var" / "store.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize("command", ["config", "config --json", "contract check"])
def test_a_full_disk_behind_the_output_is_told(tmp_path: Path, command: str) -> None:
    """An output that cannot be written is a failure, unlike one that nobody wants."""
    done = shell(tmp_path, f"ctcd {command} > /dev/full")
    message = "standard output: cannot be written: No space left on device"
    said = json.dumps({"error": message, "exit_code": 2}) if "--json" in command else f"error: {message}"
    assert (done.returncode, done.stderr) == (2, f"{said}\n")


def test_a_full_disk_behind_the_errors_keeps_the_exit_code(tmp_path: Path) -> None:
    """There is nowhere left to say it."""
    assert shell(tmp_path, "ctcd ingest nowhere 2> /dev/full").returncode == 2
    assert shell(tmp_path, "ctcd config 2> /dev/full").returncode == 0


@pytest.mark.parametrize("module", ["typer", "pydantic", "numpy", "sqlalchemy", "pandas", "ctcd.store.engine"])
def test_an_interrupt_is_one_line_also_while_modules_load(tmp_path: Path, module: str) -> None:
    """Ctrl-C at any import, also inside a module in C that makes it an ImportError, is exit code 130 and one line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        f"                raise {'ImportError' if module == 'numpy' else 'KeyboardInterrupt'}\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = shell(tmp_path, f"PYTHONPATH={tmp_path} ctcd snapshot --base-dt 2025-08-31")
    assert (done.returncode, done.stderr) == (130, "error: interrupted; the command can be run again\n")


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("command", ["ingest", "predict"])
@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "ln -s /dev/zero", "ln -s /dev/null", "ln -s nowhere"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, warm: Path, command: str, make: str) -> None:
    """A pipe would be waited for, a device would be read forever: neither is opened, nor is a folder or a dead link."""
    done = shell(tmp_path, f"{make} {READINGS}; ctcd {command} {READINGS}", commands=warm)
    assert done.returncode in ((2,) if command == "ingest" else (2, 5))
    assert done.stderr.startswith("error: ")
    assert "please report it" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    "call",
    [
        f"ctcd ingest {LONG}",
        f"ctcd ingest {LONG}/{READINGS}",
        f"ctcd predict {LONG}.csv",
        f"ctcd generate {LONG}",
        f"ctcd demo --data {LONG}",
        f"CTCD_HOME={LONG} ctcd migrate",
        f"CTCD_HOME={LONG} ctcd train",
        f"CTCD_CONTRACTS={LONG} ctcd migrate",
        f"FEATURE_STORE_URL=sqlite:///{LONG}/store.db ctcd migrate",
        f"FEATURE_STORE_URL=sqlite:///{LONG} ctcd migrate",
        f"MLFLOW_TRACKING_URI=sqlite:///{LONG}/mlflow.db ctcd promote",
        f"MLFLOW_TRACKING_URI=sqlite:///{LONG} ctcd promote",
        "FEATURE_STORE_URL='sqlite:///store.db?foo=bar' ctcd migrate",
        "FEATURE_STORE_URL='mysql+pymysql://u:p@127.0.0.1:1/x?foo=bar' ctcd migrate",
        "ctcd snapshot --base-dt 0001-01-01",
        "ctcd validate --base-dt 9999-12-31",
        "ctcd generate raw --rows 10 --end 0001-01-01",
        "ctcd generate raw --rows 10 --seed -1",
        "ctcd generate raw --rows 10 --error-rate nan",
        "ctcd generate raw --rows 99999999999999999999",
        "CTCD_REQUEST_SECONDS=inf ctcd migrate",
        "CTCD_FOLLOW_SECONDS=nan ctcd migrate",
        "CTCD_SEED=-1 ctcd migrate",
        "CTCD_PROT=3000 ctcd migrate",
    ],
)
def test_a_mistake_of_the_caller_is_told_as_one_also_in_json(tmp_path: Path, warm: Path, call: str) -> None:
    """Whatever is wrong with a path, a day, a number or a URL is not an unexpected error; with --json it is JSON."""
    done = shell(tmp_path, call, commands=warm)
    assert done.returncode in (2, 5 if "predict" in call else 6), done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "please report it" not in done.stderr
    if "migrate" not in call and "demo" not in call and "promote" not in call:
        as_json = shell(tmp_path, f"{call} --json", commands=warm)
        assert as_json.returncode == done.returncode
        assert as_json.stdout == ""
        reported = json.loads(as_json.stderr)
        assert reported == {"error": done.stderr.removeprefix("error: ").strip(), "exit_code": done.returncode}


def test_every_number_of_an_option_has_bounds() -> None:
    """No option takes a number for which nothing could be done."""
    from ctcd.cli.app import COMMANDS, load

    for name in COMMANDS:
        group = load(name)
        for command in getattr(group, "commands", {name: group}).values():
            for option in command.params:
                if option.type_descriptor.annotation in {int, float}:
                    assert option.min is not None, (name, option.name)
                    assert option.max is not None, (name, option.name)
