"""Estimators of scikit-learn: gradient-boosted trees and a logistic regression, each a pipeline stored with skops."""

import json
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, ClassVar
from zipfile import ZipFile, ZipInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression as LogisticRegressionClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import ThreadpoolController

from ctcd.errors import UsageError
from ctcd.model.encoder import MISSING
from ctcd.model.estimator import Estimator, LabelledPart, Params
from ctcd.model.trees import days_for_dates

TRUSTED = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""Types that a stored pipeline may hold beyond those that skops trusts itself."""
MAX_CATEGORIES = 200
"""Categories of a column that are told apart; the rare ones of an open set count as one. The encoded table is dense."""
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"


class _Pipeline(Estimator):
    """A pipeline of scikit-learn: a transformer of the columns, and a classifier."""

    requirements: ClassVar[tuple[str, ...]] = ("scikit-learn", "skops")
    stored: ClassVar[str] = "model.skops"
    pipeline: Pipeline

    def fit(
        self,
        train: LabelledPart,
        validation: LabelledPart,
        params: Any,
        *,
        seed: int,
        threads: int,
        on_round: Callable[[int], None],
    ) -> None:
        """Fit the pipeline."""
        del on_round  # scikit-learn does not call back
        with _threads().limit(limits=threads if threads > 0 else None, user_api="openmp"):
            self.pipeline = self._fitted(train, validation, params, seed)

    @abstractmethod
    def _fitted(self, train: LabelledPart, validation: LabelledPart, params: Any, seed: int) -> Pipeline:
        """Return a fitted pipeline."""

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probability of each class; shape (rows, classes)."""
        # OpenMP's threads wait for each other actively, which costs more than it saves on a machine that is busy.
        with _threads().limit(limits=1, user_api="openmp"):
            probabilities: NDArray[np.float64] = self.pipeline.predict_proba(_plain(features))
        return probabilities

    def save(self, path: Path) -> None:
        """Write the pipeline; the same one gives the same bytes."""
        path.write_bytes(_without_ids(_skops().dumps(self.pipeline)))

    def load(self, path: Path) -> None:
        """Read the pipeline.

        Raises:
            UsageError: it holds a type that is not trusted.
        """
        content = path.read_bytes()
        unknown = sorted({*_skops().get_untrusted_types(data=content)} - {*TRUSTED})
        if unknown:
            raise UsageError(f"holds types that are not trusted: {', '.join(unknown)}", where=str(path))
        self.pipeline = _skops().loads(content, trusted=list(TRUSTED))


class BoostingParams(Params):
    """Parameters of one trial, with the names of scikit-learn's HistGradientBoostingClassifier."""

    max_iter: Annotated[int, Field(ge=1, le=10_000)] = 500
    n_iter_no_change: Annotated[int, Field(ge=1)] = 20
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    max_leaf_nodes: Annotated[int, Field(ge=2)] = 31
    min_samples_leaf: Annotated[int, Field(ge=1)] = 20
    l2_regularization: Annotated[float, Field(ge=0)] = 0.0
    max_features: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def rounds(self) -> int:
        """Largest number of iterations."""
        return self.max_iter


class HistGradientBoosting(_Pipeline):
    """Gradient-boosted trees with early stopping on the validation part."""

    name: ClassVar[str] = "hist_gradient_boosting"
    params: ClassVar[type[Params]] = BoostingParams

    def _fitted(self, train: LabelledPart, validation: LabelledPart, params: BoostingParams, seed: int) -> Pipeline:
        """Fit trees until the log loss on the validation part no longer improves."""
        rows = _plain(train.features)
        numeric, texts = _kinds(rows)
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=MAX_CATEGORIES)
        columns = ColumnTransformer([("numbers", "passthrough", numeric), ("categories", codes, texts)])
        classifier = HistGradientBoostingClassifier(
            **params.to_dict(),
            early_stopping=True,
            categorical_features=list(range(len(numeric), len(numeric) + len(texts))),
            random_state=seed,
        )
        classifier.fit(
            columns.fit_transform(rows),
            train.target,
            X_val=columns.transform(_plain(validation.features)),
            y_val=validation.target,
        )
        return Pipeline([("columns", columns), ("classifier", classifier)])

    @property
    def rounds(self) -> int:
        """Number of iterations."""
        return int(self.pipeline["classifier"].n_iter_)

    @property
    def curve(self) -> dict[str, list[float]]:
        """Log loss after each iteration, on a sample of the training part if it is large."""
        fitted = self.pipeline["classifier"]
        scores = {"training": fitted.train_score_, "validation": fitted.validation_score_}
        return {name: (-values[1:]).tolist() for name, values in scores.items()}  # the first is from before any


