"""The policies fit the contract, and the gate's floors are neither trivial nor out of reach."""

import tomllib
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.evaluations import answers
from support.frames import snapshot_frame
from support.tested_instance import CONTRACT, INSTANCE

from ctcd.contract.service_levels import load_service_levels
from ctcd.drafts.conformance import check_estimators
from ctcd.model.metrics import scores
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.promotion.decision import decide
from ctcd.promotion.evaluation import Evaluation, evaluate
from ctcd.promotion.policy import Disabled, Slices, load_policy
from ctcd.registry.versions import RegisteredVersion
from ctcd.training.grid import load_profile

DAY = date(2025, 8, 31)
POLICY = load_policy(INSTANCE)


@pytest.fixture(scope="module")
def holdout() -> pd.DataFrame:
    """Rows to judge models on."""
    return snapshot_frame(CONTRACT, rows=3_000, seed=3, base_dt=DAY)


@pytest.fixture(scope="module")
def truth(holdout: pd.DataFrame) -> Any:
    """Index of the true class of each row, shape (rows,)."""
    return np.array([CONTRACT.classes.index(name) for name in holdout[CONTRACT.label.name]])


class Table:
    """A model that looks its answers up in a table of probabilities, shape (rows of the holdout, classes)."""

    def __init__(self, probabilities: Any) -> None:
        self.probabilities = probabilities

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        return answers(self.probabilities[data.index], CONTRACT.classes, data.index, POLICY.threshold)


def evaluation(holdout: pd.DataFrame, probabilities: Any) -> Evaluation:
    return evaluate(
        Table(probabilities),
        holdout,
        CONTRACT,
        RegisteredVersion(
            model_name=CONTRACT.name,
            version="1",
            run_id="1",
            aliases=(),
            created_at="",
            tags={"contract_version": CONTRACT.version, "base_dt": DAY.isoformat()},
            uri="",
        ),
        judged_on=DAY,
        seen_groups=(),
        artifact_bytes=1_000,
        threshold=POLICY.threshold,
        request=INSTANCE.payload.request,
        slices=POLICY.slices.by if isinstance(POLICY.slices, Slices) else {},
    )


def refusals(holdout: pd.DataFrame, probabilities: Any) -> list[str]:
    return list(decide(evaluation(holdout, probabilities), None, POLICY).reasons)


def test_the_promotion_policy_fits_the_contract() -> None:
    """There is a recall floor for each class and no other, and the columns of the slices can be cut."""
    POLICY.require_contract(CONTRACT)


def test_the_floors_are_above_the_majority_class(holdout: pd.DataFrame, truth: Any) -> None:
    """A model that always answers the most frequent class reaches no floor, and no floor asks for perfection."""
    majority = np.tile(np.bincount(truth, minlength=len(CONTRACT.classes)) / len(truth), (len(truth), 1))
    reached = scores(list(holdout[CONTRACT.label.name]), majority, CONTRACT.classes, POLICY.threshold)
    floors = POLICY.floors
    for floor, baseline in ((floors.accuracy, reached.accuracy), (floors.macro_f1, reached.macro_f1)):
        assert isinstance(floor, Disabled) or baseline < floor < 1
    assert all(isinstance(floor, Disabled) or 0 < floor < 1 for floor in floors.recall.values())
    assert refusals(holdout, majority) != []


def test_guesses_are_refused(holdout: pd.DataFrame, truth: Any) -> None:
    """A model that draws classes at their frequencies is refused."""
    random = np.random.default_rng(0)
    assert refusals(holdout, np.eye(len(CONTRACT.classes))[random.permutation(truth)]) != []


def test_a_perfect_model_passes(holdout: pd.DataFrame, truth: Any) -> None:
    """No rule refuses a model that knows the truth."""
    assert refusals(holdout, np.eye(len(CONTRACT.classes))[truth]) == []


def test_the_training_profiles_are_valid() -> None:
    """Every profile can be loaded, and those that the demo, the DAG and the workflows name exist."""
    profiles = set(tomllib.loads(INSTANCE.training_profiles.read_text(encoding="utf-8")))
    for name in profiles:
        load_profile(name, INSTANCE)
    assert {"fast", "full", "baseline"} <= profiles


def test_the_estimators_keep_the_rules() -> None:
    """Every estimator that a profile names does what training, gate, batch scoring and service rely on."""
    assert {each.estimator: each.broken for each in check_estimators(INSTANCE) if each.broken} == {}


def test_the_service_levels_are_valid() -> None:
    """The shapes that CI and the releases run exist."""
    assert {"smoke", "reference"} <= set(load_service_levels(INSTANCE).shapes)


def test_the_monitoring_policy_fits_the_data(holdout: pd.DataFrame) -> None:
    """The tolerances can be loaded, and the rarest class is above the lowest share that they allow."""
    tolerances = load_tolerances(INSTANCE)
    assert holdout[CONTRACT.label.name].value_counts(normalize=True).min() > tolerances.min_class_share
