"""Every DAG file is imported as Airflow does it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.airflow_home import ENVIRONMENT, ROOT

pytestmark = pytest.mark.integration

FILES = sorted((ROOT / "dags").glob("*.py"))
SECONDS = 0.5
"""Longest time that a file may take to be parsed, beside Airflow's own import."""
PROGRAM = """
    import json, resource, socket, sqlite3, sys, time, warnings
    import airflow, airflow.sdk, airflow.providers.common.sql.operators.sql, airflow.providers.standard.operators.bash
    from airflow.dag_processing.dagbag import DagBag
    import airflow.serialization.serialized_objects

    class Refused(Exception): pass

    def refuse(*arguments, **named):
        raise Refused("a DAG file reached for the network or a database when it was imported")

    # The first file pays for what the others then share; a parser process pays for it once too.
    import credit_score.airflow.defaults, credit_score.airflow.stage

    socket.socket.connect = refuse
    sqlite3.connect = refuse
    parsed = {}
    for path in sys.argv[1:]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            began = time.process_time()
            bag = DagBag(dag_folder=path, bundle_path=None)
            seconds = time.process_time() - began
        parsed[path] = {
            "seconds": seconds,
            "errors": list(bag.import_errors.values()),
            "warnings": [str(one.message) for one in seen],
            "dags": {name: {"doc": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs,
                            "tasks": {task.task_id: {"retries": task.retries, "timeout": task.execution_timeout is not None}
                                      for task in dag.tasks}}
                     for name, dag in bag.dags.items()},
        }
    print(json.dumps(parsed))
"""


def parse(*paths: Path) -> list[dict[str, Any]]:
    """Parse files in a process without database and network."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT | {"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [document[str(path)] for path in paths]


def test_dag_files_are_light_and_clean() -> None:
    """Each DAG file is imported fast, without error or warning, without network or database, and documents its DAGs."""
    for path, parsed in zip(FILES, parse(*FILES), strict=True):
        assert parsed["errors"] == [], path.name
        assert parsed["warnings"] == [], path.name
        assert parsed["seconds"] < SECONDS, path.name
        assert parsed["dags"], path.name
        for dag in parsed["dags"].values():
            assert dag["doc"]
            assert dag["tags"]
            assert dag["max_active_runs"] == 1
            assert all(task["retries"] and task["timeout"] for task in dag["tasks"].values()), path.name


def test_defects_are_seen(tmp_path: Path) -> None:
    """A file that reaches out, warns, or cannot be imported, when it is parsed is reported."""
    defects = {
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')": "reached for the network",
        "import sqlite3; sqlite3.connect(':memory:')": "reached for the network or a database",
        "from airflow.sdk import Variable; Variable.get('x')": "Variable",
        "import no_such_module": "no_such_module",
        "import warnings; warnings.warn('an old name', DeprecationWarning)": "an old name",
    }
    files = []
    for number, line in enumerate(defects):
        files.append(tmp_path / f"bad_{number}.py")
        files[-1].write_text(f"from airflow.sdk import DAG\n{line}\nwith DAG('bad_{number}'): pass\n")
    for parsed, seen in zip(parse(*files), defects.values(), strict=True):
        assert any(seen in text for text in parsed["errors"] + parsed["warnings"]), seen
