"""`make updates`: ten repositories made from an older revision of this one, and edited, are updated by Copier.

The older revision is the newest release before this commit, or the one that is named as argument. The newest is the
checkout and what else an engine's release may bring: a column of one of its tables, changed, added and removed files.
After the update

- every file is the newest revision's with the repository's own edits, and what its adopter owns is as it was;
- `ctcd contract lock` succeeds, the revision that it adds is the next one, and a store from before the update is upgraded
  with its rows.

For some of them, the instance's tests run too.
"""

import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prove.base import Edit, Stale

from adopt.copies import AT_ONCE, ROOT, commit, ctcd, files, git, made, python, report, write_files

ANSWERS = ".copier-answers.yml"
TEMPLATE_ONLY = ("copier.yml", f"{ANSWERS}.copier")
"""Files that make a repository a template: it is the only one that has them."""
OWNED = (".github/CODEOWNERS", "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md")
"""Files of the adopter, beside the instance."""
AGE = 20
"""How many merges older the older revision is if there is no release."""
INSTANCE = "contracts"
VERSIONS = f"{INSTANCE}/migrations/versions"


OF_ENGINE = (
    Edit(
        path="src/ctcd/store/tables.py",
        old='Column("record", JSON(), nullable=False),',
        new='Column("record", JSON(), nullable=False), Column("planted", String(8), server_default="new"),',
    ),
    Edit(path=".github/workflows/train.yml", old="timeout-minutes: 120", new="timeout-minutes: 130"),
    Edit(path=".github/workflows/deploy.yml", old="timeout-minutes: 30", new="timeout-minutes: 40"),
)
LONGER = ("README.md", f"{INSTANCE}/training.toml", "docs/README.md")
ADDED = ("docs/planted.md", f"{INSTANCE}/planted.py", f"{VERSIONS}/v0099_planted.py")
REMOVED = ".github/ISSUE_TEMPLATE/feature.yml"

OF_ADOPTER = (
    Edit(path=".github/workflows/train.yml", old='cron: "17 18 * * *"', new='cron: "5 1 * * *"'),
    Edit(path=".github/workflows/deploy.yml", old='CTCD_START_SECONDS: "180"', new='CTCD_START_SECONDS: "240"'),
)


# --- what adopters do with their copy before the update -----------------------------------------------------------------


def _nothing(copy: Path) -> None:
    """Keep the example as it is."""
    del copy


def _notes(copy: Path) -> None:
    """Add a comment to every file of the instance that people write."""
    for file in [*(copy / INSTANCE).glob("*.py"), *(copy / INSTANCE).glob("*.toml")]:
        file.write_text(f"{file.read_text()}\n# Reviewed.\n")


def _column(copy: Path) -> None:
    """Add a feature, with a revision of their own."""
    file = copy / INSTANCE / "features.py"
    text = file.read_text()
    name = re.search(r"^    features=(\w+),$", text, re.MULTILINE)
    if name is None:
        raise ValueError("features.py: the contract names no class of features: correct tests/adopt/updates.py")
    head, middle, tail = text.partition(f"class {name[1]}(")
    added = (
        '    added: Series[float] = column(meaning="a number of ours", unit="1", nullable=True, minimum=0, maximum=1,'
        " example=0.5, simulate=Simulate(quantiles=(0, 0.2, 0.5, 0.8, 1)))\n\n"
    )
    file.write_text(head + middle + re.sub(r"^    \w+: Series\[", added + r"\g<0>", tail, count=1, flags=re.MULTILINE))
    locked(copy)


def _policies(copy: Path) -> None:
    """Search longer, and with another number of rounds."""
    file = copy / INSTANCE / "training.toml"
    file.write_text(re.sub(r"^iterations = \d+$", "iterations = 777", file.read_text(), count=1, flags=re.MULTILINE))
    locked(copy)


def _name(copy: Path, folder: str = INSTANCE, name: str = "ours") -> None:
    """Give the model another name, and begin its migrations anew."""
    file = copy / folder / "features.py"
    file.write_text(re.sub(r'^    name="\w+",$', f'    name="{name}",', file.read_text(), flags=re.MULTILINE))
    for revision in (copy / folder / "migrations" / "versions").glob("v*.py"):
        revision.unlink()
    locked(copy, folder)


def _data(copy: Path) -> None:
    """Draft the instance from a table of their own."""
    rows = [f"{number % 7},{number % 11 / 2},{'ab'[number % 7 > 3]}" for number in range(400)]
    table = copy / "var" / "table.csv"
    table.parent.mkdir()
    table.write_text("\n".join(["size,weight,kind", *rows, ""]))
    _succeed(ctcd(copy, "init", str(table), "--label", "kind", "--replace", "--name", "things"))


