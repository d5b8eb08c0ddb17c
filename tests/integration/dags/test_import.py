"""Every DAG file is imported as Airflow does it: in a fork of a process that has imported Airflow, and nothing of ours."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.airflow_home import ENVIRONMENT, ROOT
from support.instance import CONTRACT, INSTANCE

pytestmark = pytest.mark.integration

FILES = sorted((ROOT / "dags").glob("*.py"))
SECONDS = 0.5
"""Longest processor time that a file may take, with all that it imports: the best of three forks, as others only add."""
HEAVY = ("bentoml", "catboost", "great_expectations", "mlflow", "numpy", "pandas", "pandera", "sklearn")
"""What a DAG file does not import: the tasks do."""
PROGRAM = """
    import json, os, socket, sqlite3, sys, time, warnings
    import airflow, airflow.sdk, airflow.providers.common.sql.operators.sql, airflow.providers.standard.operators.bash
    from airflow.dag_processing.dagbag import DagBag
    import airflow.serialization.serialized_objects

    class Refused(Exception): pass

    def refuse(*arguments, **named):
        raise Refused("a DAG file reached for the network or a database when it was imported")

    def parse(path):
        known = set(sys.modules)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            began = time.process_time()
            bag = DagBag(dag_folder=path, bundle_path=None)
            seconds = time.process_time() - began
        return {
            "seconds": seconds,
            "imports": sorted({name.partition(".")[0] for name in set(sys.modules) - known}),
            "errors": list(bag.import_errors.values()),
            "warnings": [str(one.message) for one in seen],
            "dags": {name: {"doc": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs,
                            "description": dag.description or "",
                            "params": {name: {**param.schema, "description": param.description}
                                       for owner in (dag, *dag.tasks) for name, param in owner.params.items()},
                            "tasks": {task.task_id: {"retries": task.retries, "timeout": task.execution_timeout is not None,
                                                     "backoff": task.retry_exponential_backoff}
                                      for task in dag.tasks}}
                     for name, dag in bag.dags.items()},
        }

    socket.socket.connect = refuse
    sqlite3.connect = refuse
    times, *paths = sys.argv[1:]
    parsed = {}
    for path in paths:
        for _ in range(int(times)):
            read, write = os.pipe()
            if os.fork() == 0:
                with os.fdopen(write, "w") as result:
                    json.dump(parse(path), result)
                os._exit(0)
            os.close(write)
            with os.fdopen(read) as result:
                now = json.load(result)
            os.wait()
            parsed[path] = min(now, parsed.get(path, now), key=lambda one: one["seconds"])
    print()
    print(json.dumps(parsed))
"""


def parse(*paths: Path, times: int = 1, **environment: str) -> list[dict[str, Any]]:
    """Parse files in processes without database and network."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(times), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=ENVIRONMENT | {"PATH": "/usr/bin:/bin"} | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [document[str(path)] for path in paths]


def test_dag_files_are_light_and_clean() -> None:
    """Each DAG file is imported fast, without error or warning, without network or database, and documents its DAGs."""
    for path, parsed in zip(FILES, parse(*FILES, times=3), strict=True):
        assert parsed["errors"] == [], path.name
        assert parsed["warnings"] == [], path.name
        assert parsed["seconds"] < SECONDS, path.name
        assert set(HEAVY).isdisjoint(parsed["imports"]), path.name
        assert parsed["dags"], path.name
        for dag in parsed["dags"].values():
            assert dag["doc"]
            assert dag["tags"]
            assert dag["max_active_runs"] == 1
            for task in dag["tasks"].values():
                assert task["retries"], path.name
                assert task["timeout"], path.name
                assert task["backoff"] > 1, path.name


LIMITS = {"const", "enum", "format", "maxLength", "maximum", "pattern"}
"""What limits a parameter, of which each has at least one."""


