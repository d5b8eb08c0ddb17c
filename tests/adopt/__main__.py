"""`make adopt`: five foreign data sets become services, each in a copy of the repository, without an edit of the engine.

Each goes from a CSV file to an answered and logged prediction by `ctcd init` and `ctcd demo`. For one of them the unit
suite, the quick planted defects and the instance's tests run too, or the targets given as arguments.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adopt.datasets import DATASETS, FULL, DataSet, write

ROOT = Path(__file__).parents[2]
CHECKS = ("lint", "unit", "prove-quick", "contracts")
AT_ONCE = 2


def main() -> int:
    """Return 0 if everything passes and nothing outside `contracts/` differs, else 1."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adopt-") as scratch:
        data = Path(scratch) / "data"
        write(data)
        copies = {each: Path(scratch) / each.file.removesuffix(".csv") for each in DATASETS}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            problems = [
                problem
                for found in pool.map(lambda each: adopted(each, data / each.file, copies[each]), DATASETS)
                for problem in found
            ]
        if not problems:
            checks = sys.argv[1:] or CHECKS
            problems = [f"make {check} fails" for check in checks if not made(check, copies[FULL])]
            problems += edited(copies[FULL])
    for problem in problems:
        report(problem)
    if not problems:
        report(f"every check passes, nothing outside contracts/ was edited; {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


def adopted(each: DataSet, file: Path, copy: Path) -> list[str]:
    """Turn a data set into an instance in a copy of the repository, run its loop on its rows, and return what went wrong."""
    copy_repository(copy)
    home = copy.with_name(f"{copy.name}-home")
    for arguments, wanted in (
        (("init", str(file), "--label", each.label, "--replace"), "drafted contract"),
        (("contract", "check"), "no problems"),
        (("demo", "--data", str(file)), "with this request id: 1"),
    ):
        began = time.monotonic()
        command = [sys.executable, "-c", "from ctcd.cli import main; main()", *arguments]
        environment = settings(copy) | {"CTCD_HOME": str(home), "CTCD_THREADS": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True, text=True)  # noqa: S603 - our own command
        report(f"{each.file}: ctcd {arguments[0]} took {time.monotonic() - began:.0f} s")
        if done.returncode != 0 or wanted not in done.stdout:
            return [
                f"{each.file}: ctcd {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            ]
    return edited(copy)


def copy_repository(copy: Path) -> None:
    """Copy and commit the files that git knows or would add."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    git(copy, "init", "--quiet")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--no-verify", "--message", "the template")
    (copy / ".venv").symlink_to(ROOT / ".venv")


def made(check: str, copy: Path) -> bool:
    """Run a target of the copy's Makefile, with its output shown, and return whether it succeeds."""
    began = time.monotonic()
    # The environment is that of this checkout, whose code is installed in it: it is not brought up to date for the copy.
    command = ["make", "--old-file", ".venv/.dev", check]
    done = subprocess.run(command, cwd=copy, env=settings(copy), check=False)  # noqa: S603 - make of the PATH and a target of ours
    report(f"make {check} {'passed' if done.returncode == 0 else 'failed'} in {time.monotonic() - began:.0f} s")
    return done.returncode == 0


def settings(copy: Path) -> dict[str, str]:
    """Return an environment in which the code of a copy is what is imported, which EXPECT_WHEEL makes the tests check."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTCD_", "MAKE"))}
    return environment | {"PYTHONPATH": str(copy / "src"), "EXPECT_WHEEL": str(copy / "src")}


def edited(copy: Path) -> list[str]:
    """Return a problem for each path outside `contracts/` that differs from the template."""
    status = git(copy, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z")
    paths = [entry[3:] for entry in status.split("\0") if entry and entry[3:] != ".venv"]
    return [f"{copy.name}: {path} differs" for path in paths if not path.startswith("contracts/")]


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    identity = ("-c", "user.name=adopt", "-c", "user.email=adopt@localhost", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603 - git of the PATH


def report(message: str) -> None:
    """Print progress at once, also into a pipe."""
    sys.stdout.write(f"adopt: {message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