def _second(copy: Path) -> None:
    """Have a second instance beside the first, with a name of its own."""
    shutil.copytree(copy / INSTANCE, copy / "contracts_second", ignore=shutil.ignore_patterns("__pycache__"))
    _name(copy, "contracts_second", "second")


def _less(copy: Path) -> None:
    """Delete parts of the engine that they do not use, one of which the release changes."""
    (copy / ".github" / "workflows" / "deploy.yml").unlink()
    shutil.rmtree(copy / "benchmarks")


def _more(copy: Path) -> None:
    """Add files of their own to folders of the engine, and lines to one of its files."""
    for name in (".github/workflows/ours.yml", "dags/ours.py", "docs/ours.md"):
        (copy / name).write_text("# ours\n")
    (copy / "docker" / "ours").mkdir()
    (copy / "docker" / "ours" / "Dockerfile").write_text("FROM scratch\n")


ADOPTERS: dict[str, Callable[[Path], None]] = {
    work.__name__.strip("_"): work
    for work in (_column, _data, _nothing, _notes, _policies, _name, _second, _less, _more)
}
BUTTON = "button"
"""Began with GitHub's *Use this template*, without Copier."""
TESTED = ("column", "data")
"""Those whose instance's tests run: a change of the example, and an instance that has nothing of it."""


# --- the template -------------------------------------------------------------------------------------------------------


def older_revision() -> str:
    """Return the newest release before the last commit, or without one an ancestor, the first commit at the oldest."""
    tags = git(ROOT, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--no-contains", "HEAD", "--sort", "-v:refname")
    ancestors = git(ROOT, "rev-list", "--first-parent", f"--max-count={AGE + 1}", "HEAD")
    return [*tags.split()[:1], *ancestors.split()[-1:]][0]


@dataclass(frozen=True)
class Template:
    """A repository with two releases, and the files of each: 1.0.0, the older revision, and 2.0.0."""

    folder: Path
    older: dict[str, bytes]
    newest: dict[str, bytes]


def make_template(folder: Path, revision: str) -> Template:
    """Make the repository that others are made from.

    Raises:
        Stale: what is planted in the newest release has no place in the checkout.
    """
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S603, S607 - git of the PATH
    # Not tarfile: its `filter`, without which later versions of Python warn, came with 3.11.4, and Debian has 3.11.2.
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)  # noqa: S607 - tar of the PATH
    for name in TEMPLATE_ONLY:  # a revision from before they existed is updated by them, too
        shutil.copy(ROOT / name, folder / name)
    commit(folder, "older")
    git(folder, "tag", "1.0.0")
    older = files(folder)
    git(folder, "rm", "--quiet", "-r", ".")
    write_files(folder)
    for edit in OF_ENGINE:
        edit.apply(folder)
    for name in (*LONGER, *ADDED):
        with (folder / name).open("a") as file:
            file.write("# planted\n")
    (folder / REMOVED).unlink()
    commit(folder, "newest")
    git(folder, "tag", "2.0.0")
    return Template(folder, older, files(folder))


# --- one adopter --------------------------------------------------------------------------------------------------------


def adopt(template: Template, copy: Path) -> None:
    """Make a repository from the older release, and let its adopter edit it."""
    if copy.name == BUTTON:
        git(template.folder, "clone", "--quiet", "--branch", "1.0.0", str(template.folder), str(copy))
        shutil.rmtree(copy / ".git")
        commit(copy, "Initial commit")
        # Records where the files come from; the option keeps every file that there is.
        copier(copy, "copy", "--vcs-ref", "1.0.0", "--skip", "*", str(template.folder), ".")
        for name in TEMPLATE_ONLY:
            (copy / name).unlink()
    else:
        copier(template.folder, "copy", "--vcs-ref", "1.0.0", str(template.folder), str(copy))
        commit(copy, "from the template")
        ADOPTERS[copy.name](copy)
    (copy / "README.md").write_text("# Ours\n")
    owners = copy / ".github" / "CODEOWNERS"
    owners.write_text(owners.read_text().replace("@OWNER", "@us"))
    for edit in OF_ADOPTER:
        if (copy / edit.path).exists():
            edit.apply(copy)
    commit(copy, "ours")


