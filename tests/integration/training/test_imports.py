"""What a process pays before it begins."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("module", ["ctcd.training.distributed", "ctcd.model.scorer"])
def test_only_what_is_needed_is_imported(module: str) -> None:
    """Running a trial or serving imports CatBoost, but not scikit-learn, MLflow, BentoML or Matplotlib."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    heavy = {"catboost", "sklearn", "mlflow", "matplotlib", "bentoml"}
    assert heavy & set(done.stdout.split()) == {"catboost"}
