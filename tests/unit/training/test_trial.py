from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import FeaturesData
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.spec import names
from ctcd.errors import DataRefused
from ctcd.model.estimator import Estimator, LabelledPart, Params, find_estimator
from ctcd.model.trees import CatBoost, TreeParams
from ctcd.training import baselines
from ctcd.training.baselines import score_baselines
from ctcd.training.grid import load_profile
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import Split, split_by_group
from ctcd.training.trial import CURVE_POINTS, Trial, fit_trial, labelled_part, prepared

PARAMS = load_profile("smoke", INSTANCE).trials()[0]


@pytest.fixture(scope="module")
def split(frame: pd.DataFrame) -> Split:
    return split_by_group(frame, CONTRACT, seed=1)


Parts = tuple[Estimator, LabelledPart, LabelledPart]


def encoded(split: Split) -> Parts:
    trees = prepared(CatBoost, split.train, fit_encoder(split.train, CONTRACT))
    return trees, labelled_part(split.train, trees, CONTRACT), labelled_part(split.validation, trees, CONTRACT)


def fitted(parts: Parts, params: Params = PARAMS, seed: int = 1, **more: Any) -> tuple[Estimator, Trial]:
    return fit_trial(*parts, params, classes=CONTRACT.classes, seed=seed, **{"threads": 1, **more})


@pytest.mark.slow
def test_equal_trials_give_equal_models(split: Split) -> None:
    """The same data and seed give the same probabilities, whatever the number of threads; another seed does not."""
    parts = encoded(split)
    results = [
        fitted(parts, seed=seed, threads=threads)[0].predict_proba(parts[2].features)
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-12)
    assert np.abs(results[0] - results[2]).max() > 1e-3


def test_trials_side_by_side_share_one_copy_of_the_data(split: Split) -> None:
    """Threads that ask for CatBoost's copy at the same moment get the same object."""
    part = encoded(split)[1]
    started = Barrier(4)

    def pool(_: int) -> object:
        started.wait()
        return part.pool

    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(id, threads.map(pool, range(4))))) == 1


def test_fit_ends_early(split: Split) -> None:
    """A fit stops once the validation part no longer improves, keeps the best trees only, and reports each tree."""
    params = TreeParams(
        iterations=500,
        early_stopping_rounds=10,
        learning_rate=0.5,
        depth=4,
        l2_leaf_reg=3.0,
        rsm=1.0,
        one_hot_max_size=16,
    )
    reported: list[int] = []
    model, trial = fitted(encoded(split), params, on_round=reported.append)
    assert trial.iterations == model.rounds < 200
    assert reported == list(range(1, trial.iterations + params.early_stopping_rounds + 1))
    assert trial.seconds > 0
    assert trial.params == params.to_dict()


def test_what_a_report_of_progress_raises_ends_the_fit(split: Split) -> None:
    """It is raised as it is, after the round in which it happened."""
    rounds: list[int] = []

    def interrupt(done: int) -> None:
        rounds.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(encoded(split), on_round=interrupt)
    assert rounds == [1]


def test_a_trial_learns(split: Split) -> None:
    """A trial is better than always naming the most frequent class."""
    _, trial = fitted(encoded(split))
    majority = split.validation[CONTRACT.label.name].value_counts(normalize=True).max()
    assert trial.validation.rows == len(split.validation)
    assert trial.validation.accuracy > majority + 0.05
    assert trial.validation.macro_f1 > 0.5


@pytest.mark.slow
def test_a_learning_curve_reaches_the_loss_of_the_model(split: Split) -> None:
    """At the round that the fit stopped at, the validation loss is that of the trial; a long curve is thinned out."""
    _, trial = fitted(encoded(split), PARAMS.model_copy(update={"iterations": 250, "learning_rate": 0.02}))
    curve = trial.curve
    assert (curve["round"][0], len(curve["round"])) == (1.0, CURVE_POINTS)
    assert len(curve["training"]) == len(curve["validation"]) == CURVE_POINTS
    nearest = min(range(CURVE_POINTS), key=lambda place: abs(curve["round"][place] - trial.iterations))
    assert curve["validation"][nearest] == pytest.approx(trial.validation.log_loss, abs=1e-3)
    assert curve["training"][-1] < curve["validation"][-1]


@pytest.mark.slow
def test_other_estimators_have_the_curve_that_they_know_and_no_importance(split: Split) -> None:
    """Boosting of scikit-learn has both losses by iteration; a regression has none; neither explains its features."""
    for name, params in (("hist_gradient_boosting", {"max_iter": 5}), ("logistic_regression", {})):
        kind = find_estimator(name)
        made = prepared(kind, split.train, fit_encoder(split.train, CONTRACT))
        train, validation = (labelled_part(part, made, CONTRACT) for part in (split.train, split.validation))
        model, trial = fitted((made, train, validation), kind.params.model_validate(params))
        assert list(trial.curve) == (["round", "training", "validation"] if params else [])
        assert model.importance(validation.features) is None
        if params:
            assert len(trial.curve["round"]) == trial.iterations
            assert trial.curve["validation"][-1] == pytest.approx(trial.validation.log_loss)


