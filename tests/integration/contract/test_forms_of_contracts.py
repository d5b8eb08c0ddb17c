"""Every form of contract and every kind of estimator that the engine carries, through all stages."""

import csv
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import func, select
from support.load import wait
from support.serving import pinned, served
from support.small_contracts import ALL, BARE, CODED, NAMED, Small, write_instance

from ctcd.contract.instance import Instance, load_instance
from ctcd.contract.payload import field_names, request_rows
from ctcd.contract.spec import names
from ctcd.derived import lock, synthetic
from ctcd.monitoring.drift import write_drift
from ctcd.monitoring.periods import Period
from ctcd.monitoring.tolerances import DEFAULT
from ctcd.promotion import evaluation
from ctcd.promotion.decision import Status
from ctcd.registry.versions import CHAMPION
from ctcd.serving.http.openapi import document
from ctcd.settings import Settings
from ctcd.stages import audit, data, pipeline, scoring
from ctcd.stages.connections import open_registry
from ctcd.store import migrations
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables
from ctcd.training.runs import TrainingRuns
from ctcd.training.summary import TrainingReport

pytestmark = pytest.mark.integration

MANY_RULES = 200

FORMS = [pytest.param(small, "sqlite", id=small.name) for small in ALL] + [
    pytest.param(small, "mariadb", id=f"{small.name}-mariadb") for small in (CODED, NAMED)
]


OURS = """import pandas as pd

from ctcd.model.pipelines import LogisticRegression


class Ours(LogisticRegression):
    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(nulls=rows.isna().sum(axis=1))
"""
"""An estimator of the instance, with a feature of its own."""
SLOW = """import time

from ctcd.model.pipelines import LogisticRegression


class Slow(LogisticRegression):
    def predict_proba(self, features):
        time.sleep(0.3 if len(features) == 1 else 0)
        return super().predict_proba(features)
"""
"""An estimator of the instance that takes 300 ms for a single row."""


@pytest.fixture(autouse=True)
def _latency_is_measured_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ROWS_TIMED", 1)
    monkeypatch.setattr(evaluation, "ROUNDS", 1)
    monkeypatch.setattr(evaluation, "WARM_UP", 1)


@pytest.mark.parametrize(("small", "store"), FORMS)
def test_a_contract_of_this_form_goes_from_a_table_to_logged_answers(
    small: Small, store: str, tmp_path: Path, empty_mlflow: Path, request: pytest.FixtureRequest
) -> None:
    """Tables, ingest, snapshot, validation, data monitor, training, gate, service and batch work without further options."""
    instance = write_instance(small, tmp_path / "contracts")
    url = request.getfixturevalue("empty_store_url") if store == "mariadb" else ""
    settings = Settings(home=tmp_path / "home", contracts=instance.folder, feature_store_url=SecretStr(url))
    settings.home.mkdir()
    copyfile(empty_mlflow, settings.home / "mlflow.db")
    _through_all_stages(small, instance, settings, tmp_path)


@pytest.mark.parametrize("small", ALL, ids=[small.name for small in ALL])
def test_a_contract_of_this_form_has_the_same_snapshot_on_both_stores(
    small: Small, tmp_path: Path, empty_store_url: str
) -> None:
    """Migration, ingest, snapshot and validation work on MariaDB as on SQLite: each row has the same values and types."""
    instance = write_instance(small, tmp_path / "contracts")
    found: list[pd.DataFrame] = []
    for number, url in enumerate(("", empty_store_url)):
        home = tmp_path / f"home-{number}"
        home.mkdir()
        settings = Settings(home=home, contracts=instance.folder, feature_store_url=SecretStr(url))
        _tables(instance, settings)
        if not found:
            synthetic.write(
                instance.contract, tmp_path / "raw", rows=small.rows, seed=1, end=settings.today(), error_rate=0.01
            )
        data.ingest(settings, tmp_path / "raw", replace=True)
        _, last = pipeline.labelled_days(settings)
        data.snapshot(settings, last, months=120)
        frame = data.valid_snapshot(settings, last).frame
        found.append(frame.sort_values(frame.columns.tolist(), ignore_index=True))
    of_sqlite, of_mariadb = found
    assert len(of_sqlite) > small.rows / 2
    pd.testing.assert_frame_equal(of_sqlite, of_mariadb)


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "model:Ours"])
def test_an_estimator_goes_from_a_table_to_logged_answers(estimator: str, tmp_path: Path, empty_mlflow: Path) -> None:
    """scikit-learn's trees, and an estimator of the instance, pass the same stages; run and model say which code made them."""
    instance = write_instance(CODED, tmp_path / "contracts")
    (instance.folder / "model.py").write_text(OURS)
    instance.training_profiles.write_text(
        f'[smoke]\ndescription = ""\nestimator = "{estimator}"\nfixed = {{}}\n[smoke.grid]\nmax_iter = [400, 500]\n'
    )
    settings = Settings(home=tmp_path / "home", contracts=instance.folder)
    settings.home.mkdir()
    copyfile(empty_mlflow, settings.home / "mlflow.db")
    trained = _through_all_stages(CODED, instance, settings, tmp_path)
    code = hashlib.sha256(OURS.encode()).hexdigest() if ":" in estimator else ""
    assert (trained.estimator, trained.code_sha256) == (estimator, code)
    registry = open_registry(settings)
    run = registry.client.get_run(trained.run_id)
    assert (run.data.tags["estimator"], run.data.tags["code_sha256"]) == (estimator, code)
    kind = registry.scorer(registry.champion(), settings.scorers).estimator
    assert (kind.name, kind.code) == (estimator, code)


