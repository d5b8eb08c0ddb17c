"""The model as one artifact: encoder, trees, class order and contract version, in one object."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, FeaturesData
from numpy.typing import NDArray

from ctcd.errors import UsageError
from ctcd.model.artifact import reading
from ctcd.model.encoder import Encoder
from ctcd.model.threshold import Threshold, decided

MODEL_FILE = "model.cbm"
SCORER_FILE = "scorer.json"
SCHEMA_VERSION = 1
WITH_THRESHOLD = 2
"""Version of the description of a scorer with a threshold: an engine that knows none refuses it."""
SELF_DIGEST = "scorer_sha256"
"""Field of the description: the SHA-256 of all its other fields, as JSON with sorted keys."""
PREDICTION, CONFIDENCE, PROBABILITY = "prediction", "confidence", "probability_"
"""Columns of a table of predictions: class, its probability, and the prefix of the column with the probability of a class."""
SINGLE_THREAD_ROWS = 512
"""With fewer rows than this, starting threads costs more than it saves."""


@dataclass(kw_only=True, slots=True)
class Predictions:
    """What a scorer predicts for some rows, in their order; plain lists, which are cheaper than arrays for single rows.

    Args:
        classes: the predicted class of each row.
        confidences: the probability of that class, 0 to 1.
        probabilities: the probabilities of each row, one for each class, in the order of `class_order`.
        class_order: the classes of the scorer.
    """

    classes: list[str]
    confidences: list[float]
    probabilities: list[list[float]]
    class_order: tuple[str, ...]

    def to_frame(self, index: pd.Index) -> pd.DataFrame:
        """Return the columns `prediction`, `confidence` and `probability_<class>`; one row for each entry of `index`."""
        columns = [f"{PROBABILITY}{name}" for name in self.class_order]
        table = pd.DataFrame(self.probabilities, index=index, columns=columns, dtype=np.float64)
        table.insert(0, PREDICTION, self.classes)
        table.insert(1, CONFIDENCE, np.array(self.confidences, dtype=np.float64))
        return table


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A trained model that scores a frame or plain mappings, with bit-identical results.

    It holds no lock and may be shared between threads.

    Args:
        name: name of the contract that it was trained for.
        contract_version: version of that contract.
        classes: the classes, in the order of the probabilities.
        encoder: turns rows into features.
        model: the trees; their classes are the indices of `classes`.
        params: parameters of the training, for information only.
        threshold: decides between two classes; None: the most probable class is predicted.
    """

    name: str
    contract_version: str
    classes: tuple[str, ...]
    encoder: Encoder
    model: CatBoostClassifier
    params: dict[str, Any]
    threshold: Threshold | None = None

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
        return self._score(self.encoder.encode_frame(frame), len(frame))

    def probabilities_of(self, rows: Sequence[Mapping[str, object]]) -> NDArray[np.float64]:
        """Return the same as `probabilities` for plain mappings, without building a frame.

        Raises:
            UsageError: a value is missing (a null must be given as None) or is of another kind.
        """
        if not rows:
            return self._none()
        return self._score(self.encoder.encode_rows(rows), len(rows))

    def _none(self) -> NDArray[np.float64]:
        return np.empty((0, len(self.classes)), dtype=np.float64)

    def _score(self, features: FeaturesData, rows: int) -> NDArray[np.float64]:
        threads = 1 if rows < SINGLE_THREAD_ROWS else -1
        probabilities: NDArray[np.float64] = self.model.predict_proba(features, thread_count=threads)
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the scorer as plain files, replacing an existing one.

        The description is written last and contains the digests of the trees and of itself, so that a folder left by a
        killed process, or a damaged file, is never mistaken for a scorer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_model(str(folder / MODEL_FILE))
        description: dict[str, Any] = {
            "schema_version": WITH_THRESHOLD if self.threshold else SCHEMA_VERSION,
            "name": self.name,
            "contract_version": self.contract_version,
            "classes": self.classes,
            "params": self.params,
            "encoder": self.encoder.to_dict(),
            "model_sha256": _digest(folder / MODEL_FILE),
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
        with reading(folder / SCORER_FILE, "does not describe a scorer"):
            data = json.loads((folder / SCORER_FILE).read_text(encoding="utf-8"))
            _require_whole(data, folder / SCORER_FILE)
            described = {
                "name": data["name"],
                "contract_version": data["contract_version"],
                "classes": tuple(data["classes"]),
                "encoder": Encoder.from_dict(data["encoder"]),
                "params": data["params"],
                "threshold": Threshold(**data["threshold"]) if "threshold" in data else None,
            }
            digest = data["model_sha256"]
        with reading(folder / MODEL_FILE, "is not a CatBoost model"):
            if _digest(folder / MODEL_FILE) != digest:
                raise UsageError(
                    f"{MODEL_FILE} is not the one that {SCORER_FILE} describes",
                    where=str(folder),
                    hint="copy or train the model again",
                )
            return cls(model=CatBoostClassifier().load_model(str(folder / MODEL_FILE)), **described)


def _require_whole(data: dict[str, Any], path: Path) -> None:
    """Check that a description has our format and was not changed since it was written."""
    if data["schema_version"] not in (SCHEMA_VERSION, WITH_THRESHOLD):
        raise UsageError(
            f"schema version {data['schema_version']} instead of {SCHEMA_VERSION} or {WITH_THRESHOLD}",
            where=str(path),
            hint="train again with this version",
        )
    # Models that were made by earlier versions have no digest; only their probes can tell.
    if SELF_DIGEST in data and data[SELF_DIGEST] != _digest_of(data):
        raise UsageError("was changed after it was written", where=str(path), hint="copy or train the model again")


def _digest_of(description: Mapping[str, Any]) -> str:
    others = {name: value for name, value in description.items() if name != SELF_DIGEST}
    return hashlib.sha256(json.dumps(others, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
