"""Preprocess-prediction: one service checks, encodes and logs, another one computes, each in processes of its own.

The processes that compute can then be scaled, and given other hardware, by themselves.
"""

from time import perf_counter
from typing import Any

import bentoml

from ctcd.model.served import load
from examples.patterns.parts import CONTRACT, LIMITS, MODEL, PREDICTION, ROW, Answers, ask, values


@bentoml.service(traffic=LIMITS)
class Prediction:
    """Computes: features in, probabilities out."""

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
        # Of the model it uses the encoder, and the features that an estimator has learned.
        served = load(MODEL, CONTRACT)
        self.estimator = served.scorer.estimator
        self.answers = Answers("split", served, threshold=served.scorer.threshold)

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    async def predict(self, data: ROW) -> PREDICTION:  # type: ignore[valid-type] # made at run time
        """Check and encode a row, let the other service compute, and log the answer."""
        began, row = perf_counter(), values(data)
        features = self.estimator.encode_rows([row])
        probabilities = await ask(self.prediction.to_async.probabilities, features=features)
        return await self.answers.give(row, probabilities, began)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # as above
    def close(self) -> None:
        """Ship what is left."""
        self.answers.close()
