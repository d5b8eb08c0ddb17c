"""How such a service is often written first: a DataFrame, one scaler per column, two predict calls, the log written within the request."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import bentoml
import pandas as pd
from catboost import CatBoostClassifier
from sklearn.preprocessing import RobustScaler

from benchmarks.instance import CONTRACT, PAYLOAD
from benchmarks.services import NAIVE_MODEL, NAIVE_ROWS, STORE
from ctcd.contract.spec import names
from ctcd.store.engine import connect
from ctcd.store.prediction_log import LoggedPrediction, append

Row, Prediction = PAYLOAD.row, PAYLOAD.prediction


@bentoml.service
class Naive:
    """Scores one row."""

    def __init__(self) -> None:
        self.model = CatBoostClassifier().load_model(NAIVE_MODEL)
        rows = pd.read_parquet(NAIVE_ROWS)
        self.scalers = {str(name): RobustScaler().fit(rows[[name]]) for name in rows}
        self.store = connect(Path(STORE).read_text(encoding="utf-8"))

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML's SDK has no types
    def predict(self, data: Row) -> Prediction:  # type: ignore[valid-type] # made at run time
        """Score, log, answer."""
        began = time.perf_counter()
        row: dict[str, Any] = dict(data.__dict__)  # type: ignore[attr-defined] # as above
        frame = pd.DataFrame([row])[names(CONTRACT.model_inputs)]
        for name, scaler in self.scalers.items():
            frame[name] = scaler.transform(frame[[name]])
        texts = [str(name) for name in frame if name not in self.scalers]
        frame[texts] = frame[texts].fillna("").astype(object)
        prediction = CONTRACT.classes[int(self.model.predict(frame)[0][0])]
        probabilities = self.model.predict_proba(frame)[0].tolist()
        request_id = str(uuid4())
        group = row.pop(CONTRACT.group.name)
        record = LoggedPrediction(
            request_id=request_id,
            group=group,
            features=row,
            prediction=prediction,
            confidence=max(probabilities),
            model_version="1",
            run_id="",
            elapsed_ms=(time.perf_counter() - began) * 1_000,
            created_at=datetime.now(UTC),
        )
        append(self.store, CONTRACT, [record])
        return Prediction.model_validate(
            {
                CONTRACT.group.name: group,
                "predict": prediction,
                "confidence": max(probabilities),
                "probabilities": dict(zip(CONTRACT.classes, probabilities, strict=True)),
                "model_version": "1",
                "request_id": request_id,
            }
        )
