"""Rules about the source itself: what keeps the engine separate from the instance, and its packages from each other."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
MODULES = sorted(SRC.rglob("*.py"))

ENGINE = ("src", "dags", "docker", "deploy", "scripts", "make", ".github", "Makefile")
EXAMPLE_WORDS = frozenset(
    (
        *("bank", "borrower", "credit", "customer", "debt", "emi", "income", "inhand", "inquiry", "instalment"),
        *("installment", "lender", "loan", "mortgage", "occupation", "payday", "payment", "salary", "ssn"),
    )
)
"""Words of the example that comes with the template. The list is fixed: an instance of another team may well have a
column called `label` or a category `yes`, and that is no reason for an alarm."""

ORDER = (
    "errors",
    "files",
    "urls",
    "settings",
    "git",
    "loopback",
    "progress",
    "times",
    "markdown",
    "html_report",
    "contract",
    "store",
    "derived",
    "model",
    "registry",
    "training",
    "promotion",
    "scoring",
    "serving",
    "monitoring",
    "traffic",
    "drafts",
    "deployment",
    "stages",
    "airflow",
    "cli",
)
"""The packages and modules of `ctcd`. Each may import those before it."""


def engine_files() -> Iterator[Path]:
    for name in ENGINE:
        path = ROOT / name
        files = [path] if path.is_file() else path.rglob("*")
        yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def example_words(text: str) -> list[tuple[int, str]]:
    """Return line and word of the example's words in a text, also where they are parts of an identifier or plural."""
    return [
        (number, word)
        for number, line in enumerate(text.splitlines(), 1)
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", line)
        if {word.lower(), word.lower().removesuffix("s")} & EXAMPLE_WORDS
    ]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import, also of those inside functions and for type checking only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def against_the_order(package: str, source: str) -> list[tuple[int, str]]:
    """Return the imports of a module in `ctcd.<package>` that its package may not make."""
    found = []
    for line, name in imports(source):
        first, _, rest = name.partition(".")
        if first == "ctcd" and (imported := rest.partition(".")[0]) not in ("", package):
            allowed = imported in ORDER and ORDER.index(imported) < ORDER.index(package)
            if not allowed:
                found.append((line, name))
        elif not first:
            found.append((line, name))
    return found