def missing(dag: dict[str, Any]) -> list[str]:
    """Return what Airflow's lists and trigger form would not say about a DAG and its parameters, or not check."""
    found = [] if dag["description"] else ["description"]
    for name, schema in dag["params"].items():
        found += [f"{name}: {key}" for key in ("title", "description", "type") if not schema.get(key)]
        found += [f"{name}: limit"] if schema.get("type") != "boolean" and not LIMITS & schema.keys() else []
    return found


def test_every_dag_and_parameter_is_described_and_limited() -> None:
    """Lists of DAGs say what each is for; trigger forms say what each parameter is, and refuse what it cannot be."""
    dags = {name: dag for parsed in parse(*FILES) for name, dag in parsed["dags"].items()}
    assert {name: missing(dag) for name, dag in dags.items()} == {name: [] for name in dags}
    assert sum(bool(dag["params"]) for dag in dags.values()) >= 3


def test_a_parameter_that_is_not_described_or_limited_is_seen(tmp_path: Path) -> None:
    """Of a DAG, and of one of its tasks."""
    file = tmp_path / "bare.py"
    file.write_text(
        "from airflow.sdk import DAG, Param\n"
        "from airflow.providers.standard.operators.bash import BashOperator\n"
        "with DAG('bare', params={'days': Param(1, type='integer', title='Days', description='How many.')}):\n"
        "    BashOperator(task_id='sleep', bash_command='sleep 1', params={'seconds': 1})\n"
    )
    [parsed] = parse(file)
    assert missing(parsed["dags"]["bare"]) == [
        "description",
        "days: limit",
        *(f"seconds: {what}" for what in ("title", "description", "type", "limit")),
    ]


def test_dag_files_need_no_secret() -> None:
    """In production, too, they are parsed where nothing but a connection of Airflow's knows the feature store."""
    for path, parsed in zip(FILES, parse(*FILES, CTCD_ENVIRONMENT="production"), strict=True):
        assert parsed["errors"] == [], path.name
        assert parsed["dags"], path.name


def test_dags_are_named_after_the_contract() -> None:
    """Whoever looks at several Airflows sees whose DAG it is; the one that shows how is every model's."""
    files = [path for path in FILES if path.name != "simple_dag.py"]
    for path, parsed in zip(files, parse(*files, CTCD_CONTRACTS=str(INSTANCE.folder)), strict=True):
        assert all(name.startswith(f"{CONTRACT.name}_") for name in parsed["dags"]), path.name
        assert all(CONTRACT.name in dag["tags"] for dag in parsed["dags"].values()), path.name


def test_defects_are_seen(tmp_path: Path) -> None:
    """A file that reaches out, warns, or cannot be imported, when it is parsed is reported."""
    defects = {
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')": "reached for the network",
        "import sqlite3; sqlite3.connect(':memory:')": "reached for the network or a database",
        "from airflow.sdk import Variable; Variable.get('x')": "Variable",
        "import no_such_module": "no_such_module",
        "import warnings; warnings.warn('an old name', DeprecationWarning)": "an old name",
    }
    files = [tmp_path / f"bad_{number}.py" for number in range(len(defects))]
    for file, line in zip(files, defects, strict=True):
        file.write_text(f"from airflow.sdk import DAG\n{line}\nwith DAG('{file.stem}'): pass\n")
    for parsed, seen in zip(parse(*files), defects.values(), strict=True):
        assert any(seen in text for text in parsed["errors"] + parsed["warnings"]), seen


def test_slow_files_are_seen(tmp_path: Path) -> None:
    """A file that computes, or imports what only tasks need, when it is parsed is measured and reported."""
    slow = f"import time\nend = time.process_time() + {SECONDS}\nwhile time.process_time() < end: pass\n"
    files = [tmp_path / "slow.py", tmp_path / "heavy.py"]
    for file, line in zip(files, (slow, "import pandas\n"), strict=True):
        file.write_text(f"from airflow.sdk import DAG\n{line}with DAG('{file.stem}'): pass\n")
    computes, imports = parse(*files)
    assert computes["seconds"] >= SECONDS
    assert "pandas" in imports["imports"]
