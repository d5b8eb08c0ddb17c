"""Runs pytest in forks of a process that has imported the libraries, whose imports take most of the time of one test.

Reads one request as JSON per line, and writes the exit code of each; see `prove.tree`. None of our own code is imported
before the fork, so that a test imports that of its copy.
"""

import gc
import importlib
import json
import os
import sys
import threading
import traceback

LIBRARIES = (
    "_bentoml_impl.server.app",
    "alembic.command",
    "anyio.pytest_plugin",
    "asgiref.sync",
    "bentoml",
    "catboost",
    "coverage",
    "hypothesis.extra.pandas",
    "jsonschema",
    "matplotlib.figure",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "open_data_contract_standard.model",
    "pandera.pandas",
    "pandera.strategies.pandas_strategies",
    "prometheus_client.multiprocess",
    "pyarrow.parquet",
    "pydantic_settings",
    "pymysql",
    "pytest",
    "pytest_cov.plugin",
    "pytest_timeout",
    "rich.console",
    "scipy.stats",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "typer.testing",
    "typeguard._pytest_plugin",
    "uvicorn.protocols.http.httptools_impl",
    "watchfiles",
    "xdist.plugin",
    "yaml",
)


def run(request: dict[str, object]) -> int:
    """Run pytest as a process of its own would, and return its exit code."""
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload] # as `prove.tree` wrote it
    output = os.open(str(request["output"]), os.O_WRONLY | os.O_CREAT, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    sys.path[:0] = [str(request["folder"]), *os.environ["PYTHONPATH"].split(os.pathsep)]
    sys.dont_write_bytecode = True
    import pytest

    # What libraries assert is not rewritten, since they are imported.
    quiet = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
    return int(pytest.main([*quiet, *request["arguments"]]))  # type: ignore[misc] # as above


def main() -> None:
    """Import, then run each request in a fork until there are no more."""
    for name in LIBRARIES:
        importlib.import_module(name)
    ours = [name for name in sys.modules if name.partition(".")[0] in {"ctcd", "support", "tests"}]
    threads = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    if ours or threads:
        raise RuntimeError(f"a fork would share {ours} or lose {threads}")
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1  # as that of a process that ends with an exception
            try:
                code = run(json.loads(line))
            except BaseException:  # noqa: BLE001 - it is printed; what tests found is read from their report
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
