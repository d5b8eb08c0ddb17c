"""What the probes of a deployment find."""

from collections.abc import Callable
from typing import Any

import pytest
from support.instance import CONTRACT
from support.serving import INFO, small_scorer

from ctcd.deployment import client
from ctcd.deployment.smoke import PROBES, smoke
from ctcd.errors import DeploymentBroken
from ctcd.model.probes import TOLERANCE
from ctcd.registry.versions import RegisteredVersion

Answer = dict[str, Any]
SCORER = small_scorer(iterations=2)
EXPECTED = RegisteredVersion(
    model_name=CONTRACT.name, version="7", run_id=INFO.run_id, aliases=(), created_at="", tags={}, uri=""
)
DIFFER, MALFORMED = "its answers differ from the model's", "an answer does not follow the payload contract"


def _service(
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Answer], Answer] = lambda answer: answer,
    *,
    version: str = "7",
    run_id: str = INFO.run_id,
) -> None:
    """Put a service in the place of the network that answers as the model does, but for what `spoil` changes."""

    def predict(_url: str, row: dict[str, Any], _key: str) -> Answer:
        said = SCORER.predict([row])
        probabilities = dict(zip(said.class_order, map(float, said.probabilities[0]), strict=True))
        return spoil({"predict": said.classes[0], "probabilities": probabilities, "model_version": "7"})

    monkeypatch.setattr(client, "model_info", lambda *_: {"version": version, "run_id": run_id})
    monkeypatch.setattr(client, "predict", predict)


def _moved(answer: Answer, by: float) -> Answer:
    """Move a probability, of each class once, so that no other rule has to notice it."""
    first, *_, last = answer["probabilities"]
    given = answer["probabilities"]
    return answer | {"probabilities": given | {first: given[first] + by, last: given[last] - by}}


def _failing(_: Answer) -> Answer:
    raise DeploymentBroken("answers 500", where="the service")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda answer: answer, None),
        (lambda answer: _moved(answer, TOLERANCE / 2), None),
        (lambda answer: _moved(answer, TOLERANCE * 2), DIFFER),
        (lambda answer: _moved(answer, float("nan")), DIFFER),
        (lambda answer: answer | {"predict": "another"}, DIFFER),
        (lambda answer: answer | {"predict": None}, DIFFER),
        (lambda answer: answer | {"model_version": "6"}, "version 6 answers instead of 7"),
        (lambda answer: answer | {"probabilities": {}}, MALFORMED),
        (lambda answer: answer | {"probabilities": None}, MALFORMED),
        (lambda _: {"model_version": "7"}, MALFORMED),
        (_failing, "answers 500"),
    ],
)
def test_an_answer_that_is_not_the_models_fails_the_probes(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Answer], Answer], problem: str | None
) -> None:
    """Class, probabilities and version of each answer are compared; one wrong answer among all is enough."""
    for wrong in (range(PROBES), [PROBES - 1]):  # all answers, and the last one only
        numbers = iter(range(PROBES))
        _service(monkeypatch, lambda answer: spoil(answer) if next(numbers) in wrong else answer)  # noqa: B023 - called in this turn
        report = smoke("http://api.example", EXPECTED, SCORER, CONTRACT)
        assert report.problems == ((problem,) if problem else ())
        assert report.probes == PROBES
        if problem:
            with pytest.raises(DeploymentBroken, match=problem):
                report.require_passed()
        else:
            report.require_passed()


@pytest.mark.parametrize(
    ("version", "run_id", "passed"), [("7", INFO.run_id, True), ("8", INFO.run_id, False), ("7", "another", False)]
)
def test_a_service_passes_only_with_the_very_run_of_its_version(
    monkeypatch: pytest.MonkeyPatch, version: str, run_id: str, passed: bool
) -> None:
    """The number alone does not identify a model: one that was registered again has the same."""
    _service(monkeypatch, version=version, run_id=run_id)
    problems = smoke("http://api.example", EXPECTED, SCORER, CONTRACT).problems
    wrong = f"it serves version {version} of run {run_id} instead of version 7 of run {INFO.run_id}"
    assert problems == (() if passed else (wrong,))
