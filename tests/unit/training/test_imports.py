"""What a trial costs before it begins."""

import subprocess
import sys

PROGRAM = """
import sys
import credit_score.training.distributed
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"mlflow", "sklearn", "catboost"}))
"""


def test_a_trial_does_without_mlflow_and_scikit_learn() -> None:
    """What runs a trial imports the trees only: of many trials, each saves seconds."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    assert done.stdout.split() == ["catboost"]
