"""BentoML as it comes, answering a constant: what its own machinery costs."""

import bentoml

from contracts.features import CONTRACT
from contracts.payload import CreditRow, Prediction

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
    """Answers always the same."""

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    async def predict(self, data: CreditRow) -> Prediction:  # type: ignore[valid-type] # made at run time # noqa: ARG002 - it is read and checked
        """Answer."""
        return ANSWER
