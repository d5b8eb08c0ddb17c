"""Probes a service through its API: are its answers those of the version that it should serve?"""

import statistics
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from ctcd.contract.spec import Column, Contract, Kind
from ctcd.deployment import client
from ctcd.derived import synthetic
from ctcd.errors import DeploymentBroken, Unreachable
from ctcd.model.probes import TOLERANCE
from ctcd.model.scorer import Predictions, Scorer
from ctcd.registry.versions import RegisteredVersion

PROBES = 25


@dataclass(frozen=True, kw_only=True)
class SmokeReport:
    """How a service answered its probes; the median response time is None if no request succeeded."""

    url: str
    version: str
    probes: int
    problems: tuple[str, ...]
    median_ms: float | None

    def require_passed(self) -> None:
        """Raise if there are problems.

        Raises:
            DeploymentBroken: names all problems.
        """
        if self.problems:
            raise DeploymentBroken("; ".join(self.problems), where=self.url, hint="see the service's log")


def smoke(url: str, version: RegisteredVersion, scorer: Scorer, contract: Contract, *, key: str = "") -> SmokeReport:
    """Send probes to a service, and compare its answers with those of the version that it should serve.

    Raises:
        Unreachable: nothing answers at the URL.
    """
    info = client.model_info(url, key)
    if info is None:
        raise Unreachable("nothing answers", where=url, hint="deploy it")
    problems: dict[str, None] = {}
    # A registered model that was made again has the same numbers for other models.
    served = f"version {info.get('version')} of run {info.get('run_id')}"
    wanted = f"version {version.version} of run {version.run_id}"
    if served != wanted:
        problems[f"it serves {served} instead of {wanted}"] = None
    seconds = []
    rows = probes(contract)
    for row in rows:
        began = time.perf_counter()
        try:
            answer = client.predict(url, row, key)
        except DeploymentBroken as error:
            problems[error.what] = None
            continue
        seconds.append(time.perf_counter() - began)
        problems |= dict.fromkeys(_differences(answer, scorer.predict([row]), version.version))
    return SmokeReport(
        url=url,
        version=version.version,
        probes=len(rows),
        problems=tuple(problems),
        median_ms=1000 * statistics.median(seconds) if seconds else None,
    )


def probes(contract: Contract) -> list[dict[str, Any]]:
    """Return `PROBES` rows of a request: the contract's example, and synthetic ones that are the same every time."""
    columns = contract.request_columns
    table = synthetic.generate(contract, rows=PROBES - 1, seed=1, end=date(2025, 12, 31), error_rate=0.0).features
    rows = [
        {column.name: _value(column, cells[column.name]) for column in columns} for cells in table.to_dict("records")
    ]
    return [{column.name: column.example for column in columns}, *rows]


def _value(column: Column, text: str) -> Any:
    """Return what a request has for a text of a raw table."""
    if not text:
        return None
    if column.kind is Kind.BOOLEAN:
        return text == "true"
    return {Kind.INTEGER: int, Kind.NUMBER: float}.get(column.written, str)(text)


def _differences(answer: dict[str, Any], expected: Predictions, version: str) -> list[str]:
    """Return what is wrong with the answer to one row; `expected` is what the model itself predicts for it."""
    found = []
    if answer.get("model_version") != version:
        found.append(f"version {answer.get('model_version')} answers instead of {version}")
    try:
        given = np.array([answer["confidence"], *(answer["probabilities"][name] for name in expected.class_order)])
        model = [expected.confidences[0], *expected.probabilities[0]]
        agrees = bool((np.abs(given - model) <= TOLERANCE).all())
        agrees = agrees and answer["predict"] == expected.classes[0]
    except (KeyError, TypeError, ValueError):
        return [*found, "an answer does not follow the payload contract"]
    if not agrees:
        found.append("its answers differ from the model's")
    return found
