"""Who answers which row: the champion, and, while an experiment runs, the challenger some of them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, Variant, chosen
from ctcd.model.scorer import Predictions
from ctcd.model.served import Served
from ctcd.serving.prediction_log import records

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Assigned = Callable[[Row, str, float], bool]
"""Whether the challenger answers a row with a request id at a moment, in seconds since 1970."""


@dataclass(kw_only=True, slots=True)
class Part:
    """Rows of a batch that one model has scored.

    Args:
        places: their positions in the batch.
        at: when that was done, by `time.perf_counter`.
        others: time in which rows of the batch were scored before that are not of this part, seconds.
    """

    served: Served
    places: Sequence[int]
    predictions: Predictions
    at: float
    others: float = 0.0


@dataclass(frozen=True)
class Models:
    """What answers: one model."""

    champion: Served

    def parts(self, rows: Sequence[Row], id_at: Callable[[int], str]) -> list[Part]:
        """Score a batch; return who has scored which rows. `id_at` returns the request id of the row at a position."""
        del id_at
        found = self.champion.scorer.predict(rows)
        return [Part(served=self.champion, places=range(len(rows)), predictions=found, at=time.perf_counter())]


@dataclass(frozen=True)
class Split(Models):
    """What answers while an experiment runs: the challenger what is assigned to it, the champion the rest."""

    challenger: Served
    assigned: Assigned

    def parts(self, rows: Sequence[Row], id_at: Callable[[int], str]) -> list[Part]:
        """Score a batch, the champion's rows first; the champion also scores what the challenger fails to."""
        now, began = time.time(), time.perf_counter()
        mine = [place for place, row in enumerate(rows) if self.assigned(row, id_at(place), now)]
        others = sorted(set(range(len(rows))).difference(mine))
        parts: list[Part] = []
        if others:
            found = self.champion.scorer.predict([rows[place] for place in others])
            parts.append(Part(served=self.champion, places=others, predictions=found, at=time.perf_counter()))
        if mine:
            before = time.perf_counter() - began
            served, found = self._challenged([rows[place] for place in mine])
            parts.append(Part(served=served, places=mine, predictions=found, at=time.perf_counter(), others=before))
        return parts

    def _challenged(self, rows: Sequence[Row]) -> tuple[Served, Predictions]:
        try:
            return self.challenger, self.challenger.scorer.predict(rows)
        except BaseException as error:  # noqa: BLE001 - a challenger may raise anything
            instead = replace(self.champion, variant=Variant.FALLBACK)
            logger.error(  # noqa: TRY400 - the text of an error may contain values of a row
                "version %s cannot score, version %s answers: %s",
                self.challenger.version,
                instead.version,
                type(error).__name__,
            )
            return instead, instead.scorer.predict(rows)


def assignment(experiment: Experiment, policy: TrafficPolicy, contract: Contract) -> Assigned:
    """Return which rows the challenger answers; the same in every worker.

    Without a column that says of which group a row is, each request is a group of its own.
    """
    begins = experiment.begins.timestamp()
    if experiment.mode is Mode.ROUTE:
        alias_of = policy.router(contract)
        return lambda row, _request_id, now: now >= begins and alias_of(row) == Variant.CHALLENGER
    salt, group = experiment.id, records.group_name(contract)

    def assigned(row: Row, request_id: str, now: float) -> bool:
        share = experiment.share if now >= begins else experiment.before
        return chosen(salt, row[group] if group else request_id, share)

    return assigned
