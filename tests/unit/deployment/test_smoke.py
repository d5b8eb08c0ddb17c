"""What the probes of a deployment find."""

from collections.abc import Callable
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from support.instance import CONTRACT
from support.serving import INFO, small_scorer

from ctcd.contract.spec import Kind
from ctcd.deployment import client
from ctcd.deployment.smoke import PROBES, probes, smoke
from ctcd.derived import synthetic
from ctcd.errors import DeploymentBroken, Unreachable
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
    asked: list[tuple[object, ...]] | None = None,
) -> None:
    """Put a service in the place of the network that answers as the model does, but for what `spoil` changes."""
    asked = [] if asked is None else asked

    def model_info(url: str, key: str) -> Answer:
        asked.append((url, key))
        return {"version": version, "run_id": run_id}

    def predict(url: str, row: dict[str, Any], key: str) -> Answer:
        asked.append((url, key))
        said = SCORER.predict([row])
        probabilities = dict(zip(said.class_order, map(float, said.probabilities[0]), strict=True))
        confidence = probabilities[said.classes[0]]
        given = {"predict": said.classes[0], "confidence": confidence, "probabilities": probabilities}
        return spoil(given | {"model_version": "7"})

    monkeypatch.setattr(client, "model_info", model_info)
    monkeypatch.setattr(client, "predict", predict)


def _moved(answer: Answer, by: float) -> Answer:
    """Move a probability, of each class once, so that no other rule has to notice it."""
    first, *_, last = answer["probabilities"]
    given = answer["probabilities"]
    return answer | {"probabilities": given | {first: given[first] + by, last: given[last] - by}}


def _failing(_: Answer) -> Answer:
    raise DeploymentBroken("answers 500", where="the service")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda answer: answer, None),
        (lambda answer: _moved(answer, TOLERANCE / 2), None),
        (lambda answer: _moved(answer, TOLERANCE * 2), DIFFER),
        (lambda answer: _moved(answer, float("nan")), DIFFER),
        (lambda answer: answer | {"predict": "another"}, DIFFER),
        (lambda answer: answer | {"predict": None}, DIFFER),
        (lambda answer: answer | {"confidence": answer["confidence"] - TOLERANCE * 2}, DIFFER),
        (lambda answer: answer | {"confidence": None}, MALFORMED),
        (lambda answer: answer | {"model_version": "6"}, "version 6 answers instead of 7"),
        (lambda answer: answer | {"probabilities": {}}, MALFORMED),
        (lambda answer: answer | {"probabilities": None}, MALFORMED),
        (lambda answer: answer | {"probabilities": {k: str(v) for k, v in answer["probabilities"].items()}}, MALFORMED),
        (lambda _: {"model_version": "7"}, MALFORMED),
        (_failing, "answers 500"),
    ],
)
def test_an_answer_that_is_not_the_models_fails_the_probes(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Answer], Answer], problem: str | None
) -> None:
    """Class, confidence, probabilities and version of each answer are compared; one wrong answer among all is enough."""
    for wrong in (range(PROBES), [PROBES - 1]):  # all answers, and the last one only
        numbers = iter(range(PROBES))
        _service(monkeypatch, lambda answer: spoil(answer) if next(numbers) in wrong else answer)  # noqa: B023 - called in this turn
        report = smoke("http://api.example", EXPECTED, SCORER, CONTRACT)
        assert report.problems == ((problem,) if problem else ())
        assert report.probes == PROBES
        if problem:
            with pytest.raises(DeploymentBroken, match=rf"^http://api\.example: {problem} \(see the service's log\)$"):
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


def test_every_problem_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they were found, in the report and in the error."""
    _service(monkeypatch, lambda answer: answer | {"model_version": "6", "predict": "another"}, version="8")
    report = smoke("http://api.example", EXPECTED, SCORER, CONTRACT)
    assert report.problems[1:] == ("version 6 answers instead of 7", DIFFER)
    with pytest.raises(DeploymentBroken, match="; ".join(report.problems)):
        report.require_passed()


@pytest.mark.parametrize("key", ["", "a-key"])
def test_a_service_is_asked_with_the_key_and_its_response_times_are_measured(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """All probes go to the one URL; the median, in milliseconds, is that of the requests that succeeded."""
    asked: list[tuple[object, ...]] = []
    answered = iter(range(PROBES))

    def spoil(answer: Answer) -> Answer:
        return _failing(answer) if next(answered) == 0 else answer

    _service(monkeypatch, spoil, asked=asked)
    # The first probe fails, and the others take 1, 2, ... 24 s.
    clock = iter([0.0, *accumulate(second for each in range(1, PROBES) for second in (0.5, each))])
    monkeypatch.setattr("ctcd.deployment.smoke.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    given = {"key": key} if key else {}
    report = smoke("http://api.example", EXPECTED, SCORER, CONTRACT, **given)
    assert asked == [("http://api.example", key)] * (1 + PROBES)
    assert (report.url, report.version, report.problems) == ("http://api.example", "7", ("answers 500",))
    assert report.median_ms == pytest.approx(12_500)


def test_a_service_of_which_every_request_fails_has_no_response_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a report all the same, with the problem; where nothing answers at all, there is none."""
    _service(monkeypatch, _failing)
    assert smoke("http://api.example", EXPECTED, SCORER, CONTRACT).median_ms is None
    monkeypatch.setattr(client, "model_info", lambda *_: None)
    with pytest.raises(Unreachable, match=r"^http://api\.example: nothing answers \(deploy it\)$"):
        smoke("http://api.example", EXPECTED, SCORER, CONTRACT)


def test_probes_are_requests_that_the_contract_allows() -> None:
    """Its example and synthetic rows, the same every time, with a value of the kind of each column, or none."""
    rows = probes(CONTRACT)
    assert rows == probes(CONTRACT)
    assert len(rows) == len({str(row) for row in rows}) == PROBES
    assert rows[0] == {column.name: column.example for column in CONTRACT.request_columns}
    types = {Kind.INTEGER: int, Kind.NUMBER: float}
    for column in CONTRACT.request_columns:
        values = [row[column.name] for row in rows[1:]]
        given = {type(value) for value in values if value is not None}
        assert given == {types.get(column.written, str)}, column
        assert len({*values} - {None}) > 1, column
        assert column.nullable or None not in values
    for row in rows:
        assert len(SCORER.predict([row]).classes) == 1
    assert any(None in row.values() for row in rows)


def test_a_probe_has_booleans_for_the_words_of_a_raw_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cell is a missing value, of any kind of column."""
    column = SimpleNamespace(name="insured", kind=Kind.BOOLEAN, written=Kind.BOOLEAN, example=True)
    raw = SimpleNamespace(features=pd.DataFrame({"insured": ["true", "false", ""]}))
    monkeypatch.setattr(synthetic, "generate", lambda *_, **__: raw)
    contract: Any = SimpleNamespace(request_columns=[column])
    assert [row["insured"] for row in probes(contract)] == [True, True, False, None]
