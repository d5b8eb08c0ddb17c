"""A common alternative: FastAPI on uvicorn, CatBoost on a plain list; no log, no metrics, no micro-batching."""

from catboost import CatBoostClassifier
from fastapi import FastAPI

from benchmarks.instance import CONTRACT, PAYLOAD
from benchmarks.services import BARE_MODEL
from ctcd.contract.spec import names

PredictRequest, Prediction = PAYLOAD.request, PAYLOAD.prediction

app = FastAPI()
model = CatBoostClassifier().load_model(BARE_MODEL)
inputs = names(CONTRACT.model_inputs)


@app.post("/predict")
async def predict(request: PredictRequest) -> Prediction:  # type: ignore[valid-type] # made at run time
    """Score one row."""
    row = request.data.__dict__  # type: ignore[attr-defined] # as above
    values = ["" if row[name] is None else row[name] for name in inputs]
    probabilities = model.predict_proba(values, thread_count=1).tolist()
    confidence = max(probabilities)
    return Prediction.model_validate(
        {
            CONTRACT.group.name: row[CONTRACT.group.name],
            "predict": CONTRACT.classes[probabilities.index(confidence)],
            "confidence": confidence,
            "probabilities": dict(zip(CONTRACT.classes, probabilities, strict=True)),
            "model_version": "1",
            "request_id": "none",
        }
    )
