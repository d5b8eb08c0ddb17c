"""Which model answers which row: the champion or, during an experiment, the challenger."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        others: time spent on other parts of the batch before that, seconds.
    """

    served: Served
    places: Sequence[int]
    predictions: Predictions
    at: float
    others: float = 0.0


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
        """Score a batch, the champion's rows first; the champion also scores rows on which the challenger fails or times out."""
        now, began = time.time(), time.perf_counter()
        mine = [place for place, row in enumerate(rows) if self.assigned(row, id_at(place), now)]
        others = sorted(set(range(len(rows))).difference(mine))
        parts: list[Part] = []
        if others:
            found = self.champion.scorer.predict([rows[place] for place in others])
            parts.append(Part(served=self.champion, places=others, predictions=found, at=time.perf_counter()))
        if mine:
            before = time.perf_counter() - began
            for served, places, found in self._challenged(rows, mine):
                parts.append(
                    Part(served=served, places=places, predictions=found, at=time.perf_counter(), others=before)
                )
        return parts

    def _challenged(
        self, rows: Sequence[Row], mine: Sequence[int]
    ) -> Iterator[tuple[Served, Sequence[int], Predictions]]:
        scored: list[tuple[Sequence[int], Predictions]] = []
        errors: set[str] = set()
        seconds = PATIENCE * max(1.0, len(mine) / PATIENCE_ROWS)
        until = time.perf_counter() + seconds

        def score() -> None:
            pieces = [mine]
            while pieces:
                places = pieces.pop()
                try:
                    found = self.challenger.scorer.predict([rows[place] for place in places])
                except BaseException as error:  # noqa: BLE001 - a challenger may raise anything
                    errors.add(type(error).__name__)  # its text may contain values of a row
                else:
                    scored.append((places, found))
                    continue
                half = len(places) // 2
                # Bisect, to find the rows that it cannot score.
                if half and time.perf_counter() < until:
                    pieces += [places[half:], places[:half]]

        try:
            self.runner.run(score, seconds)
        except RuntimeError as error:  # no thread can be started
            errors.add(type(error).__name__)
        answered = list(scored)  # a copy: the thread may still be running
        yield from ((self.challenger, places, found) for places, found in answered)
        left = sorted(set(mine).difference(*(places for places, _ in answered)))
        if left:
            instead = replace(self.champion, variant=Variant.FALLBACK)
            logger.error(
                "version %s cannot score, version %s answers: %s",
                self.challenger.version,
                instead.version,
                ", ".join(sorted(errors)) or "it takes too long",
            )
            yield instead, left, instead.scorer.predict([rows[place] for place in left])


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
