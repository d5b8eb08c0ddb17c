"""Estimators as a team may write them in `model.py` of its instance: two sound ones, and one that breaks each rule."""

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.model.estimator import Estimator, LabelledPart, Params
from ctcd.model.trees import Trees

GRADES = {"Low": 0.0, "Fair": 1.0, "High": 2.0}


class CentroidParams(Params):
    """How sharply the nearest centre wins."""

    sharpness: float = 1.0


class Centroids(Estimator):
    """The nearer the centre of a class, the more probable it is; its features are fitted."""

    params = CentroidParams

    def fit_features(self, rows: pd.DataFrame) -> None:
        numbers = rows.select_dtypes("number")
        self.median = numbers.median()
        self.spread = numbers.std().replace(0.0, 1.0)

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        scaled = (self.filled(rows) - self.median) / self.spread
        return scaled.assign(grade=[self.grade(value) for value in rows["grade"]])

    def filled(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[self.median.index].fillna(self.median)

    def grade(self, value: str | None) -> float:
        return GRADES.get(value or "", 1.0)

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
        del validation, seed, threads, on_round
        self.sharpness: float = params.sharpness
        self.centres = train.features.groupby(train.target).mean().to_numpy()

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        distance = ((features.to_numpy()[:, None, :] - self.centres) ** 2).mean(axis=2)
        weight = np.exp(-self.sharpness * (distance - distance.min(axis=1, keepdims=True)))
        result: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
        return result

    def state(self) -> dict[str, Any]:
        tables = {"median": self.median.to_dict(), "spread": self.spread.to_dict()}
        return {**tables, "sharpness": self.sharpness, "centres": self.centres.tolist()}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.state()))

    def load(self, path: Path) -> None:
        self.restore(json.loads(path.read_text()))

    def restore(self, state: dict[str, Any]) -> None:
        self.median, self.spread = pd.Series(state["median"]), pd.Series(state["spread"])
        self.sharpness, self.centres = state["sharpness"], np.array(state["centres"])


class Loads(Trees):
    """CatBoost with a feature of one's own, written once."""

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(load=rows["output"] / rows["power"])


class NoProbabilities(Centroids):
    """Its values do not sum to 1."""

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        return 0.9 * super().predict_proba(features)


class NeedsMore(Centroids):
    """It imports what is not installed."""

    requirements = ("no-such-package-at-all",)


class NeedsATool(Centroids):
    """It imports what is installed for development only."""

    requirements = ("pytest",)


class Unseeded(Centroids):
    """Each fit gives another model."""

    def fit(self, train: LabelledPart, validation: LabelledPart, params: Any, **more: Any) -> None:
        super().fit(train, validation, params, **more)
        self.centres = self.centres + np.random.default_rng().normal(size=self.centres.shape)


class ScaledByTheFrame(Centroids):
    """The features of a row depend on its neighbours."""

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        made = super().features(rows)
        return made - made.mean()


class KnownGradesOnly(Centroids):
    """A grade that training never saw raises."""

    def grade(self, value: str | None) -> float:
        return GRADES[value] if value is not None else 1.0


class NullsWhereSeen(Centroids):
    """A null in a column that had none in training gives NaN."""

    def filled(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[self.median.index].fillna({"humidity": self.median["humidity"]})


class Forgetful(Centroids):
    """It saves what was fitted without its features."""

    def load(self, path: Path) -> None:
        super().load(path)
        self.spread = self.spread * 2


class Pickled(Centroids):
    """It unpickles what it loads."""

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(vars(self)))

    def load(self, path: Path) -> None:
        vars(self).update(pickle.loads(path.read_bytes()))  # noqa: S301 - as above


class PickledPlainly(Centroids):
    """It unpickles what it loads, though a file of its own names no class."""

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self.state()))

    def load(self, path: Path) -> None:
        self.restore(pickle.loads(path.read_bytes()))  # noqa: S301 - as above


class PickledWithin(PickledPlainly):
    """It unpickles a part of the file only."""

    def save(self, path: Path) -> None:
        path.write_bytes(b"ours" + pickle.dumps(self.state()))

    def load(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(4)
            self.restore(pickle.Unpickler(file).load())  # noqa: S301 - as above


class PickleAllowed(Centroids):
    """It unpickles if it is given a pickle, which it does not write itself."""

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "state.json").write_text(json.dumps({**self.state(), "centres": []}))
        np.save(path / "centres.npy", self.centres)

    def load(self, path: Path) -> None:
        state = json.loads((path / "state.json").read_text())
        self.restore({**state, "centres": np.load(path / "centres.npy", allow_pickle=True)})


class Evaluated(Centroids):
    """It runs what it loads."""

    def load(self, path: Path) -> None:
        self.restore(eval(path.read_text()))  # noqa: S307 - as above


class Dated(Centroids):
    """Its file holds the time."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "at": time.time_ns()}


class FittedAt(Centroids):
    """Its file holds the time of the fit."""

    def fit(self, train: LabelledPart, validation: LabelledPart, params: Any, **more: Any) -> None:
        super().fit(train, validation, params, **more)
        self.at = time.time_ns()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "at": getattr(self, "at", 0)}


class BreaksAtTheBound(Centroids):
    """It cannot answer a value that the contract allows."""

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        return super().features(rows).assign(wear_left=rows["wear"].fillna(0.0).where(rows["wear"] != 100.0))


class Shared(Centroids):
    """It keeps the rows of a call where another thread finds them."""

    rows: pd.DataFrame

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        self.rows = features
        time.sleep(0.01)
        return super().predict_proba(self.rows)


class NoEstimator:
    """It follows no protocol."""


class Unfinished(Estimator):
    """It lacks everything."""