def test_an_estimator_that_is_too_slow_is_refused_by_the_gate(tmp_path: Path, empty_mlflow: Path) -> None:
    """The gate names the rule of latency, and no other, and the model does not become the champion."""
    instance = write_instance(BARE, tmp_path / "contracts")
    (instance.folder / "model.py").write_text(SLOW)
    instance.training_profiles.write_text(
        '[smoke]\ndescription = ""\nestimator = "model:Slow"\nfixed = {}\ngrid = {}\n'
    )
    policy = instance.promotion_policy.read_text()
    unlimited = next(line for line in policy.splitlines() if line.startswith("max_row_p95_ms"))
    instance.promotion_policy.write_text(policy.replace(unlimited, "max_row_p95_ms = 250.0"))
    settings = Settings(home=tmp_path / "home", contracts=instance.folder)
    settings.home.mkdir()
    copyfile(empty_mlflow, settings.home / "mlflow.db")
    migrations.upgrade(settings.store_url, instance.migrations)
    synthetic.write(instance.contract, tmp_path / "raw", rows=BARE.rows, seed=1, end=settings.today())

    done = pipeline.run(settings, tmp_path / "raw", profile="smoke")

    assert done.gate.status is Status.REFUSE
    [reason] = done.gate.reasons
    assert reason.startswith("one row, p95 in ms: 3")
    assert "250" in reason
    assert done.promotion is None
    assert open_registry(settings).find(CHAMPION) is None


def _through_all_stages(small: Small, instance: Instance, settings: Settings, tmp_path: Path) -> TrainingReport:
    """Go from a table to logged answers; return the report of the training."""
    _tables(instance, settings)
    report = synthetic.write(
        instance.contract, tmp_path / "raw", rows=small.rows, seed=1, end=settings.today(), error_rate=0.01
    )

    done = pipeline.run(settings, tmp_path / "raw", profile="smoke")

    assert {table.source: table.quarantined for table in done.ingest.tables} == {
        path: round(0.01 * small.rows) for path in {report.features_file, report.labels_file}
    }
    assert done.gate.status is Status.PROMOTE, done.gate.reasons
    assert list(done.snapshot.shares) == list(small.classes)
    rules = data.monitor_data(settings, settings.today(), accept_change=True).checks
    assert rules
    if len(rules) < MANY_RULES:  # each takes the library a while
        assert data.monitor_data(settings, settings.today()).passed
    _serve(instance, settings, tmp_path)
    _batch(instance, settings, tmp_path / "raw", tmp_path)
    if small.threshold is not None:
        _threshold(small, small.threshold, settings, tmp_path, done.training)
    return done.training


def _tables(instance: Instance, settings: Settings) -> None:
    """The first migration makes the contract's tables, and the lock can be derived."""
    migrations.upgrade(settings.store_url, instance.migrations)
    engine = connect(settings.store_url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), build_tables(instance.contract).metadata)
    engine.dispose()
    assert found == []
    files = lock.derive(instance, document(instance.contract, instance.payload), asyncapi={})
    assert all(files.values())
    schemas = json.loads(files["openapi.json"])["components"]["schemas"]
    assert list(schemas["Row"]["properties"]) == names(instance.contract.request_columns)
    answered = [
        *names(instance.contract.identity),
        "predict",
        "confidence",
        "probabilities",
        "model_version",
        "request_id",
    ]
    assert list(schemas["Prediction"]["properties"]) == answered


