"""The images of the compositions in `examples/patterns`, hardened as in production."""

import json
import shutil
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.containers import API, OWN, OWN_EXAMPLE, Container, configuration, docker, started, variables
from support.patterns import COMPOSITIONS, ROOT
from support.serving import model_info, save_model, small_scorer

from ctcd.contract.spec import Contract
from examples.patterns.informed import informed

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

SECOND: dict[str, Contract | None] = {"split": None, "chain": informed(OWN.contract), "ensemble": OWN.contract}
"""The contract of the second model of each composition."""


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_an_image_of_a_composition_builds_and_answers(name: str, tmp_path: Path) -> None:
    """On top of the api image, hardened, all services of the composition start, and the answer has all versions."""
    context, image, version = tmp_path / "context", f"{API}-{name}", configuration(API)["Labels"]["ctcd.model-version"]
    shutil.copytree(ROOT / "examples" / "patterns", context, ignore=shutil.ignore_patterns("__pycache__"))
    if contract := SECOND[name]:
        other = replace(model_info(contract), version="second")
        save_model(small_scorer(contract=contract), context / "second", other, contract)
        version = f"{version}+{other.version}"
    docker("build", "--quiet", f"--build-arg=API={API}", f"--target={name}", f"--tag={image}", str(context))
    try:
        with started(image, options=[*variables({"CTCD_ENVIRONMENT": "ci"}), "--publish=127.0.0.1:0:3000"]) as running:
            running.wait_until_healthy()
            status, answer = _ask(running)
            assert (status, answer.get("model_version")) == (200, version), running.logs()
            assert answer["predict"] in OWN.contract.classes
    finally:
        docker("image", "rm", "--force", image)


def _ask(container: Container) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", container.port(3000), timeout=20)
    connection.request("POST", "/predict", json.dumps({"data": OWN_EXAMPLE}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer
