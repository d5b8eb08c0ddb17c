"""Rules that every workflow keeps, so that none of them lets a failure through or may do more than it needs."""

import os
import re
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
IMAGE = re.compile(r"docker://\S+@sha256:[0-9a-f]{64}")
SWALLOWED = re.compile(
    r"\|\|\s*(?:true|:|exit 0|echo\b)|;\s*true\s*$|\bset \+(?:e|o pipefail)|\bexit 0\b", re.MULTILINE
)
PIPE = re.compile(r"(?<!\|)\|(?![|&])")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
EFFECTS = re.compile(
    r"ctcd (?:promote|rollback|deploy)\b|\bmake (?:--\S+ )*(?:ship|unship|push-image)\b"
    r"|\bdocker (?:buildx )?push\b|\bgh release\b|\btwine upload\b"
)
"""Commands after which the world is another one."""
SHIPS = re.compile(r"ctcd (?:promote|deploy)\b|\bmake (?:--\S+ )*(?:ship|push-image)\b|\bdocker push\b")
"""Those that bring a new version somewhere, so that the gate has to come first."""
DEPLOYS = re.compile(r"ctcd deploy\b|\bmake (?:--\S+ )*ship\b")
PUSHES, VERIFIES = re.compile(r"\bmake push-image\b"), re.compile(r"\bmake verify-image\b")
GATE = re.compile(r"\bmake judge\b|ctcd gate\b")
ALWAYS = re.compile(r"\b(?:always|cancelled|failure)\(\)|success\(\)\s*\|\||\.result\s*!=")
"""Conditions that let a job run although one that it needs has not passed."""
TELLS = frozenset({"issues", "pull-requests", "security-events"})
"""Rights to say what was found; what is shipped stays as it is."""
FROM_A_JOB = re.compile(r"\$\{\{\s*needs\.([\w-]+)\.outputs\.[\w-]+\s*\}\}")
RESULT = re.compile(r"\$\{\{\s*needs\.([\w-]+)\.result\s*\}\}")
ALL_RESULTS = re.compile(r"\$\{\{\s*join\(needs\.\*\.result,\s*'([^']*)'\)\s*\}\}")
TARGETS = re.compile(r"^([a-z][a-z-]*):.*## ", re.MULTILINE)
CALL = r"make(?: --silent)?((?: [a-z][a-z-]*)+)"
CALLS = re.compile(rf"{CALL}|echo \"[\w-]+=\$\({CALL}\)\" >> \"\$GITHUB_OUTPUT\"")
ROOT = Path(__file__).parents[2]

Job = dict[str, Any]


def documented_targets() -> frozenset[str]:
    """Return the targets that `make help` lists."""
    files = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
    return frozenset(name for file in files for name in TARGETS.findall(file.read_text(encoding="utf-8")))


def broken_rules(text: str, targets: Collection[str] | None = None) -> list[str]:
    """Return every rule that a workflow breaks, each with the place.

    Args:
        text: the workflow.
        targets: targets of make that steps may call; None: steps may run anything.
    """
    document: dict[Any, Any] = yaml.safe_load(text)
    jobs: dict[str, Job] = document.get("jobs") or {}
    return [
        *_whole(document, text),
        *(f"{name}: {problem}" for name, job in jobs.items() for problem in _job(job, document, text)),
        *(f"{name}: {problem}" for name in jobs for problem in _order(name, jobs)),
        *(f"{name}: {problem}" for name in jobs for problem in _shipping(name, jobs)),
        *(f"{name}: {problem}" for name in jobs if targets is not None for problem in _calls(jobs[name], targets)),
    ]