class RegressionParams(Params):
    """Parameters of one trial, with the names of scikit-learn's LogisticRegression."""

    C: Annotated[float, Field(gt=0)] = 1.0
    max_iter: Annotated[int, Field(ge=1, le=100_000)] = 2_000


class LogisticRegression(_Pipeline):
    """A logistic regression on standardised numbers, with the median for missing ones, and one-hot categories."""

    name: ClassVar[str] = "logistic_regression"
    params: ClassVar[type[Params]] = RegressionParams

    def _fitted(self, train: LabelledPart, validation: LabelledPart, params: RegressionParams, seed: int) -> Pipeline:
        """Fit the regression; the validation part is not used."""
        del validation
        rows = _plain(train.features)
        numeric, texts = _kinds(rows)
        numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        one_hot = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False
        )
        columns = ColumnTransformer([("numbers", numbers, numeric), ("categories", one_hot, texts)])
        classifier = LogisticRegressionClassifier(**params.to_dict(), random_state=seed)
        return Pipeline([("columns", columns), ("classifier", classifier)]).fit(rows, train.target)

    @property
    def rounds(self) -> int:
        """Number of iterations of the solver."""
        return int(np.max(self.pipeline["classifier"].n_iter_))


@cache
def _skops() -> Any:
    """Return the module `skops.io`, imported late: it looks for some hundred types in every loaded module, for seconds."""
    with warnings.catch_warnings():
        # Names that have moved within Airflow warn when they are looked for.
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io


@cache
def _threads() -> ThreadpoolController:
    """Return what limits the threads of scikit-learn's libraries; looking for these libraries is slow."""
    return ThreadpoolController()


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return features as floats and text: dates as days, a non-numeric null as a category of its own."""
    frame = days_for_dates(frame)
    numeric, texts = _kinds(frame)
    filled = {name: frame[name].astype(object).where(frame[name].notna(), MISSING) for name in texts}
    return frame.assign(**filled).astype(dict.fromkeys(numeric, np.float64))


def _kinds(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the numeric columns, and of the others."""
    numeric = [name for name in frame.columns if is_numeric_dtype(frame[name].dtype)]
    return numeric, [name for name in frame.columns if name not in numeric]


def _without_ids(content: bytes) -> bytes:
    """Return a file of skops with numbers in place of the addresses of objects, which differ between processes."""
    numbers: dict[int, int] = {}

    def number(address: int) -> int:
        return numbers.setdefault(address, len(numbers) + 1)

    def renamed(file: str) -> str:
        stem, _, ending = file.partition(".")
        return f"{number(int(stem))}.{ending}" if stem.isdecimal() else file

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            found = {key: replaced(value) for key, value in node.items()}
            if "__id__" in found:
                found["__id__"] = number(found["__id__"])
            if isinstance(found.get("file"), str):
                found["file"] = renamed(found["file"])
            return found
        return [replaced(value) for value in node] if isinstance(node, list) else node

    result = BytesIO()
    with ZipFile(BytesIO(content)) as source, ZipFile(result, "w") as target:
        schema = replaced(json.loads(source.read(_SCHEMA)))
        files = {renamed(name): source.read(name) for name in source.namelist() if name != _SCHEMA}
        for name, data in (*sorted(files.items()), (_SCHEMA, json.dumps(schema).encode())):
            target.writestr(ZipInfo(name, _FIRST_TIME), data)
    return result.getvalue()
