"""What stands in the files that define the gates, in the form in which `support.promises` writes it down."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HOOKS, PROJECT, CI = ".pre-commit-config.yaml", "pyproject.toml", ".ci/run"
TOOLS = ("coverage", "mypy", "pytest", "ruff")
"""Parts of pyproject.toml that configure gates."""
OVERRIDING = re.compile(
    r"(^|/)(\.?pytest\.(ini|toml)|tox\.ini|setup\.(cfg|py)|\.coveragerc|\.?mypy\.ini|\.?ruff\.toml|\.hadolint\.ya?ml"
    r"|\.shellcheckrc|\.?gitleaks.*|\.secrets\.baseline|GNUmakefile|makefile|sitecustomize\.py|usercustomize\.py|\.actrc"
    r"|\.env)$"
)
"""Files that a tool would prefer to what we promise, or that would change every Python process."""
WHOLE_FILE = re.compile(r"^\s*#\s*(ruff|flake8)\s*:\s*noqa|^\s*#\s*mypy\s*:|^\s*#\s*type:\s*ignore|pragma: no (cover|branch)", re.MULTILINE)  # fmt: skip
"""Comments that switch a check off for a file, or code off for the coverage."""
UNTESTED = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b|unittest\.skip|collect_ignore")
"""What keeps a test from running, or from failing."""

QUANTITY, NUMBERED = re.compile(r"-?\d+(\.\d+)?[a-zA-Z%]{0,2}"), re.compile(r"\d")
RUNS = re.compile(r"^(CMD|ENTRYPOINT|HEALTHCHECK|STOPSIGNAL|USER)\b")
EXPRESSION, NAME = re.compile(r"\$\{\{\s*(.*?)\s*\}\}"), re.compile(r"(?<!['\w])[a-z]+(\.[\w-]+)+")

Document = dict[Any, Any]


def definition_files() -> dict[str, str]:
    """Return the text of every file that defines a gate, by its path in the repository."""
    found = [
        *(ROOT / ".github").rglob("*.y*ml"),
        ROOT / ".github" / "CODEOWNERS",
        *(ROOT / "tests").rglob("conftest.py"),
    ]
    # A form for issues defines no gate.
    names = sorted(str(path.relative_to(ROOT)) for path in found if path.parent.name != "ISSUE_TEMPLATE")
    names = [HOOKS, PROJECT, CI, *names]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def stated(files: Mapping[str, str]) -> Document:
    """Return what the files state, by path; the versions of actions and the names of steps are left out."""
    found: Document = {}
    for path, text in files.items():
        if path == PROJECT:
            found[path] = {name: tomllib.loads(text)["tool"].get(name) for name in TOOLS}
        elif path.endswith((".yml", ".yaml")):
            found[path] = _workflow(yaml.load(text, yaml.CSafeLoader))
        elif path.endswith(".py"):
            found |= {path: names} if (names := _conftest(text)) else {}
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
            # Who owns them is for each team to say, but somebody has to.
            found[path] = [each.split()[0] for each in lines if " @" in each] if path.endswith("CODEOWNERS") else lines
    return found


def source_files() -> dict[str, str]:
    """Return the text of every module that ships, by its path below `src/ctcd` or in the repository."""
    package = ROOT / "src" / "ctcd"
    shipped = {str(path.relative_to(package)): path for path in package.rglob("*.py")}
    dags = {str(path.relative_to(ROOT)): path for path in (ROOT / "dags").glob("*.py")}
    return {name: path.read_text(encoding="utf-8") for name, path in sorted((shipped | dags).items())}


def running_files() -> dict[str, str]:
    """Return the text of every file that says how images, containers and pods run, by its path in the repository."""
    found = [path for folder in ("deploy", "docker") for path in (ROOT / folder).rglob("*")]
    files = [path for path in found if path.suffix in (".cfg", ".yaml", ".yml") or path.name == "Dockerfile"]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}


def limits(files: Mapping[str, str]) -> dict[str, Any]:
    """Return the limits in files that say how something runs, by path.

    Of YAML these are all numbers, times, sizes and conditions of alerts, by the place where they stand; of a Dockerfile,
    how an image starts, stops, and is found healthy; of other files, the lines with a number.
    """
    found: dict[str, Any] = {}
    for path, text in files.items():
        if path.endswith((".yaml", ".yml")):
            documents = [yaml.load(part, _Unmerged) for part in re.split(r"^---$", text, flags=re.MULTILINE)]  # noqa: S506 - a safe loader
            found[path] = {name: value for document in documents for name, value in _limits(document)}
        else:
            lines = [line.strip() for line in text.replace("\\\n", "").splitlines() if not line.strip().startswith("#")]
            kept = RUNS if path.endswith("Dockerfile") else NUMBERED
            found[path] = [re.sub(" +", " ", line) for line in lines if kept.search(line)]
    return {path: each for path, each in found.items() if each}


class _Unmerged(yaml.CSafeLoader):
    """Leaves out what a mapping takes over from another one, where it stands already."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        node.value = [(key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge"]


