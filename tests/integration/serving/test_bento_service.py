"""A Bento, served by a real `bentoml serve`, satisfies the contract and logs every answer once."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from pydantic import SecretStr
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.load import Guarded, wait
from support.serving import EXAMPLE, INFO, logged, logged_ids, save_model, small_scorer

from ctcd.contract.spec import names
from ctcd.deployment import bento
from ctcd.deployment.bento import BentoReport
from ctcd.errors import UsageError
from ctcd.model.scorer import Scorer
from ctcd.serving.launch import running
from ctcd.settings import Settings

pytestmark = pytest.mark.integration

Built = tuple[BentoReport, Path]
UNWANTED = {"airflow", "alembic", "great_expectations", "hypothesis", "matplotlib", "mlflow", "pytest", "sklearn"}


def with_store(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"feature_store_url": SecretStr(url)})


def sample(rows: int) -> list[dict[str, object]]:
    """Rows as a client sends them, with a missing and an unseen value among them."""
    frame = snapshot_frame(CONTRACT, rows=rows, seed=9)[[CONTRACT.group.name, *names(CONTRACT.model_inputs)]]
    records: list[dict[str, object]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return [*records, EXAMPLE | {"shift": None}, EXAMPLE | {"maker": "Lighthouse Keeper"}]


def test_every_answer_is_that_of_the_model_and_is_logged_once(
    built: Built, settings: Settings, store_url: str, scorer: Scorer
) -> None:
    """Probabilities over HTTP are those of the trained object, and the store has one row for each answer."""
    settings = with_store(settings, store_url)
    rows = sample(60)
    began = datetime.now(UTC)
    with running(built[0].tag, settings) as service, httpx.Client(base_url=service.url) as client:
        responses = [client.post("/predict", json={"data": row}) for row in rows]
        assert client.post("/predict", json={"data": EXAMPLE | {"hours": -1}}).status_code == 422
    answers: list[Any] = [
        PAYLOAD.prediction.model_validate_json(response.content, strict=True) for response in responses
    ]
    given = np.array([[answer.probabilities[name] for name in CONTRACT.classes] for answer in answers])
    np.testing.assert_allclose(given, scorer.probabilities_of(rows), rtol=0, atol=1e-9)
    log = logged(store_url)
    assert sorted(row["request_id"] for row in log) == sorted(answer.request_id for answer in answers)
    by_id = {row["request_id"]: row for row in log}
    for answer, sent in zip(answers, rows, strict=True):
        row = by_id[answer.request_id]
        assert row["model_version"] == answer.model_version == INFO.version
        assert row[CONTRACT.group.name] == sent[CONTRACT.group.name]
        assert row["features"] == {name: value for name, value in sent.items() if name != CONTRACT.group.name}
        assert row["prediction"] == answer.predict
        assert row["confidence"] == pytest.approx(answer.confidence, abs=1e-12)
        assert 0 < row["elapsed_ms"] < 60_000
        assert began <= row["created_at"] <= datetime.now(UTC)


def test_routes_answer_in_a_real_process(guarded: Guarded) -> None:
    """Probes, metadata, metrics of all workers, document and page; and the prediction reaches a SQLite store, too."""
    with httpx.Client(base_url=guarded.service.url, headers={"X-API-Key": guarded.key}) as client:
        answer = client.post("/predict", json={"data": EXAMPLE})
        assert answer.status_code == 200
        wait(lambda: answer.json()["request_id"] in logged_ids(guarded.store))
        assert client.post("/metadata").json()["model_version"] == INFO.version
        for path in ("/healthz", "/livez", "/readyz"):
            assert client.get(path).status_code == 200
        assert (
            'ctcd_requests_total{model="machine_condition",route="/predict",status="200"}'
            in client.get("/metrics").text
        )
        assert client.get("/docs.json").json()["info"]["title"] == CONTRACT.name
        assert 'action="./predict"' in client.get("/").text
        assert "swagger-ui" in client.get("/docs").text
        assert client.get("/static_content/swagger-ui-bundle.js").status_code == 200


def test_a_pinned_service_keeps_its_own_model(guarded: Guarded) -> None:
    """It neither asks the registry nor starts a poller."""
    response = httpx.get(f"{guarded.service.url}/model-info", headers={"X-API-Key": guarded.key})
    info: Any = PAYLOAD.model_info.model_validate_json(response.content)
    assert (info.version, info.following, info.looked_at) == (INFO.version, False, "")
    commands = [each.cmdline() for each in psutil.Process(guarded.service.process.pid).children(recursive=True)]
    assert any("ctcd.serving.prediction_log.shipping" in command for command in commands)
    assert not any("ctcd.serving.champion.poller" in command for command in commands)


def test_the_service_imports_nothing_that_serving_does_not_need(guarded: Guarded) -> None:
    """None of its processes imports training, tests or orchestration, not even when it answers; the code is the Bento's own."""
    with httpx.Client(base_url=guarded.service.url, headers={"X-API-Key": guarded.key}) as client:
        assert client.post("/predict", json={"data": EXAMPLE}).status_code == 200
        assert client.post("/predict_batch", json={"data": [EXAMPLE] * 3}).status_code == 200
        assert client.get("/metrics").status_code == 200
    lines = guarded.service.log.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    assert {"ctcd", "catboost", "bentoml"} <= imported
    assert not UNWANTED & imported


