"""Who answers which row: the champion, and, while an experiment runs, the challenger some of them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, Variant, chosen
from ctcd.model.scorer import Predictions
from ctcd.model.served import Served
from ctcd.serving.loops import Aside
from ctcd.serving.prediction_log import records

logger = logging.getLogger(__name__)

PATIENCE = 0.1
"""Longest that the rows of a batch wait for the challenger, seconds: as long as a container may be held up that has used up
its share of the processor, which is no fault of the challenger."""
PATIENCE_ROWS = 128
"""Rows of the challenger that it may score in that time; a larger batch waits in proportion."""
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
    aside: Aside = field(default_factory=Aside)

    def parts(self, rows: Sequence[Row], id_at: Callable[[int], str]) -> list[Part]:
        """Score a batch, the champion's rows first; the champion also scores what the challenger fails to, or not in time."""
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

        def score(places: Sequence[int]) -> None:
            try:
                found = self.challenger.scorer.predict([rows[place] for place in places])
            except BaseException as error:  # noqa: BLE001 - a challenger may raise anything
                errors.add(type(error).__name__)  # its text may contain values of a row
            else:
                scored.append((places, found))
                return
            half = len(places) // 2
            # Halves, until the rows remain that it cannot score by themselves.
            if half and time.perf_counter() < until:
                score(places[:half])
                score(places[half:])

        try:
            self.aside.run(lambda: score(mine), seconds)
        except RuntimeError as error:  # there is no thread left
            errors.add(type(error).__name__)
        answered = list(scored)  # what comes later is not waited for
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
