"""Microservice vertical: the answer of one model is an input of the next; each model has its own service."""

from time import perf_counter
from typing import Any

import bentoml

from ctcd.model.served import load
from examples.patterns.informed import column_of, informed
from examples.patterns.parts import CONTRACT, MODEL, PART, PREDICTION, ROW, SECOND, Answers, ask, values

Rows = list[dict[str, Any]]


@bentoml.service(**PART)
class First:
    """The first model; its class is an input of the second one."""

    def __init__(self) -> None:
        self.scorer = load(MODEL, CONTRACT).scorer

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    def classes(self, rows: Rows) -> list[str]:
        """Return the class of each row."""
        return self.scorer.predict(rows).classes


@bentoml.service(**PART)
class Second:
    """The second model, whose answer the client gets."""

    def __init__(self) -> None:
        self.scorer = load(SECOND, informed(CONTRACT)).scorer

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    def probabilities(self, rows: Rows) -> list[list[float]]:
        """Return the probability of each class for each row; shape (rows, classes)."""
        return self.scorer.predict(rows).probabilities


@bentoml.service
class Chain:
    """Answers clients."""

    first = bentoml.depends(First)
    second = bentoml.depends(Second)

    def __init__(self) -> None:
        last = load(SECOND, informed(CONTRACT))
        self.answers = Answers("chain", load(MODEL, CONTRACT), last, threshold=last.scorer.threshold)

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    async def predict(self, data: ROW) -> PREDICTION:  # type: ignore[valid-type] # made at run time
        """Call one model after the other, and log the answer of the last one."""
        began, row = perf_counter(), values(data)
        (answer,) = await ask(self.first.to_async.classes, rows=[row])
        informed_row = {**row, column_of(CONTRACT): answer}
        probabilities = await ask(self.second.to_async.probabilities, rows=[informed_row])
        return await self.answers.give(row, probabilities, began)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # as above
    def close(self) -> None:
        """Ship the remaining predictions."""
        self.answers.close()