def _serve(instance: Instance, settings: Settings, folder: Path) -> None:
    """Every row of the snapshot is accepted, answered as the model itself does, and logged with what was sent."""
    contract, registry = instance.contract, open_registry(settings)
    champion = registry.champion()
    model = registry.fetch_scorer(champion.version, folder / "model")
    champion.model_info().save(model)
    frame = data.valid_snapshot(settings, None).frame.head(60)
    rows = _requests(frame, instance)
    expected = registry.scorer(champion, settings.scorers).predict(frame)
    wanted = pinned(
        folder / "service",
        model,
        contracts=instance.folder,
        feature_store_url=SecretStr(settings.store_url),
        ship_in_process=False,
    )
    with served(wanted, instance) as client:
        answers = client.post("/predict_batch", json={"data": rows})
        assert answers.status_code == 200, answers.text
        first = client.post("/predict", json={"data": rows[0]})
        assert first.status_code == 200, first.text
        example = instance.payload.row.model_json_schema()["examples"][0]
        assert client.post("/predict", json={"data": example}).status_code == 200
        unknown = client.post("/predict", json={"data": rows[0] | {"no such": 1}}).json()
        assert "not in the contract" in unknown["detail"]
        wait(lambda: len(_logged(settings, first.json()["request_id"])) == 1)
    given = answers.json()["predictions"]
    assert [answer["predict"] for answer in given] == expected.classes
    assert [answer["confidence"] for answer in given] == pytest.approx(expected.confidences, abs=1e-9)
    for answer, row, probabilities in zip(given, rows, expected.probabilities, strict=True):
        assert list(answer["probabilities"]) == list(contract.classes)
        assert np.abs(np.array(list(answer["probabilities"].values())) - probabilities).max() < 1e-9
        assert {name: answer[name] for name in names(contract.identity)} == {
            name: row[name] for name in names(contract.identity)
        }
    [logged] = _logged(settings, first.json()["request_id"])
    assert logged["features"] == {name: rows[0][name] for name in names(contract.model_inputs)}
    assert (
        scoring.performance(settings, settings.today() + timedelta(days=1), period="daily").rows[-1].predictions == 62
    )
    again = audit.replay(settings)
    assert (again.answers, again.equal, again.partial) == (62, 62, 0), again.differences
    batch = audit.replay(settings, requests=[answers.json()["request_id"]])
    assert (batch.answers, batch.equal) == (60, 60)
    _drift(instance, settings)


def _drift(instance: Instance, settings: Settings) -> None:
    """Every feature of what was answered, and of the store, is compared with the reference of the champion, however few they are."""
    registry, contract = open_registry(settings), instance.contract
    champion = registry.champion()
    reference = TrainingRuns(registry.client, contract, settings).reference(champion.run_id)
    assert reference is not None
    engine = connect(settings.store_url)
    report = write_drift(
        engine,
        contract,
        settings.today() + timedelta(days=1),
        period=Period.DAILY,
        zone=ZoneInfo(settings.timezone),
        limits=DEFAULT.model_copy(update={"smallest_sample": 1}),
        champion=(champion.version, champion.run_id),
        find_reference={champion.run_id: reference}.get,
        chunk_rows=50,
    )
    engine.dispose()
    assert [(sample.source, sample.verdict) for sample in report.samples if sample.source == "predictions"] == [
        ("predictions", "judged")
    ]
    assert report.samples[0].rows == 62
    expected = {"predictions": {*reference.columns, *reference.answers}, "features": {*reference.columns}}
    for sample in report.samples:
        columns = {column.feature for column in report.columns if column.source == sample.source}
        assert columns == expected[sample.source]
    # Rows that ingest has dated are of today; of the others, some may be.
    assert "features" in {sample.source for sample in report.samples} or not contract.event_date.filled


def _threshold(small: Small, threshold: float, settings: Settings, folder: Path, trained: TrainingReport) -> None:
    """What batch and service have answered is decided by the threshold; elsewhere the class would often be the other."""
    negative, positive = small.classes
    rows = pd.read_csv(folder / "snapshot.csv", dtype={"prediction": "str"})
    probability = rows[f"probability_{positive}"]
    wanted = np.where(probability >= threshold, positive, negative)
    assert (rows["prediction"] == wanted).all()
    assert (probability[rows["prediction"] == positive] < 0.5).any()
    assert trained.holdout.roc_auc is not None
    engine = connect(settings.store_url)
    tables, stored = build_tables(load_instance(settings.contracts).contract), list[Any]()
    with engine.connect() as connection:
        for table in (tables.predictions, tables.scores):
            stored += connection.execute(select(table.c.prediction, table.c.confidence)).all()
    engine.dispose()
    for predicted, confidence in stored:
        assert confidence >= (threshold if predicted == positive else 1 - threshold)
    assert any(confidence < 0.5 for _, confidence in stored)


def _logged(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    return scoring.logged_predictions(settings, request_id)


def _requests(frame: pd.DataFrame, instance: Instance) -> list[dict[str, Any]]:
    rows = request_rows(frame, instance.contract)
    assert all(list(row) == list(field_names(instance.payload.row)) for row in rows)
    return rows


def _batch(instance: Instance, settings: Settings, raw: Path, folder: Path) -> None:
    """The rows of the store are scored once, and those of tables and files too."""
    contract = instance.contract
    engine = connect(settings.store_url)
    tables = build_tables(contract)
    with engine.connect() as connection:
        groups = connection.scalar(select(func.count(tables.features.c[contract.group.name].distinct())))
    engine.dispose()
    assert scoring.predict_new(settings).rows == groups
    assert scoring.predict_new(settings).rows == 0
    of_snapshot = scoring.predict(settings, contract.snapshot_table, folder / "snapshot.csv")
    assert of_snapshot.rows > 0
    synthetic.write(contract, raw, rows=50, seed=2, end=settings.today(), error_rate=0.0)
    scored = scoring.predict(settings, str(raw / f"{contract.features_table}.csv.gz"), folder / "file.csv")
    assert scored.rows == 50
    with (folder / "file.csv").open() as file:
        assert {row["prediction"] for row in csv.DictReader(file)} <= set(contract.classes)
    assert open_registry(settings).find(CHAMPION) is not None
