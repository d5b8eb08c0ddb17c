"""What the probes of a deployment find."""

from typing import Any

import pytest
from support.instance import CONTRACT
from support.serving import INFO, small_scorer

from ctcd.deployment import client
from ctcd.deployment.smoke import smoke
from ctcd.registry.versions import RegisteredVersion


@pytest.mark.parametrize(
    ("version", "run_id", "passed"), [("7", INFO.run_id, True), ("8", INFO.run_id, False), ("7", "another", False)]
)
def test_a_service_passes_only_with_the_very_run_of_its_version(
    monkeypatch: pytest.MonkeyPatch, version: str, run_id: str, passed: bool
) -> None:
    """The number alone does not identify a model: one that was registered again has the same."""
    scorer = small_scorer(iterations=2)

    def predict(_url: str, row: dict[str, Any], _key: str) -> dict[str, Any]:
        said = scorer.predict([row])
        probabilities = dict(zip(said.class_order, said.probabilities[0], strict=True))
        return {"predict": said.classes[0], "probabilities": probabilities, "model_version": INFO.version}

    monkeypatch.setattr(client, "model_info", lambda *_: {"version": version, "run_id": run_id})
    monkeypatch.setattr(client, "predict", predict)
    expected = RegisteredVersion(
        model_name=CONTRACT.name, version="7", run_id=INFO.run_id, aliases=(), created_at="", tags={}, uri=""
    )
    problems = smoke("http://api.example", expected, scorer, CONTRACT).problems
    wrong = f"it serves version {version} of run {run_id} instead of version 7 of run {INFO.run_id}"
    assert problems == (() if passed else (wrong,))
