"""Copies of the repository, and commands that run in them on their own code."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
"""Copies that are worked on at the same time."""


def write_files(copy: Path) -> None:
    """Copy the files that git knows or would add."""
    for name, content in files(ROOT, "--others", "--exclude-standard").items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
        (copy / name).chmod((ROOT / name).stat().st_mode)


def files(folder: Path, *more: str) -> dict[str, bytes]:
    """Return the content of every file that git knows, and of those that more options of `git ls-files` name."""
    names = git(folder, "ls-files", "-z", "--cached", *more).split("\0")
    return {name: (folder / name).read_bytes() for name in names if name and (folder / name).is_file()}


def commit(copy: Path, message: str) -> None:
    """Commit everything in a copy, which becomes a repository that uses this checkout's environment."""
    if not (copy / ".git").exists():
        git(copy, "init", "--quiet")
        (copy / ".git" / "info" / "exclude").write_text(".venv\n")
        (copy / ".venv").symlink_to(ROOT / ".venv")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)


def ctcd(copy: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a copy's code in it."""
    return python(copy, "from ctcd.cli import main; main()", *arguments, **variables)


def python(copy: Path, code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a copy, and on its code."""
    command, environment = [sys.executable, "-c", code, *arguments], settings(copy) | variables
    return subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True, text=True)  # noqa: S603 - our own code


def made(check: str, copy: Path) -> bool:
    """Run a target of the copy's Makefile, with its output shown, and return whether it succeeds."""
    began = time.monotonic()
    # The environment is that of this checkout, whose code is installed in it: it is not brought up to date for the copy.
    command = ["make", "--old-file", ".venv/.dev", check]
    done = subprocess.run(command, cwd=copy, env=settings(copy), check=False)  # noqa: S603 - make of the PATH and a target of ours
    passed = "passed" if done.returncode == 0 else "failed"
    report(f"{copy.name}: make {check} {passed} in {time.monotonic() - began:.0f} s")
    return done.returncode == 0


def settings(copy: Path) -> dict[str, str]:
    """Return an environment in which the code of a copy is what is imported, which EXPECT_WHEEL makes the tests check."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTCD_", "MAKE"))}
    return environment | {"PYTHONPATH": str(copy / "src"), "EXPECT_WHEEL": str(copy / "src")}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    identity = ("-c", "user.name=adopt", "-c", "user.email=adopt@localhost", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603 - git of the PATH


def report(message: str) -> None:
    """Print progress at once, also into a pipe."""
    sys.stdout.write(f"adopt: {message}\n")
    sys.stdout.flush()
