"""What a process pays before it begins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.instance import INSTANCE

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("ctcd.training.distributed", "catboost"),
        ("ctcd.model.scorer", "catboost"),
        ("ctcd.registry.versions", "mlflow"),
    ],
)
def test_only_what_is_needed_is_imported(module: str, needed: str) -> None:
    """A trial and the service import CatBoost, and a promotion MLflow, but nothing else that takes long."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    heavy = {"catboost", "sklearn", "mlflow", "matplotlib", "bentoml"}
    assert heavy & set(done.stdout.split()) == {needed}


REGISTRY_COMMANDS = (
    ["models"],
    ["why", "1"],
    ["compare", "1", "2"],
    ["promote"],
    ["image"],
    ["rollback", "--reason", "complaints"],
    ["history"],
)


def test_a_command_of_the_registry_imports_no_more_than_it_and_leaves_it_alone(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    """They import neither what trains, judges, draws or serves, and nothing looks for garbage in it, nor when they end.

    A command that works for longer has the garbage collector.
    """
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    program = f"""
import atexit, gc, sys
from ctcd.cli import main
def show(): print(gc.get_freeze_count() > 10 * len(gc.get_objects()), *sys.modules)
atexit.register(show)
for words in {REGISTRY_COMMANDS!r}:
    try: main(words)
    except SystemExit as ended: assert ended.code in (0, 5), (words, ended.code)
    assert gc.isenabled() == (words[0] == "rollback"), words
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "CTCD_HOME": str(tmp_path),
            "CTCD_CONTRACTS": str(INSTANCE.folder),
            "MLFLOW_TRACKING_URI": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    frozen, *modules = done.stdout.splitlines()[-1].split()
    assert {"mlflow", "ctcd.registry.versions"} <= set(modules)
    assert not set(modules) & {"sklearn", "matplotlib", "bentoml", "great_expectations", "mlflow.pyfunc", "airflow"}
    assert frozen == "True"