@pytest.mark.slow
def test_trees_say_which_feature_matters(split: Split) -> None:
    """The features are those of the encoder, in its order; one that is noise matters less than the others."""
    noisy = split.train.assign(hours=np.random.default_rng(0).permutation(split.train["hours"].to_numpy()))
    parts = encoded(Split(train=noisy, validation=split.validation, holdout=split.holdout))
    model, _ = fitted(parts)
    found = model.importance(parts[1].features)
    assert found is not None
    assert found.shap.shape == (len(found.names), len(CONTRACT.classes))
    assert found.change.sum() == pytest.approx(100)
    for values in (found.change, found.shap.sum(axis=1)):
        assert values[found.names.index("power")] > values[found.names.index("hours")] >= 0


def test_data_without_information_is_refused(split: Split) -> None:
    """Constant features give a one-line error."""
    inputs = names(CONTRACT.model_inputs)
    constant = {name: split.train[name].iloc[0] for name in inputs}
    same = Split(
        train=split.train.assign(**constant), validation=split.validation.assign(**constant), holdout=split.holdout
    )
    parts = encoded(same)
    with pytest.raises(DataRefused, match=r"CatBoost cannot learn from it: no feature varies") as caught:
        fitted(parts)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_baselines_are_what_they_say(split: Split) -> None:
    """The majority class has a recall of 1 for one class and 0 for others; the logistic regression is better."""
    found = score_baselines(split, fit_encoder(split.train, CONTRACT), CONTRACT)
    most = split.train[CONTRACT.label.name].mode()[0]
    assert found["majority_class"].recall == {name: float(name == most) for name in CONTRACT.classes}
    assert found["majority_class"].accuracy == pytest.approx((split.holdout[CONTRACT.label.name] == most).mean())
    assert found["logistic_regression"].macro_f1 > found["majority_class"].macro_f1 + 0.1


@pytest.mark.slow
def test_baselines_of_many_rows_are_fitted_to_some(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has dense columns of so many rows at once, at most; the whole holdout is scored all the same."""
    every = score_baselines(split, fit_encoder(split.train, CONTRACT), CONTRACT)
    sizes: list[int] = []
    dense = baselines._dense

    def counted(part: FeaturesData, one_hot: OneHotEncoder | None) -> NDArray[np.float64]:
        sizes.append(part.get_object_count())
        return dense(part, one_hot)

    monkeypatch.setattr(baselines, "_dense", counted)
    monkeypatch.setattr(baselines, "MAX_ROWS", 200)
    found = score_baselines(split, fit_encoder(split.train, CONTRACT), CONTRACT)
    assert len(sizes) > 2
    assert max(sizes) == 200
    assert sum(sizes[1:]) == len(split.holdout)
    assert found["majority_class"].recall == every["majority_class"].recall
    assert found["logistic_regression"].rows == len(split.holdout)
    assert found["logistic_regression"].macro_f1 == pytest.approx(every["logistic_regression"].macro_f1, abs=0.1)


@pytest.mark.slow
def test_baselines_take_nulls_and_unseen_categories(split: Split) -> None:
    """Nulls or categories that occur only in the holdout do not break the baselines."""
    holdout = split.holdout.copy()
    for column in CONTRACT.model_inputs:
        if column.nullable:
            holdout.loc[::2, column.name] = None
        elif column.pattern and column.list_of is None:
            holdout.loc[::2, column.name] = "Never seen"
    changed = Split(train=split.train, validation=split.validation, holdout=holdout)
    found = score_baselines(changed, fit_encoder(split.train, CONTRACT), CONTRACT)
    assert found["logistic_regression"].rows == len(holdout)


def test_baselines_take_numbers_beyond_single_precision(split: Split) -> None:
    """A number that is infinite among the encoded features, in whichever part it is, does not break the baselines."""
    train, holdout = split.train.copy(), split.holdout.copy()
    for part in (train, holdout):
        part.loc[part.index[::10], "power"] = 1e300
    changed = Split(train=train, validation=split.validation, holdout=holdout)
    found = score_baselines(changed, fit_encoder(train, CONTRACT), CONTRACT)
    assert found["logistic_regression"].macro_f1 > found["majority_class"].macro_f1 + 0.1


def test_rare_texts_of_an_open_set_are_one_category_for_the_baselines(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many texts a column has, the dense table of the regression has a bounded number of columns."""
    widths, dense = set(), baselines._dense

    def noted(*arguments: Any) -> Any:
        made = dense(*arguments)
        widths.add(made.shape[1])
        return made

    train = split.train.assign(maker=[f"maker {number}" for number in range(len(split.train))])
    changed = Split(train=train, validation=split.validation, holdout=split.holdout)
    monkeypatch.setattr(baselines, "_dense", noted)
    monkeypatch.setattr(baselines, "MAX_CATEGORIES", 10)
    score_baselines(changed, fit_encoder(train, CONTRACT), CONTRACT)
    assert max(widths) < 10 * len(CONTRACT.model_inputs) < len(train)