def _whole(document: dict[Any, Any], text: str) -> Iterator[str]:
    if not document.get("jobs"):
        yield "there are no jobs"
    if document.get("permissions") != {}:
        yield "permissions at the top are not {}"
    if "concurrency" not in document:
        yield "there is no concurrency group"
    # YAML 1.1 reads the key `on` as true.
    events = document.get(True, document.get("on")) or {}
    if "pull_request_target" in events:
        yield "pull_request_target runs foreign code with our rights"
    for line in text.splitlines():
        if re.search(r"\buses:.*@[0-9a-f]{40}", line) and not re.search(r"#\s*v?\d", line):
            yield f"no version stands beside {line.strip()!r}"


def _job(job: Job, document: dict[Any, Any], text: str) -> Iterator[str]:
    if "uses" not in job and not isinstance(job.get("timeout-minutes"), int):
        yield "no timeout-minutes"
    granted = job.get("permissions")
    if not isinstance(granted, dict):
        yield "permissions are not granted one by one"
        granted = {}
    for name, right in granted.items():
        if right == "write" and not re.search(rf"{re.escape(name)}: write\s+#\s*\w", text):
            yield f"{name}: write without a reason beside it"
    if job.get("continue-on-error"):
        yield "continue-on-error"
    if "uses" in job:
        yield from _pinned(job["uses"])
    shell = ((job.get("defaults") or document.get("defaults") or {}).get("run") or {}).get("shell")
    for step in job.get("steps") or ():
        yield from _step(step, shell)


def _step(step: dict[str, Any], shell: str | None) -> Iterator[str]:
    if step.get("continue-on-error"):
        yield "continue-on-error"
    uses = step.get("uses", "")
    if uses:
        yield from _pinned(uses)
    if uses.startswith("actions/checkout@") and (step.get("with") or {}).get("persist-credentials") is not False:
        yield "checkout keeps its credentials"
    if "${{" in str(step.get("run", "")):
        yield "an expression is written into a command: hand it over by env"
    if uses.startswith("actions/cache@") and "github.event_name == 'pull_request'" not in str(step.get("if", "")):
        yield "a cache outside pull requests"
    if uses.startswith("actions/setup-") and "cache" in (step.get("with") or {}):
        yield "a cache outside pull requests"
    run = QUOTED.sub("''", str(step.get("run", "")))
    if SWALLOWED.search(run):
        yield f"a failure is swallowed: {run.strip()!r}"
    # GitHub runs `shell: bash` with -o pipefail, but not the shell that it takes by itself.
    if PIPE.search(run) and step.get("shell", shell) != "bash" and "pipefail" not in run:
        yield f"a pipe hides the exit code of all but its last command: {run.strip()!r}"


def _pinned(uses: str) -> Iterator[str]:
    if not (uses.startswith("./") or PINNED.fullmatch(uses) or IMAGE.fullmatch(uses)):
        yield f"{uses} is not pinned to a commit"


def _order(name: str, jobs: dict[str, Job]) -> Iterator[str]:
    """What changes the world comes after everything that does not and need not wait for it, if all of that passed."""
    job = jobs[name]
    condition = str(job.get("if", ""))
    if _changes_the_world(job):
        before = {
            other
            for other in jobs
            if not _changes_the_world(jobs[other]) and not _sums_up(jobs[other]) and name not in _needed(other, jobs)
        }
        missing = sorted(before - _needed(name, jobs))
        if missing:
            yield f"does not need {', '.join(missing)}"
        if ALWAYS.search(condition):
            yield f"runs even if what it needs has failed: {condition}"
    elif _sums_up(job):
        yield from _summed_up(name, jobs)


def _summed_up(name: str, jobs: dict[str, Job]) -> Iterator[str]:
    """Let a job that runs whatever happened judge results, and see it refuse all but success everywhere."""
    job = jobs[name]
    if re.search(r"needs\.\S*result", condition := str(job.get("if", ""))):
        if not re.search(r"result == 'failure'", condition):
            yield f"runs on results that are no failure: {condition}"
        return
    if not re.search(r"needs\.\S*result", str(job.get("steps"))):
        yield "runs whatever happened before, and does not look at it"
        return
    missing = sorted(set(jobs) - {name} - _direct(job))
    if missing:
        yield f"sums up without {', '.join(missing)}"
    needed = sorted(_direct(job))
    fine = dict.fromkeys(needed, "success")
    if _verdict(job, fine):
        yield "fails although everything passed"
    for each in needed:
        for bad in ("skipped", "failure", "cancelled"):
            if not _verdict(job, fine | {each: bad}):
                yield f"passes although {each} was {bad}"


