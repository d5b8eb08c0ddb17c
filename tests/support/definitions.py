"""What stands in the files that define the gates, in the form in which `support.promises` writes it down."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HOOKS, PROJECT, CI, SHORTCUTS = ".pre-commit-config.yaml", "pyproject.toml", ".ci/run", "tests/support/shortcuts.py"
STARTED_BY = ("entry-points", "gui-scripts", "scripts")
"""Parts of pyproject.toml by which other programs, such as pytest, load code of ours."""
GROWING = ("also_copy", "only_mutate", "pytest_add_cli_args_test_selection", "type_check_command")
OVERRIDING = re.compile(
    r"(^|/)(\.?pytest\.(ini|toml)|tox\.(ini|toml)|setup\.(cfg|py)|\.coveragerc(\.toml)?|\.?mypy\.ini|\.?ruff\.toml|\.hadolint\.ya?ml"
    r"|\.shellcheckrc|\.?gitleaks.*|\.secrets\.baseline|GNUmakefile|makefile|(site|user)customize(\.py|/__init__\.py)|[^/]+\.pth|\.actrc"
    r"|\.env)$|/pyproject\.toml$"
)
"""Files that a tool would prefer to what we promise, or that would change every Python process."""
PLUGIN = re.compile(r"^\s*((async\s+)?def\s+pytest_\w+\s*\(|pytest_\w+\s*[:=])", re.MULTILINE)
"""A hook of pytest, or what it reads in a module."""
UNASKED = re.compile(r"^\s*(@.*)?autouse\s*=", re.MULTILINE)
"""A fixture that tests get without asking: in a module of tests for its own only, elsewhere for who imports it."""
CHANGING = re.compile(
    r"__(enter|import)__|__(del|set)(attr|item)__|(del|set)(attr|env|item)|(put|unset)env|addHandler|basicConfig|chdir|disable"
    r"|enter_context|exec|mkdir|rmtree|set(profile|trace)|simplefilter|start|syspath_prepend|system|unlink|write_(bytes|text)"
)
"""A function or method that changes something outside of what it returns."""
CHANGING_ITSELF = re.compile(
    r"add|append|clear|discard|extend|insert|(load|register)_profile|pop(item)?|remove|reverse|setdefault|sort|update"
)
"""A method that changes its object, which may be an imported one, such as `os.environ`."""
WHOLE_FILE = re.compile(r"^\s*#\s*(ruff|flake8)\s*:\s*noqa|^\s*#\s*mypy\s*:|^\s*#\s*type:\s*ignore|pragma: no (cover|branch)", re.MULTILINE)  # fmt: skip
"""Comments that switch a check off for a file, or code off for the coverage."""
UNTESTED = re.compile(
    r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip|exit)\b|from pytest import|unittest\.skip|SkipTest|collect_ignore"
    r"|\b__test__\b|parametrize\(\s*(\"[^\"]*\"|\([^()]*\)),\s*(\[\]|\(\))\s*\)"
)
"""What keeps a test from running, or from failing; no file may contain it, see `switched_off`."""

MACHINE = re.compile(r"\b(environ|getenv|which|platform|find_spec|gete?uid|cpu_count)\b")
"""What a test asks about the machine that it runs on."""
SWALLOWING = re.compile(r"\b(AssertionError|(Base)?Exception(Group)?)\b")
"""An exception that a failed assertion is."""

FOR_PEOPLE = ("apiVersion", "description", "kind", "runbook_url", "summary", "x-reasons")
RULE = re.compile(r"^([\w.$()/%-]+):(?!=)(.*?)(?:##.*)?$", re.MULTILINE)
ASKING = re.compile(
    r"\$\((\w+)[):]|\$\{?[!#]?([A-Za-z_]\w*)|^ifn?def (\w+)|\$\((?:flavor|origin|value) (\w+)|^(?:export )?(\w+) \?=",
    re.MULTILINE,
)
"""A variable that a makefile or a shell script reads, or sets unless whoever runs it did."""
SET = re.compile(r"^(?:export )?(\w+) :=|(?:^|[\s;@])([a-z]\w*)\+?=|\bfor (\w+) in|\bmapfile .*?(\w+) <", re.MULTILINE)
"""A variable that it sets itself: of a shell only those in small letters, as others are for its surroundings."""
OF_NO_TASK = ("description", "doc_md", "parameters", "params", "tags", "task_id")
"""Arguments of a task that say nothing about what it does, or that other tests hold."""
UNLIMITED = re.compile(r"(str|float|dict\[str, \w+(\[Any\])?\])( = .*)?")
BOUNDS = ("ge", "gt", "le", "lt", "max", "max_length", "min", "min_length", "multiple_of", "pattern")
LIMITING = frozenset(
    {
        *("allow_inf_nan", "allow_nan", "analytics_enabled", "autoescape", "auto_remove", "buckets", "days"),
        *(
            "early_stopping",
            "extra",
            "hide_parameters",
            "hide_password",
            "hours",
            "include_input",
            "max_workers",
            "minutes",
        ),
        *("pool", "pool_pre_ping", "read_only", "schedule", "success_codes", "timeout", "trigger_rule"),
    }
)
"""Arguments that limit something, keep something secret, or say when and in whose turn something runs."""
EXPRESSION, NAME = re.compile(r"\$\{\{\s*(.*?)\s*\}\}"), re.compile(r"(?<!['\w])[a-z]+(\.[\w-]+)+")

Document = dict[Any, Any]


@cache
def repository() -> dict[str, str]:
    """Return the text of every file of the repository, by its path: of those that Git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of whoever runs the tests
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = sorted({path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()})
    return {path: (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in paths}


def definition_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return those files that define a gate, or that may change what every test does."""
    return {path: text for path, text in files.items() if _defines(path, text)}


@cache
def _defines(path: str, text: str) -> bool:
    if path in (HOOKS, PROJECT, CI, SHORTCUTS) or OVERRIDING.search(path):
        return True
    if path.startswith(".github/"):
        # A form for issues defines no gate.
        return path.endswith((".yml", ".yaml", "/CODEOWNERS")) and "ISSUE_TEMPLATE" not in path
    if not path.endswith(".py"):
        return False
    name = path.rpartition("/")[2]
    plugin = name == "conftest.py" or PLUGIN.search(text) or (UNASKED.search(text) and not name.startswith("test_"))
    return bool(plugin or (path.startswith("tests/") and _conftest(path, text)))


def stated(files: Mapping[str, str]) -> Document:
    """Return what the files state, by path; the versions of actions and the names of steps are left out."""
    found: Document = {}
    for path, text in files.items():
        if path == PROJECT:
            document = tomllib.loads(text)
            # Which files are mutated, and by which tests, only grows.
            for name in GROWING:
                document["tool"].get("mutmut", {}).pop(name, None)
            found[path] = document["tool"] | {
                "build-system": document["build-system"],
                **{name: document["project"][name] for name in STARTED_BY if name in document["project"]},
                # ci.yml tests what is supported.
                "python": [
                    document["project"]["requires-python"],
                    *(each for each in document["project"]["classifiers"] if each.startswith("Programming Language")),
                ],
            }
        elif path.endswith((".yml", ".yaml")):
            found[path] = _workflow(yaml.load(text, yaml.CSafeLoader))
        elif path.endswith(".py"):
            found[path] = _conftest(path, text)
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
            # Who owns them is for each team to say, but somebody has to.
            found[path] = [each.split()[0] for each in lines if " @" in each] if path.endswith("CODEOWNERS") else lines
    return found


def source_files() -> dict[str, str]:
    """Return the text of every module that ships or is a gate, by its path below `src/ctcd` or in the repository."""
    package = ROOT / "src" / "ctcd"
    shipped = {str(path.relative_to(package)): path for path in package.rglob("*.py")}
    places = ("dags", "docker", "examples/patterns", "scripts", "tests/adopt", "tests/load", "tests/prove")
    others = {str(path.relative_to(ROOT)): path for place in places for path in (ROOT / place).glob("*.py")}
    # The catalogue is no gate.
    others = {name: path for name, path in others.items() if not path.name.startswith(("in_", "subjects"))}
    return {name: path.read_text(encoding="utf-8") for name, path in sorted((shipped | others).items())}


def running_files() -> dict[str, str]:
    """Return the text of every file that says how images, containers and pods run, by its path in the repository.

    And of those that the policies of a new instance are made from: until somebody confirms them, they are its limits.
    """
    found = [path for folder in ("deploy", "docker") for path in (ROOT / folder).rglob("*")]
    files = [path for path in found if path.suffix in (".cfg", ".sh", ".yaml", ".yml") or path.name == "Dockerfile"]
    files += (ROOT / "src" / "ctcd" / "templates" / "instance").glob("*.toml.j2")
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}


def limits(files: Mapping[str, str]) -> dict[str, Any]:
    """Return what files that say how something runs state, by path: of YAML each value, of other files each line.

    A value stands at the place that its keys name. What is repeated by an alias is told once, and what is merged, in order.
    Texts for people, the labels of images, and what Kubernetes checks itself are left out.
    """
    found: dict[str, Any] = {}
    for path, text in files.items():
        if path.endswith((".yaml", ".yml")):
            documents = [yaml.load(part, _Unmerged) for part in re.split(r"^---$", text, flags=re.MULTILINE)]  # noqa: S506 - a safe loader
            merged = re.findall(r"<<: \*([\w-]+)", text)
            found[path] = {"<<": " ".join(merged)} if merged else {}
            seen: dict[int, str] = {}
            found[path] |= {name: value for document in documents for name, value in _values(document, seen)}
        else:
            lines = [line.strip() for line in text.replace("\\\n", "").splitlines()]
            kept = [line for line in lines if line and not line.startswith(("#", "LABEL"))]
            found[path] = [re.sub(" +", " ", line) for line in kept]
    return found


class _Unmerged(yaml.CSafeLoader):
    """Leaves out what a mapping takes over from another one, where it stands already."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        node.value = [(key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge"]


