"""Shared parts of the compositions: the configured instance and model, and the logging of answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
from aiohttp import ClientError
from bentoml.exceptions import ServiceUnavailable
from numpy.typing import NDArray
from pydantic import BaseModel

from ctcd.contract.instance import load_instance
from ctcd.contract.payload import row_reader
from ctcd.contract.spec import names
from ctcd.model.scorer import Predictions
from ctcd.model.served import MODEL_FOLDER, Served
from ctcd.model.threshold import Threshold, decided
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipping import ShippingProcess
from ctcd.settings import load_settings
from examples.patterns.logs import hide_values

hide_values()
SETTINGS = load_settings()
INSTANCE = load_instance(SETTINGS.contracts)
CONTRACT = INSTANCE.contract
ROW, PREDICTION = INSTANCE.payload.row, INSTANCE.payload.prediction
PART = {"traffic": {"timeout": SETTINGS.request_seconds}, "runner_connection": {"max_requests": 2**31, "max_age": 1e9}}
"""Options of each part: a part that hangs fails the request, and the connections to it are kept.

By default, BentoML's client closes its connections after a hundred requests, with all requests that are in progress.
"""
ATTEMPTS = 2
COLUMNS = names(CONTRACT.request_columns)
MODEL = SETTINGS.scorer_folder or Path(MODEL_FOLDER).absolute()
"""Folder of the model, as `ctcd build` puts it into a Bento."""
SECOND = MODEL / "second"
"""Folder of the second model of a composition of two."""
values = row_reader(ROW)
"""Returns the values of a validated row by column name."""


async def ask(part: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
    """Call a part; retried once if the connection breaks, as when the part closes an idle one. Parts have no side effects.

    Raises:
        ServiceUnavailable: the part does not answer.
    """
    for _ in range(ATTEMPTS):
        try:
            return await part(**arguments)
        except ClientError as error:
            broken = error
    raise ServiceUnavailable("a part does not answer; try again later") from broken


class Answers:
    """Builds the answers of a composition, and commits each to the outbox before it is returned, like the service.

    Args:
        composition: name of the composition, for the log.
        models: the models that take part, in order; the log combines their versions.
    """

    def __init__(self, composition: str, *models: Served, threshold: Threshold | None = None) -> None:
        version = "+".join(model.version for model in models)
        self._origin = replace(models[0].origin(composition), model_version=version)
        self._threshold = threshold
        self._outbox = Outbox.claim(SETTINGS.outbox, max_records=SETTINGS.outbox_max_records)
        self._shipping = ShippingProcess(SETTINGS, INSTANCE, self._outbox, Metrics(SETTINGS.metrics_folder))
        self._shipping.start()

    async def give(self, row: Mapping[str, Any], probabilities: Any, began: float) -> BaseModel:
        """Log and return the answer to a row; `probabilities` has one row, `began` is when its request arrived.

        Raises:
            OutboxFull: the answer cannot be logged, so it is not given.
        """
        return await asyncio.to_thread(self._give, row, np.asarray(probabilities), began)

    def _give(self, row: Mapping[str, Any], probabilities: NDArray[Any], began: float) -> BaseModel:
        given: list[float] = probabilities[0].tolist()
        best = int(decided(probabilities, CONTRACT.classes, self._threshold)[0])
        request_id = str(uuid4())
        predictions = Predictions(
            classes=[CONTRACT.classes[best]],
            confidences=[given[best]],
            probabilities=[given],
            class_order=CONTRACT.classes,
        )
        record = records.encode(
            [[row[name] for name in COLUMNS]],
            columns=COLUMNS,
            group=records.group_name(CONTRACT),
            request_ids=[request_id],
            predictions=predictions,
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
        """Ship the remaining predictions; those that the store does not accept in time stay on disk."""
        if self._shipping.stop(SETTINGS.drain_seconds):
            self._outbox.close()
