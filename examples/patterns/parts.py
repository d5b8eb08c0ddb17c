"""What the compositions share: the instance and the model that the settings name, and the log of what is answered."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ctcd.contract.instance import load_instance
from ctcd.contract.payload import row_reader
from ctcd.contract.spec import names
from ctcd.model.served import MODEL_FOLDER, Served
from ctcd.model.threshold import Threshold, decided
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipping import ShippingProcess
from ctcd.settings import load_settings

SETTINGS = load_settings()
INSTANCE = load_instance(SETTINGS.contracts)
CONTRACT = INSTANCE.contract
ROW, PREDICTION = INSTANCE.payload.row, INSTANCE.payload.prediction
LIMITS = {"timeout": SETTINGS.request_seconds}
"""Of each service: a part that hangs fails the request."""
COLUMNS = names(CONTRACT.request_columns)
MODEL = SETTINGS.scorer_folder or Path(MODEL_FOLDER).absolute()
"""Folder of the model, as `ctcd build` puts it into a Bento."""
SECOND = MODEL / "second"
"""Folder of the second model of a composition of two."""
values = row_reader(ROW)
"""Returns the values of a validated row by column name."""


class Answers:
    """Makes the answers of a composition, and commits each to the outbox before it is given, as the service does.

    Args:
        composition: name of the composition, for the log.
        models: the models that take part, in their order; together they are what the log has as the version.
    """

    def __init__(self, composition: str, *models: Served, threshold: Threshold | None = None) -> None:
        version = "+".join(model.version for model in models)
        self._origin = replace(models[0].origin(composition), model_version=version)
        self._threshold = threshold
        self._outbox = Outbox.claim(SETTINGS.outbox, max_records=SETTINGS.outbox_max_records)
        self._shipping = ShippingProcess(SETTINGS, CONTRACT, self._outbox, Metrics(SETTINGS.metrics_folder))
        self._shipping.start()

    def give(self, row: Mapping[str, Any], probabilities: NDArray[Any], began: float) -> BaseModel:
        """Log and return the answer to a row; `probabilities` has one row, `began` is when its request arrived.

        Raises:
            OutboxFull: the answer cannot be logged, so it is not given.
        """
        given: list[float] = np.asarray(probabilities)[0].tolist()
        best = int(decided(np.asarray(probabilities), CONTRACT.classes, self._threshold)[0])
        request_id = str(uuid4())
        record = records.encode(
            [[row[name] for name in COLUMNS]],
            columns=COLUMNS,
            group=records.group_name(CONTRACT),
            request_ids=[request_id],
            predictions=[CONTRACT.classes[best]],
            confidences=[given[best]],
            probabilities=[given],
            classes=CONTRACT.classes,
            elapsed_ms=[(perf_counter() - began) * 1_000],
            origin=self._origin,
            created_at=datetime.now(UTC),
        )
        self._outbox.append([record], [1])
        return PREDICTION.model_validate(
            {
                **{name: row[name] for name in names(CONTRACT.identity)},
                "predict": CONTRACT.classes[best],
                "confidence": given[best],
                "probabilities": dict(zip(CONTRACT.classes, given, strict=True)),
                "model_version": self._origin.model_version,
                "request_id": request_id,
            }
        )

    def close(self) -> None:
        """Ship what is left; what the store does not accept in time stays on disk."""
        if self._shipping.stop(SETTINGS.drain_seconds):
            self._outbox.close()
