"""The conformance suite of estimators: it passes those that ship, and refuses each kind of defect by its rule."""

import json
import shutil
from typing import Any

import pandas as pd
import pytest
from support import own_model
from support.instance import CONTRACT, INSTANCE

from ctcd.cli.app import run
from ctcd.contract.instance import Instance, load_instance
from ctcd.drafts.check import PROFILES, synthetic_frame
from ctcd.drafts.conformance import ROWS, Conformance, check_estimator
from ctcd.training.grid import load_profile

TREES = "iterations = 40\nearly_stopping_rounds = 20\nlearning_rate = 0.3\ndepth = 3\nl2_leaf_reg = 3.0\nrsm = 1.0"
BROKEN = {
    "NoProbabilities": {"fit": "sum"},
    "NeedsMore": {"requirements": "no-such-package-at-all"},
    "NeedsATool": {"requirements": "pytest is not in serve.txt: "},
    "Unseeded": {
        "repeatable": "a second fit: probabilities differ by",
        "hash stability": "a second fit gives another file",
    },
    "ScaledByTheFrame": dict.fromkeys(
        ("frame against rows", "unseen categories", "missing values"),
        "rows alone and together: probabilities differ by",
    ),
    "KnownGradesOnly": {"unseen categories": "KeyError", "probes": "KeyError"},
    "NullsWhereSeen": {"missing values": "a probability is not a number", "probes": "JSON"},
    "Forgetful": {"save and load": "after loading: probabilities differ", "probes": "does not answer its probes"},
    "Pickled": {"nothing unpickled": "pickle.loads"},
    "PickledPlainly": {"nothing unpickled": "pickle.loads"},
    "PickledWithin": {"nothing unpickled": "load calls pickle.Unpickler"},
    "PickleAllowed": {"nothing unpickled": "load calls pickle.Unpickler, pickle.load:"},
    "Evaluated": {"nothing unpickled": "load calls eval"},
    "Dated": {"hash stability": "saving twice gives different files"},
    "FittedAt": {"hash stability": "a second fit gives another file"},
    "BreaksAtTheBound": {"probes": "JSON"},
    "Shared": {"threads": "at the same time and alone: "},
}
"""What each defective estimator breaks, and what is said about it."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """An instance with a model.py, beside the locks of the images."""
    folder = tmp_path_factory.mktemp("own") / "contracts"
    locks = folder.with_name("requirements")
    locks.mkdir()
    (locks / "ct.txt").write_text("Pytest==9.0.0 \\\nscikit_learn==1.9.1\nskops[all]==0.16.0\n", encoding="utf-8")
    (locks / "serve.txt").write_text("scikit-learn==1.9.1\nskops==0.16.0\n# pytest==9.0.0\n", encoding="utf-8")
    shutil.copytree(INSTANCE.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(str(own_model.__file__), folder / "model.py")
    return load_instance(folder)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return synthetic_frame(CONTRACT, rows=ROWS)


def profiled(instance: Instance, estimator: str, fixed: str = "") -> None:
    profile = f'[{{0}}]\ndescription = ""\nestimator = "{estimator}"\n[{{0}}.fixed]\n{fixed}\n[{{0}}.grid]\n'
    instance.training_profiles.write_text("".join(map(profile.format, PROFILES)), encoding="utf-8")


def checked(instance: Instance, frame: pd.DataFrame, estimator: str, fixed: str = "") -> Conformance:
    profiled(instance, estimator, fixed)
    return check_estimator(load_profile("fast", instance), instance, frame)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "fixed"),
    [
        ("catboost", TREES),
        ("hist_gradient_boosting", "max_iter = 10"),
        ("logistic_regression", ""),
        ("model:Centroids", "sharpness = 2.0"),
        ("model:Loads", TREES),
    ],
)
def test_a_sound_estimator_keeps_every_rule(own: Instance, frame: pd.DataFrame, estimator: str, fixed: str) -> None:
    """The three built-in estimators, an instance's own one, and one that adds a feature to CatBoost break no rule."""
    found = checked(own, frame, estimator, fixed)
    assert found.broken == {}
    assert len(found.rules) == 11


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_defect_is_refused_by_its_rule(own: Instance, frame: pd.DataFrame, name: str) -> None:
    """Each rule refuses the estimator that breaks it, with what is wrong; only rules that include it do the same."""
    broken = checked(own, frame, f"model:{name}").broken
    assert broken.keys() == BROKEN[name].keys(), broken
    for rule, reported in BROKEN[name].items():
        assert reported in broken[rule]


@pytest.mark.slow
def test_each_rule_has_a_defect(own: Instance, frame: pd.DataFrame) -> None:
    """No rule is in the suite that was never seen to refuse."""
    rules = checked(own, frame, "model:Centroids").rules
    assert {rule for broken in BROKEN.values() for rule in broken} == rules.keys()


@pytest.mark.slow
def test_the_command_checks_what_the_profiles_name(
    own: Instance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`contract check --model` ends in exit code 2 and names estimator and rule; without a defect it ends in 0."""
    monkeypatch.setenv("CTCD_CONTRACTS", str(own.folder))
    profiled(own, "model:Dated")
    assert run(["contract", "check", "--model", "--json"]) == 2
    report: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert [each["where"] for each in report["problems"]] == ["estimator model:Dated, hash stability"]
    profiled(own, "model:Centroids")
    assert run(["contract", "check", "--model"]) == 0
    assert "nothing unpickled" in capfd.readouterr().out
