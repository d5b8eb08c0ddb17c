"""A small real model to be served, and requests for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from catboost import CatBoostClassifier, Pool
from sqlalchemy import select
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.model.probes import save_probes
from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo
from ctcd.serving.app import make_service
from ctcd.settings import ModelSource, Settings
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables
from ctcd.training.preprocess import fit_encoder

if TYPE_CHECKING:
    from starlette.testclient import TestClient

INFO = ModelInfo(
    model_name=CONTRACT.name,
    version="7",
    alias="champion",
    run_id="0123456789abcdef0123456789abcdef",
    model_uri=f"models:/{CONTRACT.name}/7",
    creation_time="2025-08-31T00:00:00+00:00",
)
EXAMPLE: dict[str, Any] = {column.name: column.example for column in (CONTRACT.group, *CONTRACT.model_inputs)}


def row_of(number: int) -> dict[str, Any]:
    """Return a row to which the small model gives another answer than to its neighbours."""
    values = {"vibration": (3.0, 16.0, 30.0)[number % 3], "stops": float(number % 7), "wear": 0.5 * (number % 200)}
    return EXAMPLE | values | {"humidity": 0.1 * (number % 1_000), "power": 5.0 + number % 97}


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
    save_probes(scorer, CONTRACT, folder)
    info.save(folder)
    return folder


def pinned(home: Path, model: Path | None = None, **more: Any) -> Settings:
    """Return settings of a service that keeps its model, by default the one in its Bento."""
    return Settings(home=home, scorer_folder=model, model_source=ModelSource.BENTO, drain_seconds=5, **more)


@contextmanager
def served(settings: Settings) -> Iterator["TestClient"]:
    """Run the service in this process."""
    from starlette.testclient import TestClient

    service = make_service(settings, INSTANCE)
    # The service tunes the interpreter of its process; this one is the tests' own.
    with (
        patch("ctcd.serving.runtime.tune_interpreter"),
        TestClient(service.to_asgi(), raise_server_exceptions=False) as client,
    ):
        yield client


def empty_store(settings: Settings) -> Settings:
    """Make the tables of the store that the settings name."""
    engine = connect(settings.store_url)
    build_tables(CONTRACT).metadata.create_all(engine)
    engine.dispose()
    return settings


def logged(url: str) -> list[dict[str, Any]]:
    """Return the rows of the prediction log, oldest first."""
    table = build_tables(CONTRACT).predictions
    engine = connect(url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]
    engine.dispose()
    return rows
