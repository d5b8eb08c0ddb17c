"""What a process pays before it begins."""

import subprocess
import sys

import pytest

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