def used_names(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of every variable and attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def environment_reads(source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in used_names(source) if name in ("getenv", "getenvb", "environ", "environb")]


def outside_imports(source: str) -> list[tuple[int, str]]:
    """Return imports of what is in the repository but not in the wheel."""
    outside = {
        "benchmarks",
        "contracts",
        "dags",
        "scripts",
        "tests",
        *(path.name for path in (ROOT / "tests").iterdir()),
    }
    return [(line, name) for line, name in imports(source) if name.partition(".")[0] in outside]


def output(source: str) -> list[tuple[int, str]]:
    """Return where a module prints, or imports what prints."""
    written = [(line, name) for line, name in used_names(source) if name in ("print", "stdout", "stderr")]
    return written + [(line, name) for line, name in imports(source) if name.partition(".")[0] in ("rich", "typer")]


def package_of(path: Path) -> str:
    return path.relative_to(SRC / "ctcd").parts[0].removesuffix(".py")


def broken(rule: Callable[[Path, str], list[tuple[int, str]]], paths: Iterable[Path]) -> list[str]:
    """Return place and name of everything that breaks a rule in some files."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for line, name in rule(path, path.read_text(encoding="utf-8"))
    ]


@pytest.mark.slow
def test_the_engine_does_not_name_the_example() -> None:
    """Whoever replaces the instance finds no word of the example outside `contracts/`."""
    assert broken(lambda path, text: example_words(f"{path.name} {text}"), engine_files()) == []


@pytest.mark.parametrize(
    "text",
    ["credit", "Customers", "SSN", "num_of_loan", "customerId", "CREDIT_SCORE_HOME", "class CreditRow", "typeOfLOAN"],
)
def test_a_word_of_the_example_is_noticed(text: str) -> None:
    """Words are found in every case, in the plural and inside identifiers."""
    assert example_words(text) != []


@pytest.mark.parametrize("text", ["label", "yes", "Good", "credentials", "accreditation", "customise", "bankruptcy"])
def test_other_words_are_free(text: str) -> None:
    """Everyday words, and words that only begin like one of the example, raise no alarm."""
    assert example_words(text) == []


@pytest.mark.slow
def test_imports_run_in_one_direction() -> None:
    """No package imports one that comes after it, not even inside a function, so that there are no cycles."""
    packages = [path for path in MODULES if package_of(path) != "__init__"]
    assert broken(lambda path, text: against_the_order(package_of(path), text), packages) == []
    assert list(imports((SRC / "ctcd" / "__init__.py").read_text(encoding="utf-8"))) == []


def test_every_package_has_its_place_in_the_order() -> None:
    """A new package cannot escape the rule."""
    assert {package_of(path) for path in MODULES} - {"__init__"} == set(ORDER)


def described(page: str) -> list[str]:
    """Return the packages that a page has paragraphs about, in its order."""
    return re.findall(r"^\*\*`([a-z_]+)/`\*\* ", page, flags=re.MULTILINE)


def test_the_architecture_page_describes_every_package_in_this_order() -> None:
    """A newcomer finds one paragraph for each package, below those that it may import, and none for what is gone."""
    packages = [name for name in ORDER if (SRC / "ctcd" / name).is_dir()]
    assert described((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")) == packages


def test_a_paragraph_in_another_place_is_noticed() -> None:
    """The rule above compares the order of the paragraphs, and takes only their beginnings for it."""
    page = "**`store/`** has tables.\n\n**`contract/`** is checked by **`store/`** too.\n"
    assert described(page) == ["store", "contract"]


@pytest.mark.parametrize(
    "source",
    [
        "from ctcd.serving import app",
        "import ctcd.serving.app",
        "from ctcd import serving",
        "def later():\n    from ctcd.cli.app import app",
        "from ..serving import app",
        "from ctcd.unheard_of import anything",
    ],
)
def test_an_import_against_the_direction_is_noticed(source: str) -> None:
    """A cycle is found however the import is written."""
    assert len(against_the_order("store", source)) == 1
    assert against_the_order("store", "from ctcd.contract.spec import Contract") == []


@pytest.mark.slow
def test_only_settings_read_the_environment() -> None:
    """No module but `settings.py` reads an environment variable itself; a library may read its own."""
    # The supervisor's script sets one for its children.
    apart = {SRC / "ctcd" / "settings.py", SRC / "ctcd" / "serving" / "supervisor.py"}
    paths = {*MODULES, *(ROOT / "dags").glob("*.py")} - apart
    assert broken(lambda _, text: environment_reads(text), sorted(paths)) == []


def test_a_read_of_the_environment_is_noticed() -> None:
    """The rule finds each way to read an environment variable."""
    for source in ("os.environ['A']", "os.getenv('A')", "from os import environ\nenviron.get('A')"):
        assert len(environment_reads(source)) == 1


def threads(source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in used_names(source) if name in ("Thread", "Timer", "start_new_thread")]


@pytest.mark.slow
def test_every_thread_of_the_service_is_one_that_starts_again() -> None:
    """No module of the service starts a plain thread, which an exception would end for good; `Loop` is for that."""
    serving = SRC / "ctcd" / "serving"
    # The supervisor's script imports nothing of the package; its thread ends the process, whatever it meets.
    apart = {serving / "loops.py", serving / "supervisor.py"}
    assert broken(lambda _, text: threads(text), sorted({*serving.rglob("*.py")} - apart)) == []


def test_a_plain_thread_is_noticed() -> None:
    """The rule finds each way to start one."""
    for source in ("Thread(target=f).start()", "threading.Thread(target=f)", "Timer(1, f)"):
        assert len(threads(source)) == 1


def test_what_is_run_as_a_program_logs_by_its_name() -> None:
    """`__name__` of a module that is run is `__main__`, whose records bypass the format and the level of the service."""
    programs = [path for path in MODULES if 'if __name__ == "__main__":' in path.read_text()]
    assert programs
    assert [path for path in programs if "getLogger(__name__)" in path.read_text()] == []


@pytest.mark.slow
def test_the_engine_imports_no_instance_and_no_tests() -> None:
    """The wheel works without the repository around it."""
    assert broken(lambda _, text: outside_imports(text), MODULES) == []


def test_an_import_from_outside_is_noticed() -> None:
    """An import of the instance, the tests or the benchmarks is found, also inside a function."""
    for source in (
        "from contracts.features import CONTRACT",
        "def later():\n    import benchmarks",
        "from support.frames import typed",
    ):
        assert len(outside_imports(source)) == 1
    assert outside_imports("import airflow.sdk") == []


def test_stages_do_not_print() -> None:
    """A stage returns its report; the command line shows it."""
    stages = [path for path in MODULES if package_of(path) == "stages"]
    assert stages
    assert broken(lambda _, text: output(text), stages) == []


def test_output_is_noticed() -> None:
    """Printing is found in each form."""
    for source in ("print('done')", "sys.stdout.write('done')", "from rich.table import Table", "import typer"):
        assert len(output(source)) == 1