def test_following_the_registry_costs_a_worker_no_import() -> None:
    """The worker's code that follows the champion leaves MLflow to the process that polls the registry."""
    code = (
        "import sys, ctcd.serving.service, ctcd.serving.runtime, ctcd.serving.champion.follower\n"
        "from ctcd.store import prediction_log\n"
        f"print(sorted({UNWANTED!r} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"  # noqa: S603 - our own command


def test_a_worker_starts_without_the_packages_that_its_image_leaves_out() -> None:
    """Nothing that a worker or its processes import needs pyarrow, which the api image does not have."""
    code = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "import ctcd.serving.service, ctcd.serving.runtime, ctcd.serving.champion.poller\n"
        "import ctcd.serving.prediction_log.shipping, ctcd.serving.cache"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own command


def test_a_bento_does_not_need_our_package_installed(built: Built) -> None:
    """Its own copy of the engine is what is imported from its folder, and its own copy of the instance loads."""
    source = Path(built[0].path) / "src"
    code = (
        "import ctcd; from pathlib import Path; from ctcd.contract.instance import load_instance\n"
        "print(ctcd.__file__, load_instance(Path('contracts')).folder)"
    )
    paths = subprocess.check_output([sys.executable, "-c", code], cwd=source, text=True).split()  # noqa: S603 - our own command
    assert all(Path(path).resolve().is_relative_to(source.resolve()) for path in paths)


def test_building_again_changes_nothing(built: Built, scorer: Scorer, tmp_path: Path) -> None:
    """The same model and code give the same Bento, which stays; a damaged one is repaired; another model replaces it."""
    model, home = save_model(scorer, tmp_path / "model"), Settings(home=tmp_path)
    shutil.copytree(built[1] / "bentoml", home.bentoml_home)
    again = bento.build(INFO, model, home, INSTANCE)
    assert (built[0].reused, again.reused) == (False, True)
    assert (again.tag, again.digest) == (f"{CONTRACT.name}:v{INFO.version}", built[0].digest)
    baked = Path(again.path) / "src" / "model"
    (baked / "model.cbm").unlink()  # as a killed build may leave it
    assert not bento.build(INFO, model, home, INSTANCE).reused
    assert (baked / "model.cbm").read_bytes() == (model / "model.cbm").read_bytes()
    other = save_model(small_scorer(iterations=5), tmp_path / "other")
    assert not bento.build(INFO, other, home, INSTANCE).reused
    assert (baked / "model.cbm").read_bytes() == (other / "model.cbm").read_bytes()


def test_the_bento_says_what_it_is(built: Built) -> None:
    """Its labels name contract, model and revision."""
    text = (Path(built[0].path) / "bento.yaml").read_text()
    for line in (f"contract_version: {CONTRACT.version}", f"model_version: '{INFO.version}'", "git_revision: abc123"):
        assert line in text


def test_a_service_that_cannot_start_says_why_at_once(built: Built, settings: Settings) -> None:
    """A missing model ends in our own error message, long before the time limit."""
    broken = settings.model_copy(update={"scorer_folder": settings.home / "nothing"})
    with pytest.raises(UsageError, match=r"cannot start: .*no model to serve"), running(built[0].tag, broken):
        pass
