"""Preprocess-prediction: one service validates, encodes and logs, another one runs the model, in separate processes.

The processes that run the model can be scaled separately, and run on other hardware.
"""

from time import perf_counter
from typing import Any

import bentoml

from ctcd.model.served import load
from examples.patterns.parts import CONTRACT, MODEL, PART, PREDICTION, ROW, Answers, ask, values


@bentoml.service(**PART)
class Prediction:
    """Runs the model on encoded features."""

    def __init__(self) -> None:
        self.estimator = load(MODEL, CONTRACT).scorer.estimator

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    def probabilities(self, features: Any) -> Any:
        """Return the probability of each class; shape (rows, classes)."""
        return self.estimator.predict_proba(features)


@bentoml.service
class Split:
    """Answers clients."""

    prediction = bentoml.depends(Prediction)

    def __init__(self) -> None:
        # Only the encoder and the learned features of the model are used here.
        served = load(MODEL, CONTRACT)
        self.estimator = served.scorer.estimator
        self.answers = Answers("split", served, threshold=served.scorer.threshold)

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    async def predict(self, data: ROW) -> PREDICTION:  # type: ignore[valid-type] # made at run time
        """Validate and encode a row, let the other service score it, and log the answer."""
        began, row = perf_counter(), values(data)
        features = self.estimator.encode_rows([row])
        probabilities = await ask(self.prediction.to_async.probabilities, features=features)
        return await self.answers.give(row, probabilities, began)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # as above
    def close(self) -> None:
        """Ship the remaining predictions."""
        self.answers.close()
