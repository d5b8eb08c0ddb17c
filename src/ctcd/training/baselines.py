"""Simple baseline models, scored on the same holdout as the model."""

import numpy as np
from catboost import FeaturesData
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ctcd.contract.spec import Contract
from ctcd.model.encoder import Encoder
from ctcd.model.metrics import Scores, class_indices, scores
from ctcd.model.pipelines import MAX_CATEGORIES
from ctcd.model.threshold import Threshold
from ctcd.training.split import Split

MAX_ITERATIONS = 2000
MAX_ROWS = 100_000
"""Maximum number of rows that a baseline is fitted to (evenly spaced in the training part), and that are scored at
once: its dense columns are several times the size of the features, and a linear model learns nothing from more."""


def score_baselines(
    split: Split, encoder: Encoder, contract: Contract, threshold: Threshold | None = None
) -> dict[str, Scores]:
    """Return the holdout scores of the majority class and of a logistic regression, fitted on the training part.

    They use the same encoded features as the trees, with standardised numbers, one-hot categories, and the median for
    missing numbers, and at most `MAX_ROWS` rows of the training part.
    """
    step = -(-len(split.train) // MAX_ROWS)
    rows, holdout = split.train.iloc[::step], split.holdout
    train = encoder.encode_frame(rows)
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False)
    with_categories = bool(encoder.categorical)
    if with_categories:
        one_hot.fit(train.cat_feature_data)

    def dense(part: FeaturesData) -> NDArray[np.float64]:
        return _dense(part, one_hot if with_categories else None)

    x = dense(train)
    y = class_indices(rows[contract.label.name].astype(object).to_list(), contract.classes)
    truth = holdout[contract.label.name].astype(object).to_list()
    models = {
        "majority_class": DummyClassifier(strategy="prior"),
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS)),
    }
    for model in models.values():
        model.fit(x, y)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in models}
    for start in range(0, len(holdout), MAX_ROWS):
        x = dense(encoder.encode_frame(holdout.iloc[start : start + MAX_ROWS]))
        for name, model in models.items():
            found[name].append(model.predict_proba(x))
    return {name: scores(truth, np.concatenate(parts), contract.classes, threshold) for name, parts in found.items()}


def _dense(part: FeaturesData, one_hot: OneHotEncoder | None) -> NDArray[np.float64]:
    blocks = []
    if part.num_feature_data is not None:
        # The encoder centres at the median, so 0 is the median; in single precision the largest numbers are infinite.
        largest = float(np.finfo(np.float32).max)
        numbers = part.num_feature_data.astype(np.float64)
        blocks.append(np.nan_to_num(numbers, nan=0.0, posinf=largest, neginf=-largest))
    if one_hot is not None:
        blocks.append(one_hot.transform(part.cat_feature_data))
    return np.hstack(blocks)