def _limits(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    match node:
        case dict():
            for name, value in node.items():
                # A name says more than a number, which changes when something is inserted.
                yield from _limits(value, f"{where}.{name}" if where else str(name))
        case list():
            for number, value in enumerate(node):
                name = value.get("name", value.get("alert", number)) if isinstance(value, dict) else number
                yield from _limits(value, f"{where}[{name}]")
        case bool() | None:
            pass
        case int() | float():
            yield where, node
        case str() if QUANTITY.fullmatch(node) or where.endswith(".expr"):
            yield where, " ".join(node.split())


def defaults(files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the limits and defaults in modules, by path and name.

    These are numbers at the top of a module, numbers and booleans that a parameter has if it is not given, every default
    of a command's options, those of the settings with their bounds, and what a DAG or its tasks are given.
    """
    found = {path: dict(_defaults(path, ast.parse(text))) for path, text in files.items()}
    return {path: each for path, each in found.items() if each}


def _defaults(path: str, module: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _number(node.value) is not None:
            yield node.targets[0].id, _number(node.value)
        elif isinstance(node, ast.ClassDef) and path == "settings.py" and node.name == "Settings":
            yield from _settings(node)
    for part in ast.walk(module):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _parameters(part, every=path.startswith("cli/"))
        elif path.startswith(("dags/", "airflow/defaults")):
            yield from _given(part)


def _given(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, booleans and durations among the arguments of a call or the entries of a dictionary."""
    pairs: list[tuple[str, ast.expr]] = []
    if isinstance(node, ast.Call) and ast.unparse(node.func) != "timedelta":
        pairs = [(str(each.arg), each.value) for each in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [(ast.unparse(key).strip("'"), value) for key, value in zip(node.keys, node.values, strict=True) if key]
    for name, value in pairs:
        if ast.unparse(value).startswith("timedelta("):
            yield name, ast.unparse(value)
        elif isinstance(value, ast.Constant) and isinstance(value.value, bool | int | float):
            yield name, value.value


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, *, every: bool) -> Iterator[tuple[str, Any]]:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    pairs = [
        *zip(positional[::-1], given.defaults[::-1], strict=False),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        name = f"{node.name}({parameter.arg})"
        if isinstance(default, ast.Constant) and isinstance(default.value, bool | int | float):
            if parameter.arg != "json":
                yield name, default.value
        elif every and default is not None and ast.unparse(default) != "None":
            yield name, ast.unparse(default)


def _settings(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and isinstance(each.value, ast.Call):
            if ast.unparse(each.annotation).startswith("ClassVar"):  # a path below the home, no setting
                continue
            [default] = [keyword.value for keyword in each.value.keywords if keyword.arg == "default"]
            calls = [call for call in ast.walk(each.annotation) if isinstance(call, ast.Call)]
            bounds = [f"{bound.arg}={_plain_value(bound.value)}" for call in calls for bound in call.keywords]
            yield each.target.id, " ".join([ast.unparse(default), *bounds])


def _plain_value(node: ast.expr) -> str:
    number = _number(node)
    return ast.unparse(node) if number is None else str(number)


def _number(node: ast.expr) -> int | float | None:
    """Return the value of an expression of numbers only, else None."""
    allowed = ast.BinOp | ast.UnaryOp | ast.Constant | ast.operator | ast.unaryop
    if not all(isinstance(part, allowed) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "", "eval"), {})  # noqa: S307 - numbers and operators
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def differences(found: Any, promised: Any, where: str = "") -> Iterator[str]:
    """Yield what differs, each with the place where it stands."""
    if isinstance(found, dict) and isinstance(promised, dict):
        for name in sorted(found.keys() | promised.keys(), key=str):
            place = f"{where}{': ' if where.count(':') < 1 and where else '.' if where else ''}{name}"
            if name not in promised:
                yield f"{place} is not promised: {found[name]!r}"
            elif name not in found:
                yield f"{place} is promised and missing: {promised[name]!r}"
            else:
                yield from differences(found[name], promised[name], place)
    elif isinstance(found, list) and isinstance(promised, list) and len(found) == len(promised):
        for number, (one, other) in enumerate(zip(found, promised, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif found != promised or type(found) is not type(promised):
        yield f"{where} is {found!r}, promised is {promised!r}"


def evaluated(value: Any, context: Mapping[str, Any]) -> str:
    """Return a value of a workflow with its expressions evaluated, as GitHub does for the operators that we use.

    Args:
        value: text with any number of expressions, or a plain value.
        context: what `inputs.version` and the like are; what is missing is empty.
    """

    def answer(found: re.Match[str]) -> str:
        text = NAME.sub(lambda name: repr(context.get(name[0], "")), found[1])
        for sign, word in (("&&", " and "), ("||", " or ")):
            text = text.replace(sign, word)
        result = eval(re.sub(r"!(?!=)", " not ", text), {})  # noqa: S307 - an expression of our own workflows
        return str(result).lower() if isinstance(result, bool) else str(result)

    return EXPRESSION.sub(answer, str(value).lower() if isinstance(value, bool) else str(value))


def _workflow(document: Document) -> Document:
    # YAML 1.1 reads the key `on` as true.
    found = {"on" if key is True else key: value for key, value in document.items() if key != "name"}
    for job in (found.get("jobs") or {}).values():
        if "steps" in job:
            job["steps"] = [_step(step) for step in job["steps"]]
    if "runs" in found:
        found["runs"]["steps"] = [_step(step) for step in found["runs"]["steps"]]
    plain: Document = _plain(found)
    return plain


def _plain(value: Any) -> Any:
    """Return a document without descriptions, which promise nothing."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if name != "description"}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _step(step: Document) -> Any:
    left = {name: value for name, value in step.items() if name != "name"}
    if "uses" in left:
        left["uses"] = left["uses"].partition("@")[0]
    [*only] = left
    return left[only[0]] if only in (["run"], ["uses"]) else left


def _conftest(text: str) -> list[str]:
    """Return the hooks of pytest, the names that it reads, and the fixtures that every test gets."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            automatic = any("autouse" in ast.unparse(each) for each in node.decorator_list)
            if node.name.startswith("pytest_") or automatic:
                found.append(node.name)
        elif isinstance(node, ast.Assign):
            targets = [ast.unparse(target) for target in node.targets]
            found += [name for name in targets if "pytest" in name or "collect" in name]
    return found
