"""Gates that run on a scratch copy of the repository: tests, and commands of the command line."""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import psutil

from prove.base import Edit, Stale

ROOT = Path(__file__).parents[2]
COPIED = (
    ".github",
    "src",
    "benchmarks",
    "contracts",
    "dags",
    "deploy",
    "docker",
    "docs",
    "examples",
    "scripts",
    "tests",
    "pyproject.toml",
)
INSTANCE = "tests/instance"
"""The instance that commands run on: that of the tests, so that the catalogue holds for every `contracts/`."""
TIMEOUT_SECONDS = 1_200
"""More than any test may take by its own limit."""
PATIENCE_SECONDS = 40
"""How long a test waits for something. With some defects it never comes; a sound copy has to be as quick."""
WARM = Path(__file__).with_name("warm.py")
MAIN = "import sys; from ctcd.cli import main; main(sys.argv[1:])"
TESTS_FAILED, REFUSED = 1, 4
"""Exit codes of pytest and of the command line."""


@contextmanager
def scratch_copy(edits: Sequence[Edit] = ()) -> Iterator[Path]:
    """Yield the root of a committed copy of the repository with some uncommitted edits; the original is not touched.

    Raises:
        Stale: an edit does not fit.
    """
    with tempfile.TemporaryDirectory(prefix="prove-") as folder:
        root = Path(folder)
        shutil.copytree(_sound_copy().name, root, dirs_exist_ok=True)
        for edit in edits:
            edit.apply(root)
        yield root


@cache
def _sound_copy() -> "tempfile.TemporaryDirectory[str]":
    """Make what all scratch copies of this process are copied from; it is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="prove-sound-")
    root = Path(folder.name)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, root / name)
    _run(["git", "init", "--quiet"], root)
    identity = ["-c", "user.name=prove", "-c", "user.email=prove@localhost", "-c", "commit.gpgsign=false"]
    _run(["git", "add", "--all"], root)
    _run(["git", *identity, "commit", "--quiet", "--no-verify", "--message", "sound"], root)
    _run(["git", "gc", "--quiet"], root)
    # Copies keep the files' times, by which Python knows that what was compiled is of the same source.
    _run([sys.executable, "-m", "compileall", "-q", "src", "tests/support", INSTANCE], root)
    return folder


def _environment(root: Path) -> dict[str, str]:
    return {
        **os.environ,
        # The copy is what gets imported; tests/conftest.py checks that it is.
        "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
        "EXPECT_WHEEL": str(root),
        "CTCD_CONTRACTS": str(root / INSTANCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TEST_PATIENCE": str(PATIENCE_SECONDS),
    }


def _run(command: Sequence[str], root: Path) -> "subprocess.CompletedProcess[str]":
    environment = _environment(root)
    return subprocess.run(  # noqa: S603 - git, our own tests and our own command
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )


@dataclass(frozen=True)
class Tests:
    """A gate that is a test, or a file or a folder of tests.

    Args:
        selection: selection in pytest's syntax, relative to the root of the repository.
    """

    selection: str
    quick: bool = False
    __test__ = False  # tells pytest not to collect it

    @property
    def name(self) -> str:
        """The selection, relative to `tests`."""
        return self.selection.removeprefix("tests/")

    def judge(self, plant: Sequence[Edit] | None = None) -> str:
        """Return the first test that fails on a copy with the edits in it; empty if all pass.

        Raises:
            Stale: an edit does not fit, or the edited code cannot be imported, so that no test is what catches it.
        """
        with scratch_copy(plant or ()) as root:
            cases, done = run_tests(root, [self.selection], "--exitfirst")
        if done.returncode not in (0, TESTS_FAILED) or not cases:
            last = next(iter(reversed(done.stdout.strip().splitlines())), done.stderr.strip())
            raise Stale(f"the tests did not run: {last}")
        return next((f"{case.name} failed: {case.problem}" for case in cases if case.problem), "")


@dataclass(frozen=True)
class Command:
    """A gate that is a command of the command line, which ends with exit code 4 when it refuses.

    Args:
        arguments: the arguments of `ctcd`.
    """

    arguments: tuple[str, ...]
    quick: bool = False

    @property
    def name(self) -> str:
        """The command line."""
        return f"ctcd {' '.join(self.arguments)}"

    def judge(self, plant: Sequence[Edit] | None = None) -> str:
        """Return what the command prints when it refuses; empty if it accepts.

        Raises:
            Stale: an edit does not fit, or the command ends with any other exit code.
        """
        with scratch_copy(plant or ()) as root:
            done = _run([sys.executable, "-c", MAIN, *self.arguments], root)
        if done.returncode not in (0, REFUSED):
            raise Stale(f"exit code {done.returncode}: {done.stderr.strip()}")
        return done.stderr.strip() if done.returncode else ""


@dataclass(frozen=True)
class Case:
    """One test that ran.

    Args:
        file: its file, relative to the root of the repository.
        name: its name, with its parameters.
        problem: why it failed or was skipped; empty if it passed.
    """

    file: str
    name: str
    problem: str


def run_tests(
    root: Path, selections: Sequence[str], *options: str
) -> tuple[list[Case], "subprocess.CompletedProcess[str]"]:
    """Run tests of a copy; return the tests that ran and the finished pytest process.

    Raises:
        Stale: they do not end.
    """
    report = root / "report.xml"
    plugins = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
    ]  # the latter takes longer to import than many a test runs
    settings = ["-q", *plugins, "--hypothesis-profile", "unshrunk", f"--junitxml={report}"]
    done = _warm_pytest([*settings, *options, *selections], root, limit=TIMEOUT_SECONDS * len(selections))
    if not report.exists():
        return [], done
    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - pytest has just written it
    return [
        Case(
            file=f"{case.get('classname', '').replace('.', '/')}.py",
            name=case.get("name", ""),
            problem=_problem(case),
        )
        for case in cases
    ], done


@cache
def _warm() -> "subprocess.Popen[str]":
    """Start the process that runs the tests of this one; it ends with it, when its standard input is closed."""
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, str(WARM)], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def end_warm() -> None:
    """End that process, and the tests that it runs."""
    with _warm() as server:
        for process in (*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)):
            process.kill()
    _warm.cache_clear()


def _warm_pytest(arguments: Sequence[str], root: Path, *, limit: int) -> "subprocess.CompletedProcess[str]":
    """Run pytest in a copy, in a fork of a process that has imported the libraries."""
    server, output = _warm(), root / "output.txt"
    assert server.stdin
    assert server.stdout
    request = {"folder": str(root), "environment": _environment(root), "output": str(output), "arguments": arguments}
    server.stdin.write(f"{json.dumps(request)}\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], limit)[0]:
        end_warm()  # what it would still answer would be taken for the answer to the next request
        raise Stale(f"the tests did not end within {limit:,} seconds")
    code = int(server.stdout.readline())
    return subprocess.CompletedProcess(["pytest", *arguments], code, output.read_text(encoding="utf-8"), "")


def _problem(case: ElementTree.Element) -> str:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return f"{kind}: {(found.get('message') or '').strip().partition(chr(10))[0][:160]}"
    return ""


def matches(case: Case, selection: str) -> bool:
    """Return whether a test belongs to a selection."""
    file, _, name = selection.partition("::")
    inside = case.file == file or case.file.startswith(f"{file.rstrip('/')}/")
    return inside and (not name or case.name == name or case.name.startswith(f"{name}["))