def prerequisites(files: Mapping[str, str]) -> dict[str, str]:
    """Return what each target of makefiles needs first, by its name; what comes after a `|` only has to exist."""
    found = [rule for text in files.values() for rule in RULE.findall(text)]
    return {target: needed.strip() for target, needed in found if target != ".PHONY"}


def asked(files: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that makefiles and shell scripts take from whoever runs them, by path; makefiles share theirs."""
    found: dict[str, set[str]] = {}
    set_by_make: set[str] = set()
    for path, text in files.items():
        made = path == "Makefile" or path.startswith("make/")
        if made or (path.startswith("scripts/") and path.endswith(".sh")):
            # In a script `$(name)` calls a function.
            code = re.sub(r"^\s*#.*$", "", text if made else text.replace("$(", "("), flags=re.MULTILINE)
            asking, own = ({name for names in each.findall(code) for name in names if name} for each in (ASKING, SET))
            found[path] = asking - own
            set_by_make |= own if made else set()
    rest = {path: names if path.startswith("scripts/") else names - set_by_make for path, names in found.items()}
    return {path: " ".join(sorted(names)) for path, names in rest.items() if names}


def _values(node: Any, seen: dict[int, str], where: str = "") -> Iterator[tuple[str, Any]]:
    scalars = isinstance(node, list) and not any(isinstance(each, dict | list) for each in node)
    if not isinstance(node, dict | list) or not node or scalars:
        yield where, " ".join(node.split()) if isinstance(node, str) else node
        return
    if id(node) in seen:
        yield where, f"as {seen[id(node)]}"
        return
    seen[id(node)] = where
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(node, list):
            # A name says more than a number, which changes when something is inserted.
            known = value.get("name", value.get("alert", name)) if isinstance(value, dict) else name
            yield from _values(value, seen, f"{where}[{known}]")
        elif name not in FOR_PEOPLE and not (where.endswith(f"[{value}]") and name in ("name", "alert")):
            yield from _values(value, seen, f"{where}.{name}" if where else str(name))


def defaults(files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the limits and defaults in modules, by path and name.

    These are

    - what is assigned at the top of a module and is or holds a number or a duration, sets of words, and switches;
    - the same of the fields of classes, with the bounds of their annotations, and of annotations that have a name;
    - the fields of policies;
    - numbers and booleans that a parameter has if it is not given, with its bounds, and every default of an option;
    - numbers, switches and names that a call is given for one of `LIMITING`;
    - all that DAGs and their tasks are given, and the order of the tasks.
    """
    found = {path: _defaults_of(path, text) for path, text in files.items()}
    return {path: each for path, each in found.items() if each}


@cache
def _defaults_of(path: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _defaults(path, ast.parse(text)):
        # Two calls of the same name, as of two tasks: all of their values count.
        found[name] = [*_as_list(found[name]), value] if name in found else value
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _defaults(path: str, module: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in module.body:
        yield from _assigned(node)
    for part in ast.walk(module):
        match part:
            case ast.ClassDef():
                policy = any(ast.unparse(base) == "StrictModel" for base in part.bases)
                for node in part.body:
                    if policy and isinstance(node, ast.AnnAssign):
                        if not UNLIMITED.fullmatch(text := _annotated(node)):
                            yield f"{part.name}.{ast.unparse(node.target)}", text
                        continue
                    # Counters begin at 0 and switches are off, unless it is promised otherwise.
                    found = _assigned(node, f"{part.name}.")
                    yield from ((name.removeprefix("Settings."), value) for name, value in found if value)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _parameters(part, every=path.startswith("cli/"))
            case ast.Call():
                yield from _given(part, every=path.startswith("dags/"))
            case ast.Expr(value=ast.BinOp(op=ast.RShift())):
                yield "order", ast.unparse(part)


def _assigned(node: ast.stmt, owner: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a statement at the top of a module or a class assigns, if that is a limit; of a dictionary its entries."""
    if isinstance(node, ast.AnnAssign):
        # A setting's default is an argument of its `Field`; a class variable of the settings is a path below the home.
        given = [each.value for each in getattr(node.value, "keywords", ()) if each.arg == "default"] or [node.value]
        value, bounds = given[0], _bounds(node.annotation)
        if owner == "Settings." and "ClassVar" in ast.unparse(node.annotation):
            return
        if bounds or owner == "Settings.":
            texts = [*([_text_of(value)] if value else []), *bounds]
            yield f"{owner}{ast.unparse(node.target)}", " ".join(texts)
            return
        pairs: list[tuple[ast.expr, ast.expr]] = [(node.target, value)] if value else []
    elif isinstance(node, ast.Assign):
        pairs = []
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs += zip(target.elts, node.value.elts, strict=True)
            else:
                pairs.append((target, node.value))
    else:
        return
    for target, value in pairs:
        yield from _limit(f"{owner}{ast.unparse(target)}", value)


def _annotated(node: ast.AnnAssign) -> str:
    """Return a field of a policy: its type with all that it allows, and its default."""
    for call in ast.walk(node.annotation):
        if isinstance(call, ast.Call):
            call.keywords = [each for each in call.keywords if each.arg not in FOR_PEOPLE]
    return " = ".join(ast.unparse(each) for each in (node.annotation, node.value) if each)


def _limit(name: str, value: ast.expr) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ast.Dict):
        for key, entry in zip(value.keys, value.values, strict=True):
            if key and (stated := _stated(entry)) is not None:
                yield f"{name}[{ast.unparse(key)}]", stated
    elif bounds := _bounds(value):  # an annotation with a name
        yield name, " ".join(bounds)
    elif (stated := _stated(value)) is not None and name != "TYPE_CHECKING":
        yield name, stated


def _stated(node: ast.expr) -> Any:
    """Return a number or a switch, or the text of a duration, of a collection with numbers or of a set of words, else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return node.value
    if (number := _number(node)) is not None:
        return number
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("timedelta", "frozenset"):
        return ast.unparse(node)
    if isinstance(node, ast.Tuple | ast.List | ast.Set) and any(_number(each) is not None for each in node.elts):
        return ast.unparse(node)
    return None


def _bounds(annotation: ast.expr) -> list[str]:
    """Return what the `Field`s and options within an annotation limit, as `name=value`."""
    return [
        f"{each.arg}={_text_of(each.value)}"
        for call in ast.walk(annotation)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("Field", "typer.Option", "typer.Argument")
        for each in call.keywords
        if each.arg in BOUNDS
    ]


def _text_of(node: ast.expr) -> str:
    number = _number(node)
    return ast.unparse(node) if number is None else str(number)


def _given(call: ast.Call, *, every: bool) -> Iterator[tuple[str, Any]]:
    """Yield the limits among the arguments of a call; those of a task have its name."""
    function = ast.unparse(call.func)
    if function in ("timedelta", "Field", "typer.Option", "typer.Argument"):
        return
    named = [each.value for each in call.keywords if each.arg == "task_id"]
    owner = ast.literal_eval(named[0]) if named and isinstance(named[0], ast.Constant) else function.rpartition(".")[2]
    task = every and (bool(named) or function == "DAG")
    for each in call.keywords:
        value = _stated(each.value)
        if (task and each.arg not in OF_NO_TASK) or each.arg in LIMITING:
            yield f"{owner}({each.arg or '**'})", ast.unparse(each.value) if value is None else value
        elif every and value is not None:
            yield f"{owner}({each.arg})", value


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, *, every: bool) -> Iterator[tuple[str, Any]]:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    pairs = [
        *zip(positional[::-1], given.defaults[::-1], strict=False),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        name = f"{node.name}({parameter.arg})"
        bounds = _bounds(parameter.annotation) if parameter.annotation else []
        if bounds:
            yield name, " ".join([ast.unparse(default) if default else "", *bounds]).strip()
        elif isinstance(default, ast.Constant) and isinstance(default.value, bool | int | float):
            if parameter.arg != "json":
                yield name, default.value
        elif every and default is not None and ast.unparse(default) != "None":
            yield name, ast.unparse(default)


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


@cache
def _module(text: str) -> ast.Module:
    return ast.parse(text)


ASKED_FOR = re.compile(r"pytest\.fixture(\((?!.*(autouse|\*\*)).*\))?")
"""A fixture that only those tests get that name it."""


@cache
def _conftest(path: str, text: str) -> dict[str, list[str]]:
    """Return the code of a module that can change every test, by the name of what it defines; that of statements at `""`.

    Of a module that pytest reads by itself this is all but imports, texts and fixtures that tests ask for; of another one
    of the tests, hooks and what it does when it is imported, other than to define, to check or to start its `main`. What
    a definition does meanwhile counts, as a default or a class's body may do anything.
    """
    lines, module = text.splitlines(), _module(text)
    read = path.rpartition("/")[2] == "conftest.py" or path == SHORTCUTS or not path.startswith("tests/")
    found: dict[str, list[str]] = {}
    for node in module.body:
        name, begin, skipped, acts = "", node.lineno, range(0), _acts(node, module, text)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators = [ast.unparse(each) for each in node.decorator_list]
            fixture = bool(decorators) and all(map(ASKED_FOR.fullmatch, decorators))
            if not acts and (fixture if read else not node.name.startswith("pytest_")):
                continue
            name, begin = node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if ast.get_docstring(node):
                skipped = range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
        elif _names_only(node) if read else not acts and _defines_only(node):
            continue
        code = [lines[at - 1] for at in range(begin, (node.end_lineno or 0) + 1) if at not in skipped]
        found[name] = [*found.get(name, ()), *code]
    return found


def _acts(node: ast.stmt, module: ast.Module, text: str) -> bool:
    """Return whether a statement at the top of a module changes something else than the name that it defines.

    It does so if something that it runs assigns to a part of an imported object, or calls what changes one. And a call
    whose result has a name that nobody reads is made for what it does.
    """
    parts = list(_executed(node, module))
    imports = [each for each in (*module.body, *parts) if isinstance(each, ast.Import | ast.ImportFrom)]
    names = [(found, each.asname or each.name.partition(".")[0]) for found in imports for each in found.names]
    imported, modules = {name for _, name in names}, {name for found, name in names if isinstance(found, ast.Import)}
    for part in parts:
        match part:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                changes = _root(part) in imported
            case ast.Call(func=ast.Attribute(attr=name, value=owner)) if CHANGING_ITSELF.fullmatch(name):
                # `np.append` changes nothing: a module has no methods.
                changes = _root(owner) in imported and ast.unparse(owner) not in modules
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                changes = bool(CHANGING.fullmatch(name))
            case _:
                changes = False
        if changes:
            return True
    called = isinstance(node, ast.Assign | ast.AnnAssign) and any(isinstance(part, ast.Call) for part in parts)
    return called and any(
        name.startswith("_") and not _is_read(name, text) for name in map(ast.unparse, _targets(node))
    )


def _targets(node: ast.stmt) -> list[ast.expr]:
    """Return what a statement assigns to, of a tuple each part."""
    match node:
        case ast.Assign(targets=targets):
            return [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return [target]
    return []


def _is_read(name: str, text: str) -> bool:
    return bool(name.strip("_")) and len(re.findall(rf"\b{name}\b", text)) > 1


def _executed(node: ast.stmt, module: ast.Module) -> Iterator[ast.AST]:
    """Yield what runs of a statement while its module is imported, with the module's own functions that it calls."""
    left = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    todo: list[ast.AST] = [node]
    while todo:
        called: list[ast.expr] = []
        match part := todo.pop():
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                called = part.decorator_list
                todo += [*part.decorator_list, part.args]
            case ast.Lambda():
                todo.append(part.args)
            case ast.If(test=test) if ast.unparse(test) == "__name__ == '__main__'":
                todo += part.orelse
            case _:
                yield part
                called = [part.func] if isinstance(part, ast.Call) else []
                todo += ast.iter_child_nodes(part)
        for each in called:
            if isinstance(each, ast.Lambda):
                todo.append(each.body)
            elif isinstance(each, ast.Name) and each.id in left:
                todo += left.pop(each.id).body


def _root(node: ast.expr) -> str:
    """Return the name whose object a part of it belongs to, as `os` of `os.environ["X"]`; "" if there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "vars"):
        return _root(node.args[0])
    return node.id if isinstance(node, ast.Name) else ""


def _names_only(node: ast.stmt) -> bool:
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            # An imported hook is one of the module, and a star may bring any.
            return not any(re.match(r"pytest_|\*", each.asname or each.name) for each in names)
        case _:
            return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _defines_only(node: ast.stmt) -> bool:
    match node:
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            # The marks of a module say what it needs; a skip would be found by `switched_off`.
            read = re.compile(r"pytest(?!mark$)|__test__$")
            return all(isinstance(each, ast.Name) and not read.match(each.id) for each in _targets(node))
        case ast.If(test=test):
            return ast.unparse(test) in ("TYPE_CHECKING", "__name__ == '__main__'") and not node.orelse
        case _:
            return _names_only(node) or isinstance(node, ast.Assert)


def switched_off(files: Mapping[str, str]) -> dict[str, list[re.Pattern[str]]]:
    """Return the modules that switch off a check for all of them, or keep a test from running, with what says so."""
    modules = {path: text for path, text in files.items() if path.endswith(".py")}
    found = {path: [each for each in (WHOLE_FILE, UNTESTED) if each.search(text)] for path, text in modules.items()}
    return {path: each for path, each in found.items() if each}


def count_tests(files: Mapping[str, str]) -> dict[str, int]:
    """Return how many tests each file of tests has, by its path; those of all parameters of a test count as one."""
    names = {path: path.rpartition("/")[2] for path in files}
    return {path: _tests(files[path]) for path, name in names.items() if re.fullmatch(r"test_\w+\.py", name)}


@cache
def _tests(text: str) -> int:
    """Count what pytest collects: functions at the top of a module, by name, that nothing replaces."""
    found = set[str]()
    for node in _module(text).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                fixture = any(ast.unparse(each).startswith("pytest.fixture") for each in node.decorator_list)
                (found.discard if fixture else found.add)(name)
            case ast.ClassDef(name=name):
                found.discard(name)
            case _:
                for part in ast.walk(node):
                    if isinstance(part, ast.alias):
                        found.discard(part.asname or part.name)
                    elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                        found.discard(part.id)
    return sum(name.startswith("test_") for name in found)


def idle_tests(files: Mapping[str, str]) -> list[str]:
    """Return the tests that check nothing, each as `path::name`: whatever they test may do anything."""
    modules = {path: text for path, text in files.items() if re.fullmatch(r"test_\w+\.py", path.rpartition("/")[2])}
    return [f"{path}::{name}" for path, text in modules.items() for name in _idle(text)]


@cache
def _idle(text: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(_module(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and (_passes(node) or not any(_checks(part) for each in _reached(node.body) for part in ast.walk(each)))
    ]


def _passes(test: ast.AST) -> bool:
    """Return whether a test passes although an assertion of it fails, or without one where the machine is another."""
    for node in ast.walk(test):
        match node:
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=caught):
                if any(SWALLOWING.search(ast.unparse(each)) for each in caught):
                    return True
            case ast.ExceptHandler(type=caught):
                if caught is None or SWALLOWING.search(ast.unparse(caught)):
                    return True
            case ast.If(test=asked, body=[*_, ast.Return()]) if MACHINE.search(ast.unparse(asked)):
                return True
    return False


def _reached(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a function up to a `return`, of an `if` with a constant those that it leads to."""
    left = list(body)
    while left:
        match left.pop(0):
            case ast.Return():
                return
            case ast.If(test=ast.Constant(value=value), body=then, orelse=otherwise):
                left[:0] = then if value else otherwise
            case node:
                yield node


def _checks(node: ast.AST) -> bool:
    """Return whether something may fail: a call, or an assertion about something that has a name."""
    return isinstance(node, ast.Call | ast.Raise) or (
        isinstance(node, ast.Assert) and any(isinstance(part, ast.Name) for part in ast.walk(node.test))
    )


def too_few(found: Mapping[str, int], promised: Mapping[str, int]) -> Iterator[str]:
    """Yield what there is less of than is promised, and what is not promised at all."""
    for name in sorted(found.keys() | promised.keys()):
        if name not in promised:
            yield f"{name} is not promised: {found[name]}"
        elif found.get(name, 0) < promised[name]:
            yield f"{name} has {found.get(name, 0)}, promised are at least {promised[name]}"
