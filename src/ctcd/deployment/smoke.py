"""Probes a deployment through its API: does it answer as the model does that it should be?"""

import statistics
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from ctcd.contract.spec import Contract, Kind
from ctcd.deployment import client
from ctcd.derived import synthetic
from ctcd.errors import DeploymentBroken, Unreachable
from ctcd.model.scorer import Predictions, Scorer
from ctcd.registry.versions import RegisteredVersion

PROBES = 25
TOLERANCE = 1e-9
"""Largest difference of a probability; another processor may round its last digits otherwise."""


@dataclass(frozen=True, kw_only=True)
class SmokeReport:
    """How a deployment answered its probes.

    Args:
        url: where.
        version: version that had to answer.
        probes: rows that were sent.
        problems: what was wrong, each said once; empty if nothing was.
        median_ms: median time of an answer, in milliseconds; None if there was none.
    """

    url: str
    version: str
    probes: int
    problems: tuple[str, ...]
    median_ms: float | None

    def require_passed(self) -> None:
        """Raise if anything was wrong.

        Raises:
            DeploymentBroken: names all that was.
        """
        if self.problems:
            raise DeploymentBroken("; ".join(self.problems), where=self.url, hint="see the service's log")


def smoke(url: str, champion: RegisteredVersion, scorer: Scorer, contract: Contract, *, key: str = "") -> SmokeReport:
    """Send probes to a deployment and compare its answers with those of the model itself.

    Args:
        url: where it answers.
        champion: the version that has to answer.
        scorer: that version's model.
        contract: what a row is made from.
        key: the key that the service asks for; empty: none.

    Raises:
        Unreachable: nothing answers.
    """
    info = client.model_info(url, key)
    if info is None:
        raise Unreachable("nothing answers", where=url, hint="deploy it")
    problems: dict[str, None] = {}
    if (info.get("version"), info.get("run_id")) != (champion.version, champion.run_id):
        problems[f"it has version {info.get('version')} instead of {champion.version}"] = None
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
        problems |= dict.fromkeys(_differences(answer, scorer.predict([row]), champion.version))
    return SmokeReport(
        url=url,
        version=champion.version,
        probes=len(rows),
        problems=tuple(problems),
        median_ms=1000 * statistics.median(seconds) if seconds else None,
    )


def probes(contract: Contract) -> list[dict[str, Any]]:
    """Return rows as a request gives them: the contract's example and seeded synthetic ones."""
    columns = (contract.group, *contract.model_inputs)
    table, _ = synthetic.generate(contract, rows=PROBES - 1, seed=1, end=date(2025, 12, 31), error_rate=0.0)
    types = {Kind.INTEGER: int, Kind.NUMBER: float}
    rows = [
        {
            column.name: types.get(column.kind, str)(cells[column.name]) if cells[column.name] else None
            for column in columns
        }
        for cells in table.to_dict("records")
    ]
    return [{column.name: column.example for column in columns}, *rows]


def _differences(answer: dict[str, Any], expected: Predictions, version: str) -> list[str]:
    """Return what is wrong with the answer to one row; `expected` is what the model itself predicts for it."""
    found = []
    if answer.get("model_version") != version:
        found.append(f"version {answer.get('model_version')} answers instead of {version}")
    try:
        given = np.array([answer["probabilities"][name] for name in expected.class_order], dtype=np.float64)
        agrees = bool((np.abs(given - expected.probabilities[0]) <= TOLERANCE).all())
        agrees = agrees and answer["predict"] == expected.classes[0]
    except (KeyError, TypeError, ValueError):
        return [*found, "an answer is not as the payload contract says"]
    if not agrees:
        found.append("it does not answer as the model does")
    return found
