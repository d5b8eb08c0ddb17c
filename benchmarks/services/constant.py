"""BentoML with its defaults, answering a constant: the cost of the framework itself."""

import bentoml

from benchmarks.instance import CONTRACT, PAYLOAD

Row, Prediction = PAYLOAD.row, PAYLOAD.prediction

ANSWER = Prediction.model_validate(
    {
        CONTRACT.group.name: 1,
        "predict": CONTRACT.classes[0],
        "confidence": 0.5,
        "probabilities": dict.fromkeys(CONTRACT.classes, 0.5),
        "model_version": "1",
        "request_id": "none",
    }
)


@bentoml.service
class Constant:
    """Answers every request with the same prediction."""

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    async def predict(self, data: Row) -> Prediction:  # type: ignore[valid-type] # made at run time # noqa: ARG002 - BentoML parses and validates it
        """Return the constant."""
        return ANSWER
