"""Real trainings on synthetic data in a real embedded MLflow store, small enough for tests."""

from datetime import date
from pathlib import Path

import pandas as pd
from pydantic import SecretStr
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE

from ctcd.settings import Settings
from ctcd.training.grid import load_profile
from ctcd.training.job import Plan
from ctcd.training.summary import TrainingReport
from ctcd.training.train import train

BASE_DT = date(2025, 8, 31)


def embedded(home: Path) -> Settings:
    """Return settings of embedded stores in a folder."""
    # Given explicitly, because MLflow sets the environment variable to the store connected last.
    return Settings(
        home=home,
        feature_store_url=SecretStr(f"sqlite:///{home / 'store.db'}"),
        mlflow_tracking_uri=SecretStr(f"sqlite:///{home / 'mlflow.db'}"),
    )


def smoke_training(
    settings: Settings, frame: pd.DataFrame | None = None, *, iterations: int = 60, force: bool = False
) -> TrainingReport:
    """Train one tiny trial; the more iterations, the better the model."""
    profile = load_profile("smoke", INSTANCE)
    tiny = profile.model_copy(update={"fixed": profile.fixed | {"iterations": iterations}})
    rows = snapshot_frame(CONTRACT, rows=3_000) if frame is None else frame
    seeded = settings.model_copy(update={"seed": 7, "threads": 2})
    return train(rows, CONTRACT, Plan(profile=tiny, base_dt=BASE_DT), settings=seeded, force=force)
