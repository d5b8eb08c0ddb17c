"""The rules for workflows: none lets a failure through, and none may do more than it needs to."""

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
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
    r"ctcd (?:promote|rollback|deploy)\b|\bmake (?:--\S+ )*(?:deploy|rollback|push-image)(?![\w-])"
    r"|\bdocker (?:buildx )?push\b|\bgh release\b|\btwine upload\b"
)
"""Commands that change something outside the run."""
SHIPS = re.compile(r"ctcd (?:promote|deploy)\b|\bmake (?:--\S+ )*(?:deploy|push-image)(?![\w-])|\bdocker push\b")
"""Commands that bring a new version somewhere: the gate has to pass it first."""
DEPLOYS = re.compile(r"ctcd deploy\b|\bmake (?:--\S+ )*deploy(?![\w-])")
PUSHES, VERIFIES = re.compile(r"\bmake push-image\b"), re.compile(r"\bmake verify-image\b")
GATE = re.compile(r"(?:\bmake|ctcd) gate\b")
ALWAYS = re.compile(r"\b(?:always|cancelled|failure)\(\)|success\(\)\s*\|\||\.result\s*!=")
"""Conditions that let a job run although one that it needs has not passed."""
REPORTING = frozenset({"issues", "pull-requests", "security-events"})
"""Write permissions that only report findings."""
FROM_A_JOB = re.compile(r"\$\{\{\s*needs\.([\w-]+)\.outputs\.[\w-]+\s*\}\}")
RESULT = re.compile(r"\$\{\{\s*needs\.([\w-]+)\.result\s*\}\}")
ALL_RESULTS = re.compile(r"\$\{\{\s*join\(needs\.\*\.result,\s*'([^']*)'\)\s*\}\}")
TARGETS = re.compile(r"^([a-z][a-z-]*):.*## ", re.MULTILINE)
CALLS = re.compile(r"make((?: [a-z][a-z-]*)+)")
ROOT = Path(__file__).parents[2]
INPUT = re.compile(r"\$\{\{\s*inputs\.([\w-]+)\s*\}\}")
SWITCH = re.compile(r"\$\{\{\s*(!?)\s*inputs\.([\w-]+)\s*\}\}")
"""A condition that is one boolean input, or its negation."""
NEEDS = re.compile(r"\bneeds\.([\w-]+)\.")

VARIABLES = "${{ inputs.instance != 'contracts' && inputs.instance || '' }}"
"""The environment of an instance: it holds variables and secrets, and nothing is deployed to it."""

Job = dict[str, Any]
Step = dict[str, Any]
Document = dict[Any, Any]


def documented_targets() -> frozenset[str]:
    """Return the targets that `make help` lists."""
    files = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
    return frozenset(name for file in files for name in TARGETS.findall(file.read_text(encoding="utf-8")))


def local_files() -> dict[str, str]:
    """Return the text of every composite action and workflow of this repository, by the name that `uses` has for it."""
    actions = {f"./{path.parent.relative_to(ROOT)}": path for path in ROOT.glob(".github/actions/*/action.yml")}
    workflows = {f"./{path.relative_to(ROOT)}": path for path in ROOT.glob(".github/workflows/*.yml")}
    return {name: path.read_text(encoding="utf-8") for name, path in (actions | workflows).items()}


def broken_rules(
    text: str, targets: Collection[str] | None = None, local: Mapping[str, str] | None = None
) -> list[str]:
    """Return every rule that a workflow breaks, each with the job that breaks it.

    Steps of composite actions count as steps of the job that uses them, and jobs of a reusable workflow as jobs of its
    caller, named `<job of the caller>-<job>`, with the inputs that it is given. What deploys is therefore judged in the
    workflow that calls it; a workflow that can only be called is held to all other rules.

    Args:
        text: the workflow.
        targets: make targets that steps may call; None: steps may run anything.
        local: text of composite actions and reusable workflows by the name that `uses` has for them; None: those of this
            repository.
    """
    texts = local_files() if local is None else local
    # The safe loader in C: all shared files are read for each planted defect, and it takes a tenth of the time.
    files = {name: yaml.load(content, yaml.CSafeLoader) for name, content in texts.items()}
    document: Document = yaml.load(text, yaml.CSafeLoader)
    jobs = {name: _with_actions(job, files) for name, job in (document.get("jobs") or {}).items()}
    graph = _with_called(jobs, files)
    only_called = set(_events(document)) == {"workflow_call"}
    used = {step.get("uses", "") for job in jobs.values() for step in job.get("steps") or ()} & set(files)
    return [
        *_whole(document, text),
        *(problem for name in sorted(used) for problem in _versions(texts[name])),
        *(f"{name}: {problem}" for name, job in jobs.items() for problem in _job(job, document, text)),
        *(f"{name}: {problem}" for name, job in jobs.items() for problem in _local(job, files)),
        *(f"{name}: {problem}" for name in graph for problem in _order(name, graph) if not only_called),
        *(f"{name}: {problem}" for name in graph for problem in _shipping(name, graph) if not only_called),
        *(f"{name}: {problem}" for name in jobs if targets is not None for problem in _calls(jobs[name], targets)),
    ]