def _verdict(job: Job, results: dict[str, str]) -> int:
    """Run the steps of a job that sums up, with the results of other jobs, and return the first exit code that is not 0."""
    for step in job.get("steps") or ():
        variables = {}
        for variable, value in {**(job.get("env") or {}), **(step.get("env") or {})}.items():
            text = ALL_RESULTS.sub(lambda found: found.group(1).join(results.values()), str(value))
            variables[variable] = RESULT.sub(lambda found: results.get(found.group(1), ""), text)
        done = subprocess.run(  # noqa: S603 - the repository's own workflow
            ["bash", "-eo", "pipefail", "-c", str(step.get("run", ""))],  # noqa: S607 - as GitHub does
            env={"PATH": os.environ["PATH"], **variables}, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return done.returncode
    return 0


def _shipping(name: str, jobs: dict[str, Job]) -> Iterator[str]:
    """A new version goes nowhere before the gate has passed it, and only by the digest that was pushed and verified."""
    job = jobs[name]
    commands, before = _commands(job), _needed(name, jobs)
    if SHIPS.search(commands) and not any(GATE.search(_commands(jobs[other])) for other in before if other in jobs):
        yield "ships a version that no gate has passed"
    if not DEPLOYS.search(commands):
        return
    if not any(VERIFIES.search(_commands(jobs[other])) for other in before if other in jobs):
        yield "deploys an image that was not verified"
    images = [
        str((part.get("env") or {})["IMAGE"])
        for part in (job, *job.get("steps", ()))
        if "IMAGE" in (part.get("env") or {})
    ]
    if not images:
        yield "does not say which image it deploys"
    for image in images:
        found = FROM_A_JOB.fullmatch(image.strip())
        if not found or not PUSHES.search(_commands(jobs.get(found.group(1), {}))):
            yield f"deploys {image}, which is not the digest of what was pushed"


def _calls(job: Job, targets: Collection[str]) -> Iterator[str]:
    """Every step calls documented targets, so that it runs the same at a terminal."""
    if _sums_up(job) and not _changes_the_world(job) and not job.get("permissions"):
        return
    for step in job.get("steps") or ():
        for line in str(step.get("run", "")).splitlines():
            found = CALLS.fullmatch(line.strip())
            called = (found.group(1) or found.group(2)).split() if found else []
            if not found or not set(called) <= set(targets):
                yield f"calls no documented target: {line.strip()!r}"


def _changes_the_world(job: Job) -> bool:
    granted = job.get("permissions")
    writes = set() if not isinstance(granted, dict) else {name for name, right in granted.items() if right == "write"}
    # A called workflow is held to these rules where it is written.
    if "uses" in job:
        return False
    return bool(granted == "write-all" or writes - TELLS or "environment" in job or EFFECTS.search(_commands(job)))


def _commands(job: Job) -> str:
    return "\n".join(str(step.get("run", "")) for step in job.get("steps") or ())


def _sums_up(job: Job) -> bool:
    return bool(ALWAYS.search(str(job.get("if", ""))))


def _direct(job: Job) -> set[str]:
    needs = job.get("needs") or []
    return {needs} if isinstance(needs, str) else set(needs)


def _needed(name: str, jobs: dict[str, Job]) -> set[str]:
    """Return all jobs that have to pass before one may begin."""
    direct = _direct(jobs[name])
    return direct.union(*(_needed(each, jobs) for each in direct if each in jobs))
