"""Which model answers which row: the champion or, during an experiment, the challenger."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, Variant, chosen
from ctcd.model.scorer import Predictions
from ctcd.model.served import Served
from ctcd.serving.loops import TimeoutRunner
from ctcd.serving.prediction_log import records

logger = logging.getLogger(__name__)

PATIENCE = 0.1
"""Timeout of the challenger for the rows of a batch, seconds: long enough that a container that is throttled by its CPU
limit for one period does not count as a slow challenger."""
PATIENCE_ROWS = 128
"""Rows that the timeout is meant for; with more rows for the challenger it grows in proportion."""
Row = Mapping[str, Any]
Assigned = Callable[[Row, str, float], bool]
"""Returns whether the challenger answers a row, by the row, its request id and the time in seconds since 1970."""


@dataclass(kw_only=True, slots=True)
class Part:
    """Rows of a batch that one model has scored.

    Args:
        places: positions of the rows in the batch.
        at: when they had been scored, by `time.perf_counter`.
    """

    served: Served
    places: Sequence[int]
    predictions: Predictions
    at: float


@dataclass(frozen=True)
class Models:
    """The models that answer: here only the champion."""

    champion: Served

    def parts(self, rows: Sequence[Row], id_at: Callable[[int], str]) -> list[Part]:
        """Score a batch; return who has scored which rows. `id_at` returns the request id of the row at a position."""
        del id_at
        found = self.champion.scorer.predict(rows)
        return [Part(served=self.champion, places=range(len(rows)), predictions=found, at=time.perf_counter())]


@dataclass(frozen=True)
class Split(Models):
    """The models that answer during an experiment: the challenger the rows assigned to it, the champion the others."""

    challenger: Served
    assigned: Assigned
    runner: TimeoutRunner = field(default_factory=TimeoutRunner)

    def parts(self, rows: Sequence[Row], id_at: Callable[[int], str]) -> list[Part]:
        """Score a batch, both models at once; the champion also scores rows on which the challenger fails or times out."""
        now = time.time()
        mine = [place for place, row in enumerate(rows) if self.assigned(row, id_at(place), now)]
        others = sorted(set(range(len(rows))).difference(mine))
        challenged = self._challenge(rows, mine) if mine else None
        parts = [_part(self.champion, rows, others)] if others else []
        return parts + challenged() if challenged else parts

    def _challenge(self, rows: Sequence[Row], mine: Sequence[int]) -> Callable[[], list[Part]]:
        """Let the challenger begin with its rows; the function returned waits for it, and returns all of them, scored."""
        scored: list[Part] = []
        errors: set[str] = set()
        seconds = PATIENCE * max(1.0, len(mine) / PATIENCE_ROWS)
        until = time.perf_counter() + seconds

        def score() -> None:
            pieces = [mine]
            while pieces:
                places = pieces.pop()
                try:
                    scored.append(_part(self.challenger, rows, places))
                except BaseException as error:  # noqa: BLE001 - a challenger may raise anything
                    errors.add(type(error).__name__)  # its text may contain values of a row
                else:
                    continue
                half = len(places) // 2
                # Bisect, to find the rows that it cannot score.
                if half and time.perf_counter() < until:
                    pieces += [places[half:], places[:half]]

        wait = None
        try:
            wait = self.runner.start(score)
        except RuntimeError as error:  # no thread can be started
            errors.add(type(error).__name__)

        def challenged() -> list[Part]:
            if wait:
                wait(seconds)
            answered = list(scored)  # a copy: the thread may still be running
            left = sorted(set(mine).difference(*(part.places for part in answered)))
            if not left:
                return answered
            instead = replace(self.champion, variant=Variant.FALLBACK)
            logger.error(
                "version %s cannot score, version %s answers: %s",
                self.challenger.version,
                instead.version,
                ", ".join(sorted(errors)) or "it takes too long",
            )
            return [*answered, _part(instead, rows, left)]

        return challenged


def _part(served: Served, rows: Sequence[Row], places: Sequence[int]) -> Part:
    found = served.scorer.predict([rows[place] for place in places])
    return Part(served=served, places=places, predictions=found, at=time.perf_counter())


def assignment(experiment: Experiment, policy: TrafficPolicy, contract: Contract) -> Assigned:
    """Return the function that says which rows the challenger answers; it gives the same result in every worker.

    Without a group column, each request is assigned separately.
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
