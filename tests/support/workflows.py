"""Rules that every workflow keeps, so that none of them lets a failure through or may do more than it needs."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
IMAGE = re.compile(r"docker://\S+@sha256:[0-9a-f]{64}")
SWALLOWED = re.compile(
    r"\|\|\s*(?:true|:|exit 0|echo\b)|;\s*true\s*$|\bset \+(?:e|o pipefail)|\bexit 0\b", re.MULTILINE
)
PIPE = re.compile(r"(?<!\|)\|(?![|&])")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
EFFECTS = re.compile(r"credit-score (?:promote|rollback)\b|\bdocker (?:buildx )?push\b|\bgh release\b|\btwine upload\b")
"""Commands after which the world is another one."""
ALWAYS = re.compile(r"\b(?:always|cancelled|failure)\(\)")

Job = dict[str, Any]


def broken_rules(text: str) -> list[str]:
    """Return every rule that a workflow breaks, each with the place."""
    document: dict[Any, Any] = yaml.safe_load(text)
    jobs: dict[str, Job] = document.get("jobs") or {}
    return [
        *_whole(document, text),
        *(f"{name}: {problem}" for name, job in jobs.items() for problem in _job(job, document, text)),
        *(f"{name}: {problem}" for name in jobs for problem in _order(name, jobs)),
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
    """What changes the world comes after everything that does not, and only if all of it passed."""
    job = jobs[name]
    condition = str(job.get("if", ""))
    if _changes_the_world(job):
        before = {other for other in jobs if not _changes_the_world(jobs[other]) and not _sums_up(jobs[other])}
        missing = sorted(before - _needed(name, jobs))
        if missing:
            yield f"does not need {', '.join(missing)}"
        if ALWAYS.search(condition):
            yield f"runs even if what it needs has failed: {condition}"
    elif _sums_up(job) and not re.search(r"needs\.\S*result", str(job.get("steps"))):
        yield "runs whatever happened before, and does not look at it"


def _changes_the_world(job: Job) -> bool:
    granted = job.get("permissions")
    writes = granted == "write-all" or (isinstance(granted, dict) and "write" in granted.values())
    commands = "\n".join(str(step.get("run", "")) for step in job.get("steps") or ())
    return bool(writes or "environment" in job or EFFECTS.search(commands))


def _sums_up(job: Job) -> bool:
    return bool(ALWAYS.search(str(job.get("if", ""))))


def _needed(name: str, jobs: dict[str, Job]) -> set[str]:
    """Return all jobs that have to pass before one may begin."""
    needs = jobs[name].get("needs") or []
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(_needed(each, jobs) for each in direct if each in jobs))