def _events(document: Document) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    found = document.get(True, document.get("on")) or {}
    return found if isinstance(found, dict) else dict.fromkeys([found] if isinstance(found, str) else found)


def _with_actions(job: Job, files: Mapping[str, Document]) -> Job:
    """Return a job with the steps of each composite action after the step that uses it."""
    if "steps" not in job:
        return job
    steps: list[Step] = []
    for step in job["steps"]:
        steps.append(step)
        if action := files.get(step.get("uses", "")):
            defaults = {name: given.get("default", "") for name, given in (action.get("inputs") or {}).items()}
            steps += _given(action["runs"]["steps"], defaults | (step.get("with") or {}))
    return job | {"steps": steps}


def _with_called(jobs: dict[str, Job], files: Mapping[str, Document]) -> dict[str, Job]:
    """Return the jobs of a workflow with those of the workflows that it calls in place of the calls."""
    called = {name: files[job["uses"]] for name, job in jobs.items() if job.get("uses") in files}
    inner: dict[str, dict[str, Job]] = {}
    for name, document in called.items():
        inputs = _events(document)["workflow_call"].get("inputs") or {}
        given = {each: value.get("default", "") for each, value in inputs.items()} | (jobs[name].get("with") or {})
        own = {each: _with_actions(job, files) for each, job in _given(document["jobs"], given).items()}
        inner[name] = _with_called(own, files)
    graph: dict[str, Job] = {}
    for name, job in jobs.items():
        needs = sorted({each for need in _direct(job) for each in _names(need, inner)})
        if name not in called:
            graph[name] = job | {"needs": needs}
            continue
        for each, called_job in inner[name].items():
            part = _renamed(called_job, name, set(inner[name]))
            conditions = [str(condition) for condition in (job.get("if"), part.get("if")) if condition is not None]
            graph[f"{name}-{each}"] = part | {
                "needs": sorted({*needs, *(f"{name}-{need}" for need in _direct(part))}),
                **({"if": " && ".join(conditions)} if conditions else {}),
            }
    return graph


def _names(need: str, inner: Mapping[str, Mapping[str, Job]]) -> list[str]:
    return [f"{need}-{each}" for each in inner[need]] if need in inner else [need]


def _renamed(value: Any, caller: str, own: Collection[str]) -> Any:
    """Return a part of a called job in which `needs.<job>` names the job as its caller's graph does."""
    if isinstance(value, str):
        return NEEDS.sub(lambda found: f"needs.{caller}-{found[1]}." if found[1] in own else found[0], value)
    if isinstance(value, list):
        return [_renamed(each, caller, own) for each in value]
    return {name: _renamed(each, caller, own) for name, each in value.items()} if isinstance(value, dict) else value


def _given(value: Any, inputs: Mapping[str, Any]) -> Any:
    """Return a part of a workflow or action with inputs put in, and without the steps that they switch off."""
    if isinstance(value, str):
        return INPUT.sub(lambda found: str(inputs.get(found[1], "")), value)
    if isinstance(value, list):
        return [_given(each, inputs) for each in value if not _switched_off(each, inputs)]
    if isinstance(value, dict):
        # An expression in a command is a defect whatever its value is.
        return {name: each if name == "run" else _given(each, inputs) for name, each in value.items()}
    return value


def _switched_off(step: Any, inputs: Mapping[str, Any]) -> bool:
    switch = SWITCH.fullmatch(str(step.get("if", ""))) if isinstance(step, dict) else None
    return switch is not None and (inputs.get(switch[2]) in (True, "true")) == bool(switch[1])


def _local(job: Job, files: Mapping[str, Document]) -> Iterator[str]:
    """Local files exist and are there when they are needed, and secrets are handed on by name.

    A secret that the caller leaves out is empty in the called workflow, even if the environment of its job has it.
    """
    checked_out = "uses" in job
    for part in (job, *(job.get("steps") or ())):
        uses = part.get("uses", "")
        checked_out = checked_out or uses.startswith("actions/checkout@")
        if uses.startswith("./") and uses not in files:
            yield f"{uses} does not exist"
        elif uses.startswith("./") and not checked_out:
            yield f"{uses} is used before the checkout"
    if job.get("uses") not in files:
        return
    secrets = job.get("secrets") or {}
    if not isinstance(secrets, dict):
        yield f"hands on secrets by {secrets!r}, not by name"
        return
    declared = set(_events(files[job["uses"]])["workflow_call"].get("secrets") or ())
    if missing := sorted(declared - set(secrets)):
        yield f"does not hand on {', '.join(missing)}"


def _whole(document: Document, text: str) -> Iterator[str]:
    if not document.get("jobs"):
        yield "there are no jobs"
    if document.get("permissions") != {}:
        yield "permissions at the top are not {}"
    if "concurrency" not in document:
        yield "there is no concurrency group"
    if "pull_request_target" in _events(document):
        yield "pull_request_target runs foreign code with the repository's permissions"
    yield from _versions(text)


