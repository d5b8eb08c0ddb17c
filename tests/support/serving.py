"""A small real model to serve, and requests for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from catboost import CatBoostClassifier, Pool
from sqlalchemy import select
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.instance import Instance
from ctcd.contract.spec import Contract
from ctcd.model.probes import save_probes
from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo, Origin
from ctcd.model.trees import CatBoost
from ctcd.serving.app import make_service
from ctcd.settings import ModelSource, Settings
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables
from ctcd.training.preprocess import fit_encoder

if TYPE_CHECKING:
    from starlette.testclient import TestClient


def model_info(contract: Contract) -> ModelInfo:
    """Return the version that a small model of a contract is served as."""
    return ModelInfo(
        model_name=contract.name,
        version="7",
        alias="champion",
        run_id="0123456789abcdef0123456789abcdef",
        model_uri=f"models:/{contract.name}/7",
        creation_time="2025-08-31T00:00:00+00:00",
    )


def origin(version: str, run_id: str = "", **changed: str) -> Origin:
    """Return where predictions of a version come from."""
    known = {"contract_version": CONTRACT.version, "served_by": "bento:v1", "variant": "champion"}
    return Origin(model_version=version, run_id=run_id or f"run {version}", **known | changed)


INFO = model_info(CONTRACT)
OPEN_PATHS = ("/", "/docs", "/docs.json", "/livez", "/healthz", "/readyz")
"""Paths that need no key: the pages and the OpenAPI document, and the probes. A literal list: no route is opened by accident."""
EXAMPLE: dict[str, Any] = {column.name: column.example for column in CONTRACT.request_columns}


def row_of(number: int) -> dict[str, Any]:
    """Return a row whose probabilities by the small model differ from those of its neighbours."""
    values = {"vibration": (3.0, 16.0, 30.0)[number % 3], "stops": float(number % 7), "wear": 0.5 * (number % 200)}
    return EXAMPLE | values | {"humidity": 0.1 * (number % 1_000), "power": 5.0 + number % 97}


@cache
def small_scorer(iterations: int = 20, contract: Contract = CONTRACT, *, one_sided: bool = False) -> Scorer:
    """Train a scorer in about a second, once; nobody changes it. One that is one-sided nearly always says the first class."""
    frame = snapshot_frame(contract, rows=600)
    encoder = fit_encoder(frame, contract)
    target = [contract.classes.index(label) for label in frame[contract.label.name]]
    if one_sided:
        target = [*range(len(contract.classes)), *[0] * (len(target) - len(contract.classes))]
    trees = CatBoost(encoder)
    trees.model = CatBoostClassifier(
        iterations=iterations,
        depth=4,
        loss_function="MultiClass",
        allow_writing_files=False,
        verbose=False,
        random_seed=1,
    ).fit(Pool(encoder.encode_frame(frame), target))
    return Scorer(
        name=contract.name,
        contract_version=contract.version,
        classes=contract.classes,
        estimator=trees,
        params={"iterations": iterations, "depth": 4},
    )


@contextmanager
def answering_the_less_probable() -> Iterator[None]:
    """Let models answer a class that another one is more probable than, as those with a threshold do."""
    with patch("ctcd.model.scorer.decided", lambda table, *_: table.argsort(axis=1)[:, -2]):
        yield


def save_model(scorer: Scorer, folder: Path, info: ModelInfo = INFO, contract: Contract = CONTRACT) -> Path:
    """Write a scorer, its probes and its version as the service reads them; return the folder."""
    scorer.save(folder)
    save_probes(scorer, contract, folder)
    info.save(folder)
    return folder


def pinned(home: Path, model: Path | None = None, **more: Any) -> Settings:
    """Return settings of a service that serves one fixed model: that of a folder, or of its Bento."""
    return Settings(home=home, scorer_folder=model, model_source=ModelSource.BENTO, drain_seconds=5, **more)


@contextmanager
def served(settings: Settings, instance: Instance = INSTANCE) -> Iterator["TestClient"]:
    """Run the service of an instance in this process."""
    from starlette.testclient import TestClient

    service = make_service(settings, instance)
    # The service would tune the interpreter of this process, which the tests share.
    with (
        patch("ctcd.serving.runtime.tune_interpreter"),
        TestClient(service.to_asgi(), raise_server_exceptions=False) as client,
    ):
        yield client


def empty_store(settings: Settings) -> Settings:
    """Create the tables of the store that the settings name; return the settings."""
    engine = connect(settings.store_url)
    build_tables(CONTRACT).metadata.create_all(engine)
    engine.dispose()
    return settings


def logged_ids(url: str) -> list[str]:
    """Return the request ids of the prediction log, oldest first."""
    table = build_tables(CONTRACT).predictions
    engine = connect(url)
    with engine.connect() as connection:
        found = [str(each) for each in connection.scalars(select(table.c.request_id).order_by(table.c.id))]
    engine.dispose()
    return found


def logged(url: str) -> list[dict[str, Any]]:
    """Return the rows of the prediction log, oldest first."""
    table = build_tables(CONTRACT).predictions
    engine = connect(url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]
    engine.dispose()
    return rows
