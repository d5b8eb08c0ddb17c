"""`make adopt`: five foreign data sets become services, each in a copy of the repository, without an edit of the engine.

Each goes from a CSV file to an answered and logged prediction by `ctcd init` and `ctcd demo`. For one of them the unit
suite, the quick planted defects and the instance's tests run too, or the targets given as arguments.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adopt.copies import AT_ONCE, commit, ctcd, git, made, report, write_files
from adopt.datasets import DATASETS, FULL, DataSet, write

CHECKS = ("lint", "unit-all", "prove-quick", "contracts")


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
    write_files(copy)
    commit(copy, "the template")
    home = copy.with_name(f"{copy.name}-home")
    for arguments, wanted in (
        (("init", str(file), "--label", each.label, "--replace"), "drafted contract"),
        (("contract", "check"), "no problems"),
        (("demo", "--data", str(file)), "with this request id: 1"),
    ):
        began = time.monotonic()
        done = ctcd(copy, *arguments, CTCD_HOME=str(home), CTCD_THREADS="1")
        report(f"{each.file}: ctcd {arguments[0]} took {time.monotonic() - began:.0f} s")
        if done.returncode != 0 or wanted not in done.stdout:
            return [
                f"{each.file}: ctcd {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            ]
    return edited(copy)


def edited(copy: Path) -> list[str]:
    """Return a problem for each path outside `contracts/` that differs from the template."""
    status = git(copy, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z")
    paths = [entry[3:] for entry in status.split("\0") if entry]
    return [f"{copy.name}: {path} differs" for path in paths if not path.startswith("contracts/")]


if __name__ == "__main__":
    sys.exit(main())