def updated(template: Template, copy: Path) -> list[str]:
    """Make a repository, update it, and return what went wrong."""
    began = time.monotonic()
    try:
        adopt(template, copy)
        store = copy.with_name(f"{copy.name}.db")
        migrate(copy, store)
        before, number = files(copy), _newest(copy)
        copier(copy, "update", ".")
        unmerged = git(copy, "diff", "--name-only", "--diff-filter", "U").split()
        commit(copy, "update")
        problems = [f"conflict in {path}" for path in unmerged] + differences(template, before, files(copy))
        for folder in sorted(path.parent.name for path in copy.glob("contracts*/features.py")):
            locked(copy, folder)
        if _newest(copy) != number + 1:
            problems.append(f"after revision {number} comes {_newest(copy)}")
        problems += [
            f"contract lock changed {path}" for path in before if _is_revision(path) and changed(copy, path, before)
        ]
        migrate(copy, store)
        with sqlite3.connect(store) as connection:
            rows = connection.execute(f"SELECT line, planted FROM {_quarantine(store)}").fetchall()  # noqa: S608 - a name of ours
        if rows != [(7, "new")]:
            problems.append(f"after its upgrade the store has {rows}")
        commit(copy, "locked")
    except (Stale, ValueError, subprocess.CalledProcessError, sqlite3.Error) as error:
        problems = [f"{error} {getattr(error, 'stderr', '')}"]
    report(f"{copy.name}: updated in {time.monotonic() - began:.0f} s, {len(problems)} problems")
    return [f"{copy.name}: {problem}" for problem in problems]


def differences(template: Template, before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return a problem for each file that is neither the newest release's with the adopter's edits nor the adopter's."""
    wanted = {path: content for path, content in before.items() if _is_owned(path) or path not in template.older}
    for path, content in template.newest.items():
        deleted = path in template.older and path not in before
        if not (_is_owned(path) or path in TEMPLATE_ONLY or deleted):
            wanted[path] = content
    for edit in OF_ADOPTER:
        if edit.path in wanted:
            wanted[edit.path] = wanted[edit.path].replace(edit.old.encode(), edit.new.encode())
    wanted[ANSWERS] = before[ANSWERS].replace(b"_commit: 1.0.0", b"_commit: 2.0.0")
    return [
        f"{path} is not as it should be" for path in sorted({*wanted, *after}) if wanted.get(path) != after.get(path)
    ]


def _is_owned(path: str) -> bool:
    return path.startswith(f"{INSTANCE}/") or path in OWNED


def _is_revision(path: str) -> bool:
    return path.startswith(f"{VERSIONS}/v")


def changed(copy: Path, path: str, before: dict[str, bytes]) -> bool:
    """Return whether a file has another content than before, or is gone."""
    return not (copy / path).exists() or (copy / path).read_bytes() != before[path]


def migrate(copy: Path, store: Path) -> None:
    """Upgrade a store with a copy's code and revisions; a new one gets a row."""
    new = not store.exists()
    code = "import sys; from pathlib import Path; from ctcd.store.migrations import upgrade; upgrade(sys.argv[1], Path(sys.argv[2]))"
    _succeed(python(copy, code, f"sqlite:///{store}", VERSIONS))
    if new:
        with sqlite3.connect(store) as connection:
            columns = "(table_name, source, line, reasons, record)"
            connection.execute(f"INSERT INTO {_quarantine(store)} {columns} VALUES ('t', 's', 7, '[]', '{{}}')")  # noqa: S608 - our own


def _quarantine(store: Path) -> str:
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%_quarantine'"
    name: str = sqlite3.connect(store).execute(tables).fetchone()[0]
    return name


def _newest(copy: Path) -> int:
    return max(int(path.name[1:5]) for path in (copy / VERSIONS).glob("v*.py"))


def locked(copy: Path, folder: str = INSTANCE) -> None:
    """Write the lock of an instance of a copy, and check it."""
    for more in ((), ("--check",)):
        _succeed(ctcd(copy, "contract", "lock", *more, CTCD_CONTRACTS=folder))


def copier(folder: Path, *arguments: str) -> None:
    """Run Copier in a folder, without questions."""
    command = [sys.executable, "-m", "copier", *arguments[:1], "--quiet", "--defaults", *arguments[1:]]
    _succeed(subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True))  # noqa: S603 - our own arguments


def _succeed(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, done.args[-4:], done.stdout, done.stdout + done.stderr)


def main() -> int:
    """Return 0 if every repository is updated as it should be, else 1."""
    if (ROOT / ANSWERS).exists():
        report(f"{ANSWERS} says that this repository is made from a template: its updates are tested there")
        return 0
    began = time.monotonic()
    revision = (sys.argv[1:] or [older_revision()])[0]
    report(f"from {revision} to this checkout")
    with tempfile.TemporaryDirectory(prefix="updates-") as scratch:
        try:
            template = make_template(Path(scratch) / "template", revision)
        except Stale as error:
            report(f"{error}: correct tests/adopt/updates.py, or register this copy of the template (docs/updating.md)")
            return 1
        copies = [Path(scratch) / name for name in (*ADOPTERS, BUTTON)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            problems = [each for found in pool.map(lambda copy: updated(template, copy), copies) for each in found]
        if not problems:
            problems = [
                f"{name}: make contracts fails" for name in TESTED if not made("contracts", Path(scratch) / name)
            ]
    for problem in problems:
        report(problem)
    report(f"{len(copies)} repositories updated, {len(problems)} problems; {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
