"""The model as one artifact: encoder, fitted estimator, class order and contract version, in one object."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.errors import UsageError
from ctcd.files import digest_of
from ctcd.model.artifact import reading
from ctcd.model.encoder import Encoder
from ctcd.model.estimator import CATBOOST, Estimator, find_estimator
from ctcd.model.threshold import Threshold, decided

SCORER_FILE = "scorer.json"
SCHEMA_VERSION = 1
THRESHOLD_SCHEMA_VERSION = 2
"""Version of the description of a scorer with a threshold: an engine that knows none refuses it."""
SELF_DIGEST = "scorer_sha256"
"""Field of the description: the SHA-256 of all its other fields, as JSON with sorted keys."""
PREDICTION, CONFIDENCE, PROBABILITY = "prediction", "confidence", "probability_"
"""Columns of a table of predictions: class, its probability, and the prefix of the column with the probability of a
class."""


@dataclass(kw_only=True, slots=True)
class Predictions:
    """What a scorer predicts for some rows, in their order; plain lists, which are cheaper than arrays for single rows.

    Args:
        classes: the predicted class of each row.
        confidences: the probability of that class, 0 to 1.
        probabilities: the probabilities of each row, one for each class, in the order of `class_order`.
    """

    classes: list[str]
    confidences: list[float]
    probabilities: list[list[float]]
    class_order: tuple[str, ...]

    def to_frame(self, index: pd.Index) -> pd.DataFrame:
        """Return the columns `prediction`, `confidence` and `probability_<class>`; one row for each entry of `index`."""
        columns = prediction_columns(self.class_order)[2:]
        table = pd.DataFrame(self.probabilities, index=index, columns=columns, dtype=np.float64)
        table.insert(0, PREDICTION, self.classes)
        table.insert(1, CONFIDENCE, np.array(self.confidences, dtype=np.float64))
        return table


def prediction_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of a table of predictions."""
    return [PREDICTION, CONFIDENCE, *(f"{PROBABILITY}{name}" for name in classes)]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A trained model that scores a frame or plain mappings with the same results, bit-identical ones for CatBoost.

    It holds no lock and may be shared between threads.

    Args:
        name: name of the contract that it was trained for.
        classes: the classes, in the order of the probabilities.
        estimator: what was fitted; its classes are the indices of `classes`.
        params: parameters of the training, for information only.
        threshold: decides between two classes; None: the most probable class is predicted.
    """

    name: str
    contract_version: str
    classes: tuple[str, ...]
    estimator: Estimator
    params: dict[str, Any]
    threshold: Threshold | None = None

    @property
    def encoder(self) -> Encoder:
        """Turns rows into features."""
        return self.estimator.encoder

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the required columns, in the order of the contract."""
        return self.encoder.inputs

    def predict(self, rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> Predictions:
        """Return class, confidence and probabilities of each row.

        Args:
            rows: a frame, or plain mappings from column to value; columns other than `inputs` are ignored.

        Raises:
            UsageError: a column or value is missing or is of another kind.
        """
        probabilities = self.probabilities(rows) if isinstance(rows, pd.DataFrame) else self.probabilities_of(rows)
        best: list[int] = decided(probabilities, self.classes, self.threshold).tolist()
        table: list[list[float]] = probabilities.tolist()
        return Predictions(
            classes=[self.classes[index] for index in best],
            confidences=[row[index] for row, index in zip(table, best, strict=True)],
            probabilities=table,
            class_order=self.classes,
        )

    def probabilities(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probability of each class for each row of a frame; shape (rows, classes).

        Columns other than `inputs` are ignored.

        Raises:
            UsageError: a column is missing or holds values of another kind.
        """
        if frame.empty:
            self.encoder.check_columns(frame.columns)
            return self._none()
        return self.estimator.predict_proba(self.estimator.encode_frame(frame))

    def probabilities_of(self, rows: Sequence[Mapping[str, object]]) -> NDArray[np.float64]:
        """Return the same as `probabilities` for plain mappings, without building a frame.

        Raises:
            UsageError: a value is missing (a null must be given as None) or is of another kind.
        """
        if not rows:
            return self._none()
        return self.estimator.predict_proba(self.estimator.encode_rows(rows))

    def _none(self) -> NDArray[np.float64]:
        return np.empty((0, len(self.classes)), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write the scorer as plain files, replacing an existing one.

        The description is written last and contains the digests of the model and of itself, so that a folder left by a
        killed process, or a damaged file, is never mistaken for a scorer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / self.estimator.stored
        if model.is_dir():
            shutil.rmtree(model)
        model.unlink(missing_ok=True)
        self.estimator.save(model)
        description: dict[str, Any] = {
            "schema_version": THRESHOLD_SCHEMA_VERSION if self.threshold else SCHEMA_VERSION,
            "name": self.name,
            "contract_version": self.contract_version,
            "classes": self.classes,
            "params": self.params,
            "encoder": self.encoder.to_dict(),
            "estimator": self.estimator.name,
            "code_sha256": self.estimator.code,
            "model_sha256": digest_of(model),
        }
        if self.threshold:
            description["threshold"] = asdict(self.threshold)
        description[SELF_DIGEST] = _digest_of(description)
        text = json.dumps(description, indent=2, allow_nan=False)
        (folder / SCORER_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer that `save` wrote.

        Raises:
            NotFound: a file is missing.
            Unreachable: a file cannot be read now.
            UsageError: the files are not a scorer, do not belong together, or are not as they were written.
        """
        described, encoder, kind, digest = _read(folder)
        estimator = kind(encoder)
        model = folder / kind.stored
        with reading(model, f"is not a model of the estimator {kind.name}"):
            if digest_of(model) != digest:
                raise UsageError(
                    f"{kind.stored} is not the one that {SCORER_FILE} describes",
                    where=str(folder),
                    hint="copy or train the model again",
                )
            estimator.load(model)
        return cls(estimator=estimator, **described)


def estimator_of(folder: Path) -> type[Estimator]:
    """Return the estimator of the scorer in a folder; errors as for `Scorer.load`."""
    return _read(folder)[2]


def contract_version_of(folder: Path) -> str:
    """Return the contract's version of the scorer in a folder; errors as for `Scorer.load`."""
    return str(_read(folder)[0]["contract_version"])


def _read(folder: Path) -> tuple[dict[str, Any], Encoder, type[Estimator], str]:
    with reading(folder / SCORER_FILE, "does not describe a scorer"):
        data = json.loads((folder / SCORER_FILE).read_text(encoding="utf-8"))
        _require_whole(data, folder / SCORER_FILE)
        described = {
            "name": data["name"],
            "contract_version": data["contract_version"],
            "classes": tuple(data["classes"]),
            "params": data["params"],
            "threshold": Threshold(**data["threshold"]) if "threshold" in data else None,
        }
        # Models that were made by earlier versions name no estimator.
        kind = find_estimator(data.get("estimator", CATBOOST), data.get("code_sha256", ""))
        return described, Encoder.from_dict(data["encoder"]), kind, data["model_sha256"]


def _require_whole(data: dict[str, Any], path: Path) -> None:
    """Check that a description has our format and was not changed since it was written."""
    if data["schema_version"] not in (SCHEMA_VERSION, THRESHOLD_SCHEMA_VERSION):
        raise UsageError(
            f"schema version {data['schema_version']} instead of {SCHEMA_VERSION} or {THRESHOLD_SCHEMA_VERSION}",
            where=str(path),
            hint="train again with this version",
        )
    # Models that were made by earlier versions have no digest; only their probes can tell.
    if SELF_DIGEST in data and data[SELF_DIGEST] != _digest_of(data):
        raise UsageError("was changed after it was written", where=str(path), hint="copy or train the model again")


def _digest_of(description: Mapping[str, Any]) -> str:
    others = {name: value for name, value in description.items() if name != SELF_DIGEST}
    return hashlib.sha256(json.dumps(others, sort_keys=True, allow_nan=False).encode()).hexdigest()