def _versions(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if re.search(r"\buses:.*@[0-9a-f]{40}", line) and not re.search(r"#\s*v?\d", line):
            yield f"no version in a comment after {line.strip()!r}"


def _job(job: Job, document: Document, text: str) -> Iterator[str]:
    if "uses" not in job and not isinstance(job.get("timeout-minutes"), int):
        yield "no timeout-minutes"
    granted = job.get("permissions")
    if not isinstance(granted, dict):
        yield "permissions are not granted one by one"
        granted = {}
    for name, right in granted.items():
        if right == "write" and not re.search(rf"{re.escape(name)}: write\s+#\s*\w", text):
            yield f"{name}: write without a reason in a comment"
    if job.get("continue-on-error"):
        yield "continue-on-error"
    if "uses" in job:
        yield from _pinned(job["uses"])
    shell = ((job.get("defaults") or document.get("defaults") or {}).get("run") or {}).get("shell")
    for step in job.get("steps") or ():
        yield from _step(step, shell)


def _step(step: Step, shell: str | None) -> Iterator[str]:
    if step.get("continue-on-error"):
        yield "continue-on-error"
    uses = step.get("uses", "")
    if uses:
        yield from _pinned(uses)
    if uses.startswith("actions/checkout@") and (step.get("with") or {}).get("persist-credentials") is not False:
        yield "checkout keeps its credentials"
    if "${{" in str(step.get("run", "")):
        yield "an expression is written into a command: hand it over by env"
    condition = str(step.get("if", ""))
    if uses.startswith("actions/cache@") and (
        "github.event_name == 'pull_request'" not in condition or "||" in condition
    ):
        yield "a cache outside pull requests"
    if uses.startswith("actions/setup-") and "cache" in (step.get("with") or {}):
        yield "a cache outside pull requests"
    run = QUOTED.sub("''", str(step.get("run", "")))
    if SWALLOWED.search(run):
        yield f"a failure is swallowed: {run.strip()!r}"
    # GitHub runs `shell: bash` with -o pipefail, but not its default shell.
    if PIPE.search(run) and step.get("shell", shell) != "bash" and "pipefail" not in run:
        yield f"a pipe hides the exit code of all but its last command: {run.strip()!r}"


def _pinned(uses: str) -> Iterator[str]:
    if not (uses.startswith("./") or PINNED.fullmatch(uses) or IMAGE.fullmatch(uses)):
        yield f"{uses} is not pinned to a commit"


def _order(name: str, jobs: dict[str, Job]) -> Iterator[str]:
    """A job with effects outside the run waits until every job without that does not depend on it has passed."""
    job = jobs[name]
    condition = str(job.get("if", ""))
    if _has_effects(job):
        before = {
            other
            for other in jobs
            if not _has_effects(jobs[other]) and not _sums_up(jobs[other]) and name not in _needed(other, jobs)
        }
        missing = sorted(before - _needed(name, jobs))
        if missing:
            yield f"does not need {', '.join(missing)}"
        if ALWAYS.search(condition):
            yield f"runs even if what it needs has failed: {condition}"
    elif _sums_up(job):
        yield from _summed_up(name, jobs)


def _summed_up(name: str, jobs: dict[str, Job]) -> Iterator[str]:
    """Run the verdict of an aggregate job on made-up results: it must refuse everything but success of every job."""
    job = jobs[name]
    if re.search(r"needs\.\S*result", condition := str(job.get("if", ""))):
        if not re.search(r"result == 'failure'", condition):
            yield f"runs on results that are no failure: {condition}"
        return
    if not re.search(r"needs\.\S*result", str(job.get("steps"))):
        yield "runs whatever happened before, and ignores the results"
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
    """A version is deployed only after the gate has passed it, and only by the digest that was pushed and verified."""
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
        yield "does not name the image that it deploys"
    for image in images:
        found = FROM_A_JOB.fullmatch(image.strip())
        if not found or not PUSHES.search(_commands(jobs.get(found.group(1), {}))):
            yield f"deploys {image}, which is not the digest of what was pushed"


def _calls(job: Job, targets: Collection[str]) -> Iterator[str]:
    """Every step calls documented targets, so that it runs the same at a terminal."""
    if _sums_up(job) and not _has_effects(job) and not job.get("permissions"):
        return
    for step in job.get("steps") or ():
        for line in str(step.get("run", "")).splitlines():
            found = CALLS.fullmatch(line.strip())
            called = found.group(1).split() if found else []
            if not found or not set(called) <= set(targets):
                yield f"calls no documented target: {line.strip()!r}"


def _has_effects(job: Job) -> bool:
    granted = job.get("permissions")
    writes = set() if not isinstance(granted, dict) else {name for name, right in granted.items() if right == "write"}
    # A called workflow is held to these rules where it is written.
    if "uses" in job:
        return False
    deploys = job.get("environment", VARIABLES) != VARIABLES
    return bool(granted == "write-all" or writes - REPORTING or deploys or EFFECTS.search(_commands(job)))


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
