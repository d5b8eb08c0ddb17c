"""Who answers which row while an experiment runs: the champion, or for some groups or conditions the challenger."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, Variant, chosen
from ctcd.model.served import Served
from ctcd.serving.prediction_log import records
from ctcd.serving.predictor import Answer, Predictor

Assigned = Callable[[Mapping[str, Any], str, float], bool]
"""Whether the challenger answers a row with a request id that arrived at a moment, in seconds since 1970."""


def assignment(experiment: Experiment, policy: TrafficPolicy, contract: Contract) -> Assigned:
    """Return which rows the challenger answers; the same in every worker.

    Without a column that says of which group a row is, each request is a group of its own.
    """
    begins = experiment.begins.timestamp()
    if experiment.mode is Mode.ROUTE:
        alias_of = policy.router(contract)
        return lambda row, _request_id, now: now >= begins and alias_of(row) == Variant.CHALLENGER
    salt, group = experiment.id, records.group_name(contract)

    def assigned(row: Mapping[str, Any], request_id: str, now: float) -> bool:
        share = experiment.share if now >= begins else experiment.before
        return chosen(salt, row[group] if group else request_id, share)

    return assigned


@dataclass(frozen=True)
class Models:
    """What answers a batch: the champion, and the challenger the rows that are assigned to it, if an experiment runs."""

    champion: Served
    challenger: Served | None = None
    assigned: Assigned = lambda _row, _request_id, _now: False

    def fallback(self) -> Served:
        """Return the champion in the place of a challenger that fails."""
        return replace(self.champion, variant=Variant.FALLBACK)


class Router:
    """Answers requests by two predictors, so that a slow challenger holds up nobody else's answers."""

    def __init__(self, champion: Predictor, challenger: Predictor, assigned: Assigned) -> None:
        self._champion, self.challenger, self._assigned = champion, challenger, assigned

    async def predict(self, row: Mapping[str, Any], *, request_id: str, started: float) -> Answer:
        """Score a row as `Predictor.predict` does."""
        chosen = self.challenger if self._assigned(row, request_id, time.time()) else self._champion
        return await chosen.predict(row, request_id=request_id, started=started)

    def models(self) -> Models:
        """Return what answers a batch now."""
        return Models(self._champion.served, self.challenger.served, self._assigned)
