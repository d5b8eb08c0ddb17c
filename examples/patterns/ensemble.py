"""Microservice horizontal: several models score the same row in parallel, and their probabilities are averaged."""

import asyncio
from time import perf_counter
from typing import Any

import bentoml
import numpy as np
from bentoml.exceptions import ServiceUnavailable
from numpy.typing import NDArray

from ctcd.model.served import load
from examples.patterns.parts import CONTRACT, MODEL, PART, PREDICTION, ROW, SECOND, Answers, ask, values

Rows = list[dict[str, Any]]


@bentoml.service(**PART)
class First:
    """One model."""

    def __init__(self) -> None:
        self.scorer = load(MODEL, CONTRACT).scorer

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    def probabilities(self, rows: Rows) -> list[list[float]]:
        """Return the probability of each class for each row; shape (rows, classes)."""
        return self.scorer.predict(rows).probabilities


@bentoml.service(**PART)
class Second:
    """Another model on the same contract."""

    def __init__(self) -> None:
        self.scorer = load(SECOND, CONTRACT).scorer

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    def probabilities(self, rows: Rows) -> list[list[float]]:
        """Return the probability of each class for each row; shape (rows, classes)."""
        return self.scorer.predict(rows).probabilities


@bentoml.service
class Ensemble:
    """Answers clients."""

    first = bentoml.depends(First)
    second = bentoml.depends(Second)

    def __init__(self) -> None:
        first = load(MODEL, CONTRACT)
        self.answers = Answers("ensemble", first, load(SECOND, CONTRACT), threshold=first.scorer.threshold)

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    async def predict(self, data: ROW) -> PREDICTION:  # type: ignore[valid-type] # made at run time
        """Call all models in parallel, and log the average."""
        began, row = perf_counter(), values(data)
        branches = {"first": self.first.to_async, "second": self.second.to_async}
        asked = (ask(branch.probabilities, rows=[row]) for branch in branches.values())
        found = await asyncio.gather(*asked, return_exceptions=True)
        return await self.answers.give(row, average(dict(zip(branches, found, strict=True))), began)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # as above
    def close(self) -> None:
        """Ship the remaining predictions."""
        self.answers.close()


def average(found: dict[str, Any]) -> NDArray[np.float64]:
    """Return the mean of the branches' results, which are probabilities or exceptions by name.

    Raises:
        ServiceUnavailable: a branch has failed. The average of the others is a different model, which was never evaluated.
    """
    failed = {name: answer for name, answer in found.items() if isinstance(answer, BaseException)}
    if failed:
        reason = next(iter(failed.values()))
        raise ServiceUnavailable(f"no answer from {', '.join(failed)}; try again later") from reason
    mean: NDArray[np.float64] = np.mean(list(found.values()), axis=0)
    return mean
