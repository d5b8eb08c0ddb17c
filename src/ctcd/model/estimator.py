"""The protocol of an estimator, the kind of model that a profile of `training.toml` names, and how one is found.

A name is that of a shipped estimator, or `module:Class` for a class in a module of the instance, such as `model:Ours`
in `contracts/model.py`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.instance import own_module
from ctcd.contract.policy_file import StrictModel
from ctcd.errors import UsageError
from ctcd.model.encoder import Encoder

CATBOOST = "catboost"
"""The estimator of a profile, or of a stored model, that names none."""
SHIPPED = {
    CATBOOST: ("ctcd.model.trees", "CatBoost"),
    "hist_gradient_boosting": ("ctcd.model.pipelines", "HistGradientBoosting"),
    "logistic_regression": ("ctcd.model.pipelines", "LogisticRegression"),
}
"""Module and class of each shipped estimator."""


class Params(StrictModel):
    """Hyperparameters of one trial; an estimator that has some declares its own subclass."""

    @property
    def rounds(self) -> int:
        """Largest number of rounds of a fit, for the progress."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that have a value."""
        return self.model_dump(exclude_none=True)


_MAKING_A_POOL = Lock()
"""From Python 3.12 on, a cached property is computed by each thread that asks for it before the first one is done."""


@dataclass(frozen=True)
class LabelledPart:
    """A part of the split.

    Args:
        features: what `Estimator.features` returned.
        target: index of the true class of each row, in the order of the contract; every class occurs.
        truth: the true classes themselves.
    """

    features: Any
    target: NDArray[Any]
    truth: list[str]

    @property
    def pool(self) -> Any:
        """The same for CatBoost, made once for all trials."""
        with _MAKING_A_POOL:
            return self._pool

    @cached_property
    def _pool(self) -> Any:
        from catboost import Pool

        return Pool(self.features, self.target)


@dataclass(frozen=True, kw_only=True, eq=False)
class Importance:
    """What each feature does in a fitted model.

    Args:
        names: features in the order of the arrays.
        change: share, in percent, of the change of the prediction that each feature causes; shape (features,).
        shap: mean absolute SHAP value, possibly approximate, by feature and class, in log-odds; shape (features,
            classes).
    """

    names: list[str]
    change: NDArray[Any]
    shap: NDArray[Any]


class Estimator(ABC):
    """A kind of model. One object is fitted once, and then answers from several threads.

    Training, gate, batch scoring and service call the same methods. Rows reach them as a frame with the same columns
    and types everywhere, whether they come from the store, a file or a request:

    - numbers, integers and booleans: float64, NaN for a null;
    - dates and times: datetime64, NaT for a null;
    - `<column>: <entry>` for each entry of a list column: float64, how often the list has it;
    - categories: text as objects, None for a null; also text that was never seen in training.

    Args:
        encoder: names the columns by kind.
    """

    params: ClassVar[type[Params]] = Params
    """What the profile may set."""
    requirements: ClassVar[tuple[str, ...]] = ()
    """Packages that the estimator imports and the engine's service does not."""
    stored: ClassVar[str] = "model"
    """Name of the file or folder that `save` writes."""
    name: ClassVar[str] = ""
    """What `training.toml` calls it; set when it is found."""
    code: ClassVar[str] = ""
    """SHA-256 of its module in the instance; empty for a shipped estimator."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def fit_features(self, rows: pd.DataFrame) -> None:  # noqa: B027 - most estimators have nothing to learn here
        """Learn what `features` needs, from the rows of the training part; without this method `features` is stateless."""

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the features of rows, one row for each and in their order; a row may not depend on the others."""
        return rows

    @abstractmethod
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
        """Fit on the features of the training part; equal arguments give an equal model.

        Args:
            train: for fitting.
            validation: for early stopping, if the estimator can.
            params: an object of the class `params`.
            seed: seed of whatever is random.
            threads: number of threads; -1: one for each core.
            on_round: may be called after each round with the number of rounds so far.

        Raises:
            DataRefused: nothing can be learned from the data.
        """

    @abstractmethod
    def predict_proba(self, features: Any) -> NDArray[Any]:
        """Return the probability of each class; shape (rows, classes), in the order of the contract's classes."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write what was fitted, features included, to `path`: a file or a folder, which does not exist yet."""

    @abstractmethod
    def load(self, path: Path) -> None:
        """Read what `save` wrote. It runs no code that the file brings: no pickle, no joblib."""

    @property
    def rounds(self) -> int:
        """Number of rounds of the fitted model, such as trees for each class; for information only."""
        return 1

    @property
    def curve(self) -> dict[str, list[float]]:
        """Loss after each round of the fit, by part, right after it; empty if it is not known. For information only."""
        return {}

    def importance(self, features: Any) -> Importance | None:
        """Return what each feature does for the rows of `features`, or None if it is not known. For information only."""
        del features
        return None

    # What the engine calls; an estimator of an instance leaves the following as they are.

    def prepare(self, frame: pd.DataFrame) -> None:
        """Fit the features on a frame of the training part."""
        self.fit_features(self.encoder.typed_frame(frame))

    def encode_frame(self, frame: pd.DataFrame) -> Any:
        """Return the features of a frame's rows."""
        return self.features(self.encoder.typed_frame(frame))

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> Any:
        """Return the features of rows given as mappings."""
        return self.features(self.encoder.typed_rows(rows))


def find_estimator(name: str, code: str = "") -> type[Estimator]:
    """Return an estimator.

    Args:
        name: that of a shipped estimator, or `module:Class`.
        code: SHA-256 of that module in an instance that is loaded.

    Raises:
        UsageError: there is none of that name, its module has another digest, or it does not follow the protocol.
    """
    if name in SHIPPED:
        module, attribute = SHIPPED[name]
        shipped: type[Estimator] = getattr(import_module(module), attribute)
        return shipped
    module, attribute = own_name(name)
    own = own_module(module, code)
    found = getattr(own, attribute, None)
    where = str(own.__file__)
    if not (isinstance(found, type) and issubclass(found, Estimator)):
        raise UsageError(f"defines no {attribute} that is an Estimator", where=where, hint="see docs/estimators.md")
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(f"{attribute} lacks {', '.join(missing)}", where=where, hint="see docs/estimators.md")
    found.name, found.code = name, code
    return found


def own_name(name: str) -> tuple[str, str]:
    """Return module and class of an instance's estimator.

    Raises:
        UsageError: it is no such name.
    """
    if not re.fullmatch(r"[a-z]\w*:[A-Z]\w*", name, re.ASCII):
        raise UsageError(f"there is no estimator {name!r}", hint=f"choose {', '.join(SHIPPED)}, or model:Class")
    module, _, attribute = name.partition(":")
    return module, attribute
