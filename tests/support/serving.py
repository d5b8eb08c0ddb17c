"""A small real model to be served, and requests for it."""

from pathlib import Path
from typing import Any

from catboost import CatBoostClassifier, Pool
from support.frames import snapshot_frame

from contracts.features import CONTRACT
from credit_score.model.scorer import Scorer
from credit_score.serving.model import ModelInfo
from credit_score.training.preprocess import fit_encoder

INFO = ModelInfo(
    model_name=CONTRACT.name,
    version="7",
    alias="champion",
    run_id="0123456789abcdef0123456789abcdef",
    model_uri=f"models:/{CONTRACT.name}/7",
    creation_time="2025-08-31T00:00:00+00:00",
)
EXAMPLE: dict[str, Any] = {column.name: column.example for column in (CONTRACT.group, *CONTRACT.model_inputs)}


def small_scorer(iterations: int = 20) -> Scorer:
    """Train a scorer in about a second."""
    frame = snapshot_frame(CONTRACT, rows=600)
    encoder = fit_encoder(frame, CONTRACT)
    target = [CONTRACT.classes.index(label) for label in frame[CONTRACT.label.name]]
    model = CatBoostClassifier(
        iterations=iterations,
        depth=4,
        loss_function="MultiClass",
        allow_writing_files=False,
        verbose=False,
        random_seed=1,
    ).fit(Pool(encoder.encode_frame(frame), target))
    return Scorer(
        name=CONTRACT.name,
        contract_version=CONTRACT.version,
        classes=CONTRACT.classes,
        encoder=encoder,
        model=model,
        params={"iterations": iterations, "depth": 4},
    )


def save_model(scorer: Scorer, folder: Path, info: ModelInfo = INFO) -> Path:
    """Write a scorer and its version as the service reads them."""
    scorer.save(folder)
    info.save(folder)
    return folder
