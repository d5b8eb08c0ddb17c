"""Messages of other libraries are never shown, in no part of the source and in no process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ctcd.errors import CtcdError, DataRefused, NotFound, number_of, shown

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for name in ("src", "dags", "docker", "scripts") for path in (ROOT / name).rglob("*.py"))
SECRET = "swordfish"
FACTS = frozenset({"errno", "strerror", "filename", "lineno", "name", "returncode", "status", "code", "error_code"})
"""Attributes that say what happened without a value: numbers, names of files and modules, texts of the system."""
CAREFUL = frozenset({"shown", "isinstance", "type", "getattr"})
"""Functions that an exception may be passed to."""
READ_ANYWAY = {
    ("src/ctcd/model/trees.py", "BaseException"): "kept as it is, and raised after the fit that it ends",
    ("src/ctcd/training/train.py", "BaseException"): "kept as it is; the first one of several trials is raised",
    ("src/ctcd/cli/app.py", "TyperException"): "the user's own options",
    ("src/ctcd/contract/instance.py", "Exception|SystemExit"): "an error in the source of a contract",
    ("src/ctcd/contract/spec.py", "Exception"): "an error in the source of a contract",
    ("src/ctcd/serving/prediction_log/shipper.py", "Exception"): "its error code is looked up",
    ("src/ctcd/contract/policy_file.py", "ValueError|RecursionError"): "an error in a policy",
    ("src/ctcd/contract/policy_file.py", "ValidationError"): "an error in a policy",
    ("src/ctcd/training/grid.py", "ValidationError"): "an error in a policy",
    ("src/ctcd/drafts/check.py", "TypeError|ValueError|OSError"): "an error in a policy",
    ("src/ctcd/drafts/check.py", "ValidationError"): "an error in a contract's own examples; the input is left out",
    ("src/ctcd/registry/tracking.py", "MlflowException|RequestException"): "the class of what is behind it",
    ("src/ctcd/settings.py", "ValueError"): "the messages of our parser of URLs, which repeat nothing",
    ("src/ctcd/settings.py", "ValidationError"): "our validators' messages; the input is left out",
    ("src/ctcd/contract/validation.py", "SchemaErrors"): "the positions of rows and the rules they break are read",
    ("src/ctcd/serving/http/handlers.py", "ValidationError"): "the problem's document leaves the values out",
    ("src/ctcd/serving/http/openapi.py", "ValidationError"): "the contract's own example",
    ("src/ctcd/serving/batch_predictor.py", "ValidationError"): "as in the handlers, which read it",
    ("src/ctcd/serving/batch_body.py", "ValidationError"): "the problem's document leaves the values out",
    ("src/ctcd/serving/batch_body.py", "ValueError"): "the JSON parser's messages are constant",
    ("src/ctcd/serving/http/connection.py", "HttpParserUpgrade"): "the position in the request",
    ("src/ctcd/serving/broker.py", "ResponseError"): "whether a group of consumers exists already",
    ("src/ctcd/serving/launch.py", "OSError"): "returned to a caller that reads its strerror",
    ("src/ctcd/serving/predictor.py", "BaseException"): "handed to the request, which raises it",
    ("src/ctcd/store/bigquery.py", "GoogleAPIError|GoogleAuthError|OSError"): "the class of its cause",
    ("src/ctcd/store/engine.py", "DBAPIError"): "its code is looked up",
    ("src/ctcd/store/engine.py", "OperationalError"): "its code is looked up",
    ("src/ctcd/store/sources.py", "Error"): "the csv module's messages are constant",
    ("src/ctcd/store/migrations/__init__.py", "CommandError"): "Alembic knows revisions only",
    ("src/ctcd/drafts/conformance.py", "Exception|SystemExit"): "the rows are synthetic",
    ("src/ctcd/model/trees.py", "CatBoostError"): "training data has no personal column",
    ("src/ctcd/model/encoder.py", "KeyError"): "the name of a missing column",
    ("src/ctcd/promotion/evaluation.py", "ValidationError"): "the column and the rule are read, not the value",
    ("src/ctcd/promotion/gate.py", "Exception|SystemExit"): "raised again where the model would be used",
    ("src/ctcd/promotion/gate.py", "OSError"): "as above",
    ("src/ctcd/registry/tracking.py", "DBAPIError"): "the class of the driver's error",
    ("src/ctcd/serving/champion/poller.py", "Exception"): "passed to a method that shows it",
    ("src/ctcd/serving/prediction_log/outbox.py", "Error"): "passed to a function that shows it",
    ("src/ctcd/serving/prediction_log/outbox.py", "OSError"): "passed to a function that shows it",
    ("src/ctcd/airflow/runners/container.py", "DockerException"): "Docker's daemon sees no data",
    ("src/ctcd/airflow/runners/pod.py", "ApiException|AirflowException|HTTPError"): "Kubernetes sees no data",
    ("src/ctcd/airflow/hook.py", "Error"): "its code is looked up",
    ("scripts/load_release.py", "Exit"): "its exit code",
    ("src/ctcd/cli/app.py", "Exception"): "passed to a function that shows it",
    ("docker/healthcheck.py", "OSError"): "a connection's error; the script has no package to import",
    ("scripts/report_regression.py", "URLError"): "a connection's error; the script has no package to import",
    ("scripts/start_training.py", "URLError"): "a connection's error; the script has no package to import",
}
"""Handlers that read a foreign exception all the same, by file and kinds, and why that shows nothing."""


@cache
def nodes() -> tuple[ast.AST, ...]:
    """Return every node of the source."""
    return tuple(node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())))


@cache
def ours() -> frozenset[str]:
    """Return the names of the classes in the source whose messages are ours."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases} for node in nodes() if isinstance(node, ast.ClassDef)
    }
    found = {CtcdError.__name__, "Problem", "RowsRefused", "TooLarge", "Unreadable"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return frozenset(found)


def readers(source: str, safe: frozenset[str]) -> Iterator[str]:
    """Yield the kinds of each handler that reads more of a foreign exception than facts."""
    for handler in ast.walk(ast.parse(source)):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        kinds = [ast.unparse(kind).rpartition(".")[2] for kind in types]
        if set(kinds) <= safe:
            continue
        around = {child: node for node in ast.walk(handler) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(handler):
            if isinstance(node, ast.Name) and node.id == handler.name:
                user = around[node]
                harmless = (
                    isinstance(user, (ast.Raise, ast.withitem))
                    or (isinstance(user, ast.Attribute) and user.attr in FACTS)
                    or (isinstance(user, ast.Call) and ast.unparse(user.func) in CAREFUL)
                )
                if not harmless:
                    yield "|".join(kinds)


@pytest.mark.slow
def test_only_our_messages_are_read() -> None:
    """No handler reads a foreign exception's text, but those that say why nothing can be shown by it."""
    safe = ours()
    found = {(str(path.relative_to(ROOT)), kinds) for path in SOURCES for kinds in readers(path.read_text(), safe)}
    assert found == set(READ_ANYWAY)


@pytest.mark.slow
@pytest.mark.parametrize("use", ["print(error)", "f'{error}'", "str(error)", "error.args", "log('%s', error)"])
def test_a_handler_that_reads_the_text_is_found(use: str) -> None:
    """Printing, formatting or logging a foreign exception is found; its `errno`, `shown(error)` and our own errors are not."""
    source = "try:\n    pass\nexcept {kind} as error:\n    {use}\n"
    assert list(readers(source.format(kind="OSError", use=use), ours())) == ["OSError"]
    assert list(readers(source.format(kind="OutboxFull", use=use), ours())) == []
    assert list(readers(source.format(kind="OSError", use="print(error.errno, shown(error))"), ours())) == []


@pytest.mark.slow
def test_every_engine_hides_parameters() -> None:
    """Wherever the source makes an engine, its errors leave out the parameters, which are rows."""
    calls = [
        node for node in nodes() if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_engine")
    ]
    assert len(calls) == 3
    assert all("hide_parameters=True" in ast.unparse(call) for call in calls)


def test_a_number_has_a_noun_that_agrees_with_it() -> None:
    """One is singular; all other numbers are plural, with separators between thousands."""
    assert [number_of(each, "row") for each in (0, 1, 2, 2_000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]
    assert [number_of(each, "entry", "entries") for each in (1, 2)] == ["1 entry", "2 entries"]


def test_ours_are_shown_and_others_located() -> None:
    """An error of ours is its message; of any other only class and place are shown, also where ours wraps it."""
    assert shown(NotFound("no champion", hint="train")) == "no champion (train)"
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError(SECRET)
    assert shown(caught.value) == f"ZeroDivisionError at {__file__}:{caught.tb.tb_lineno}"
    with pytest.raises(DataRefused) as wrapped:
        raise DataRefused("wrong") from caught.value
    assert shown(wrapped.value) == "wrong"
    assert shown(ModuleNotFoundError(SECRET, name="catboost")) == "the package catboost is not installed"


@pytest.mark.parametrize(
    "ending",
    [
        f"raise ValueError('{SECRET}')",
        f"import threading\ndef fail():\n    raise ValueError('{SECRET}')\nthreading.Thread(target=fail).start()",
        f"class A:\n    def __del__(self):\n        raise ValueError('{SECRET}')\nA()",
        f"import logging\nlogging.getLogger('library').error('ValueError: %s', '{SECRET}')",
        f"import logging\nlog = logging.getLogger('library')\ntry:\n    raise ValueError('{SECRET}')\nexcept ValueError:\n    log.exception('')",
    ],
    ids=["process", "thread", "destructor", "log", "logged exception"],
)
def test_what_nothing_catches_is_one_line_without_its_message(ending: str) -> None:
    """However an exception leaves the program, one line reports it, and its message is not in it."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", f"from ctcd.errors import show_only_our_messages as s\ns()\n{ending}\n"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stderr.splitlines()) == 1
    assert "ValueError" in done.stderr or "library at <string>:" in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_warnings_of_libraries_are_not_shown() -> None:
    """A library's warning may repeat a value: it is dropped, unless the caller asks Python for warnings."""
    code = f"from ctcd.errors import show_only_our_messages as s\nimport warnings\ns()\nwarnings.warn('{SECRET}')\n"
    for options, printed in (([], False), (["-W", "default"], True)):
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False
        )
        assert (SECRET in done.stderr) == printed
