"""CatBoost, the default estimator, and its form for features of one's own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostError, FeaturesData, Pool
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from pydantic import Field

from ctcd.errors import DataRefused
from ctcd.model.encoder import MISSING
from ctcd.model.estimator import CATBOOST, Estimator, Importance, LabelledPart, Params

MODEL_FILE = "model.cbm"
SINGLE_THREAD_ROWS = 512
"""With fewer rows than this, starting threads costs more than it saves."""


class TreeParams(Params):
    """Parameters of one trial, with CatBoost's names; without a value, CatBoost's default applies."""

    iterations: Annotated[int, Field(ge=1, le=10_000)]
    early_stopping_rounds: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    depth: Annotated[int, Field(ge=1, le=16)]
    l2_leaf_reg: Annotated[float, Field(ge=0)]
    rsm: Annotated[float, Field(gt=0, le=1)]
    max_ctr_complexity: Annotated[int, Field(ge=1, le=8)] | None = None
    one_hot_max_size: Annotated[int, Field(ge=2, le=255)] | None = None
    border_count: Annotated[int, Field(ge=1, le=255)] | None = None
    auto_class_weights: Literal["Balanced", "SqrtBalanced"] | None = None

    @property
    def rounds(self) -> int:
        """Largest number of trees."""
        return self.iterations


class Trees(Estimator):
    """CatBoost on a frame of features, for a subclass with features of its own.

    Numbers and truths are numeric features, dates become days, and every other column is a category.
    """

    params: ClassVar[type[Params]] = TreeParams
    stored: ClassVar[str] = MODEL_FILE
    model: CatBoostClassifier

    def fit(
        self,
        train: LabelledPart,
        validation: LabelledPart,
        params: TreeParams,
        *,
        seed: int,
        threads: int,
        on_round: Callable[[int], None],
    ) -> None:
        """Fit trees; the model is the one with the lowest log loss on the validation part.

        The number of threads affects speed only.

        Raises:
            DataRefused: CatBoost cannot learn from the data, for example because no feature varies.
        """
        self.model = CatBoostClassifier(
            loss_function="MultiClass",
            random_seed=seed,
            thread_count=threads,
            allow_writing_files=False,
            verbose=False,
            **params.to_dict(),
        )
        after_iteration = _AfterIteration(on_round)
        try:
            self.model.fit(train.pool, eval_set=validation.pool, callbacks=[after_iteration])
        except CatBoostError as error:
            # Its own text, which only a constant says, as it may hold values of rows.
            reason = "no feature varies" if "constant or ignored" in str(error) else type(error).__name__
            raise DataRefused(f"CatBoost cannot learn from it: {reason}", where="training part") from error
        if after_iteration.raised:
            raise after_iteration.raised

    def predict_proba(self, features: FeaturesData) -> NDArray[np.float64]:
        """Return the probability of each class; shape (rows, classes)."""
        threads = 1 if features.get_object_count() < SINGLE_THREAD_ROWS else -1
        probabilities: NDArray[np.float64] = self.model.predict_proba(features, thread_count=threads)
        return probabilities

    def save(self, path: Path) -> None:
        """Write the trees in CatBoost's binary format, without what differs between equal fits."""
        facts = self.model.get_metadata()
        for name in {"model_guid", "train_finish_time"} & set(facts.keys()):
            del facts[name]
        self.model.save_model(str(path))

    def load(self, path: Path) -> None:
        """Read the trees."""
        self.model = CatBoostClassifier().load_model(str(path))

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return int(self.model.tree_count_)

    @property
    def curve(self) -> dict[str, list[float]]:
        """Log loss after each round."""
        found = self.model.get_evals_result()
        return {name: found[part]["MultiClass"] for part, name in (("learn", "training"), ("validation", "validation"))}

    def importance(self, features: FeaturesData) -> Importance:
        """Return CatBoost's PredictionValuesChange and mean absolute SHAP values, approximate ones: exact ones take far longer."""
        shap = self.model.get_feature_importance(Pool(features), type="ShapValues", shap_calc_type="Approximate")
        return Importance(
            names=list(self.model.feature_names_),
            change=self.model.get_feature_importance(type="PredictionValuesChange"),
            shap=np.abs(shap[:, :, :-1]).mean(axis=0).T,  # the last one is the expected value
        )

    def encode_frame(self, frame: pd.DataFrame) -> FeaturesData:
        """Return the features of a frame's rows."""
        return _features_data(super().encode_frame(frame))

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> FeaturesData:
        """Return the features of rows given as mappings."""
        return _features_data(super().encode_rows(rows))


@final
class CatBoost(Trees):
    """CatBoost on the features of the encoder, which makes them of the rows of a request without a frame."""

    name: ClassVar[str] = CATBOOST

    def __init_subclass__(cls) -> None:
        """Refuse a subclass, whose `features` would never be called."""
        raise TypeError("features of your own need Trees as their base, not CatBoost")

    def prepare(self, frame: pd.DataFrame) -> None:
        """Do nothing: the encoder is fitted already."""

    def encode_frame(self, frame: pd.DataFrame) -> FeaturesData:
        """Return the features of a frame's rows."""
        return self.encoder.encode_frame(frame)

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> FeaturesData:
        """Return the features of rows given as mappings."""
        return self.encoder.encode_rows(rows)


class _AfterIteration:
    """Adapter to CatBoost's callback interface."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self.raised: BaseException | None = None
        """What the call raised, which ended the fit: CatBoost would pass it on as text."""

    def after_iteration(self, info: Any) -> bool:
        """Report the number of trees; True lets the fit continue."""
        try:
            self._call(info.iteration)
        except BaseException as error:  # noqa: BLE001 - it is raised after the fit
            self.raised = error
        return self.raised is None


def _features_data(frame: pd.DataFrame) -> FeaturesData:
    frame = days_for_dates(frame)
    numeric = [name for name in frame.columns if is_numeric_dtype(frame[name].dtype)]
    texts = [name for name in frame.columns if name not in numeric]
    categories = np.empty((len(frame), len(texts)), dtype=object, order="F")  # by column, as in Encoder
    for index, name in enumerate(texts):
        column = frame[name]
        filled = column.astype(object).where(column.notna(), MISSING)
        categories[:, index] = [str(value).encode("utf-8", "surrogatepass") for value in filled]
    with np.errstate(over="ignore"):  # overflows to infinity, which trees can compare
        numbers = frame[numeric].to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    return FeaturesData(
        num_feature_data=numbers if numeric else None,
        num_feature_names=[str(name) for name in numeric] if numeric else None,
        cat_feature_data=categories if texts else None,
        cat_feature_names=[str(name) for name in texts] if texts else None,
    )


def days_for_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in which dates are days since 1970, NaN for NaT."""
    dates = frame.select_dtypes("datetime").columns
    if dates.empty:
        return frame
    return frame.assign(**{name: (frame[name] - pd.Timestamp(0)) / pd.Timedelta(days=1) for name in dates})
