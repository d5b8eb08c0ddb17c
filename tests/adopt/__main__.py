"""`make adopt`: replace `contracts/` by another instance in a copy of the repository, and run the checks there.

The other instance is that of the engine's tests, which has other columns, classes, tables and names. The checks are the
unit suite, the quick planted defects and the instance's tests, or the targets given as arguments.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHER = "tests/instance"
CHECKS = ("unit", "prove-quick", "contracts")


def main() -> int:
    """Return 0 if every check passes and nothing outside `contracts/` differs, else 1."""
    with tempfile.TemporaryDirectory(prefix="adopt-") as folder:
        copy = Path(folder)
        report(f"copy the repository to {copy} and replace contracts/ by {OTHER}")
        adopt(copy)
        failed = [check for check in sys.argv[1:] or CHECKS if not passes(check, copy)]
        edited = [path for path in changes(copy) if not path.startswith("contracts/")]
    for problem in [*(f"make {check} fails" for check in failed), *(f"{path} differs" for path in edited)]:
        report(problem)
    if not failed and not edited:
        report("every check passes with another contracts/, and nothing else was edited")
    return 1 if failed or edited else 0


def adopt(copy: Path) -> None:
    """Copy and commit the files that git knows or would add, then replace the instance."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    git(copy, "init", "--quiet")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--no-verify", "--message", "the template")
    shutil.rmtree(copy / "contracts")
    shutil.copytree(copy / OTHER, copy / "contracts")
    (copy / ".venv").symlink_to(ROOT / ".venv")


def passes(check: str, copy: Path) -> bool:
    """Run a target of the copy's Makefile, with its output shown, and return whether it succeeds."""
    report(f"make {check} ...")
    started = time.monotonic()
    # The environment is that of this checkout, whose code is installed in it: the copy's comes first, which
    # EXPECT_WHEEL makes the tests check, and the environment is not brought up to date for the copy.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTCD_", "MAKE"))}
    environment |= {"PYTHONPATH": str(copy / "src"), "EXPECT_WHEEL": str(copy / "src")}
    command = ["make", "--old-file", ".venv/.dev", check]
    done = subprocess.run(command, cwd=copy, env=environment, check=False)  # noqa: S603 - make of the PATH and a target of ours
    report(f"make {check}: {'passed' if done.returncode == 0 else 'failed'} in {time.monotonic() - started:.0f} s")
    return done.returncode == 0


def changes(copy: Path) -> list[str]:
    """Return the paths that differ from the template."""
    status = git(copy, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z")
    return [entry[3:] for entry in status.split("\0") if entry and entry[3:] != ".venv"]


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
