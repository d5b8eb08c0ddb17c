"""What the requests since a step began say about a challenger: one look, as a pure function of counts.

Each measure is a loss, what the challenger is worse by, with an interval that holds at every look. It is `broken` if the
whole interval is beyond the limit, `kept` if none of it is, and `open` otherwise. One that is broken withdraws the
challenger; the next step needs them all kept: missing evidence is none in its favour.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ctcd.contract.judging import Limits
from ctcd.traffic.sequential import ranks, share_interval

QUANTILES = {"median": 0.5, "95th percentile": 0.95}
"""Quantiles of the answer time that are judged."""


class Verdict(StrEnum):
    """What follows from a look."""

    CONTINUE = "continue"
    """Not enough is known yet."""
    NEXT_STEP = "next step"
    """It keeps all limits: it may answer more requests; a shadow may answer some."""
    PROMOTE = "promote"
    """It keeps all limits, and this was the last step."""
    WITHDRAW = "withdraw"
    """It breaks a limit."""
    END = "end"
    """The gate would not promote it any more, whatever it does."""


class State(StrEnum):
    """Where a loss is."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the requests of one variant since the step began.

    Args:
        requests: number of them.
        effective: number of independent ones that say as much; see `ctcd.model.reference.effective_rows`.
        failed: those that it failed to answer, and another version answered.
        classes: answers by class.
        elapsed_ms: response times in milliseconds, ascending, also of those it failed to answer; shape (requests,).
        labelled: answers whose label is known.
        right: those that are correct.
        paired: answers that were given beside one of the champion to the same request.
        agreed: those of the same class.
    """

    requests: int = 0
    effective: float = 0.0
    failed: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    elapsed_ms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    labelled: int = 0
    right: int = 0
    paired: int = 0
    agreed: int = 0

    @property
    def independent(self) -> float:
        """Effective requests as a share of all, 0 to 1."""
        return self.effective / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value, None if there is none yet, and the ends of its interval; without a number, an end is not known."""

    value: float | None
    low: float
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of the challenger, beside that of the champion if it is compared with it.

    Args:
        loss_low: lower end of what it is worse by, in the unit of the limit.
        loss_high: upper end; None: not known.
        limit: most that it may be.
        blocks: whether the next step waits until it is known to be kept.
    """

    name: str
    challenger: Estimate
    champion: Estimate | None
    loss_low: float
    loss_high: float | None
    limit: float
    blocks: bool = True

    @property
    def state(self) -> State:
        """Where the loss is."""
        if self.loss_low > self.limit:
            return State.BROKEN
        return State.KEPT if self.loss_high is not None and self.loss_high <= self.limit else State.OPEN


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where in its experiment a challenger is.

    Args:
        shadow: whether its answers are given to nobody.
        step: number of the step, from 1.
        steps: how many there are.
        min_answers: effective requests that a step takes at least.
        min_hours: hours that it takes at least.
        hours: hours since it began.
    """

    shadow: bool
    step: int
    steps: int
    min_answers: float
    min_hours: float
    hours: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The outcome of a look."""

    verdict: Verdict
    why: str
    measures: tuple[Measure, ...]


def judge(champion: Seen, challenger: Seen, limits: Limits, stage: Stage) -> Judgement:
    """Return what follows from what was seen of both since the step began.

    Each step is judged by itself, because during it the shares of both are constant: otherwise a change of the requests
    with time would look like a difference between the versions. The probability of a false withdrawal is divided by the
    number of intervals in all steps (Bonferroni).
    """
    measures = tuple(_measures(champion, challenger, limits, stage))
    broken = [each for each in measures if each.state is State.BROKEN]
    if broken:
        return Judgement(verdict=Verdict.WITHDRAW, why="; ".join(map(_beyond, broken)), measures=measures)
    waits = []
    if challenger.effective < stage.min_answers:
        waits.append(f"{challenger.effective:,.0f} effective answers of {stage.min_answers:,.0f}")
    if stage.hours < stage.min_hours:
        waits.append(f"{stage.hours:,.1f} hours of {stage.min_hours:g}")
    unknown = [each.name for each in measures if each.blocks and each.state is State.OPEN]
    if unknown:
        waits.append(f"not sure yet to keep its limit: {', '.join(unknown)}")
    if waits:
        return Judgement(verdict=Verdict.CONTINUE, why="; ".join(waits), measures=measures)
    last = not stage.shadow and stage.step >= stage.steps
    verdict = Verdict.PROMOTE if last else Verdict.NEXT_STEP
    return Judgement(verdict=verdict, why="it keeps every limit", measures=measures)


def _beyond(measure: Measure) -> str:
    return f"{measure.name}: at least {measure.loss_low:.4g}, and {measure.limit:g} is the limit"


def _measures(champion: Seen, challenger: Seen, limits: Limits, stage: Stage) -> Iterator[Measure]:
    classes = sorted({*champion.classes, *challenger.classes})
    # Two for each comparison, of which accuracy and the classes are always some; one for errors or disagreement.
    intervals = 2 * (1 + len(classes)) + (1 if stage.shadow else 1 + 2 * len(QUANTILES))
    error = limits.false_withdrawals / (intervals * (1 if stage.shadow else stage.steps))

    def share(part: int, whole: int, of: Seen) -> Estimate:
        low, high = share_interval(part * of.independent, whole * of.independent, error)
        return Estimate(value=part / whole if whole else None, low=low, high=high)

    if stage.shadow:
        disagreement = share(challenger.paired - challenger.agreed, challenger.paired, challenger)
        yield _alone("disagreement", disagreement, limits.max_disagreement)
    else:
        # How long a shadow takes says nothing: it is scored when there is time for it.
        yield _alone("errors", share(challenger.failed, challenger.requests, challenger), limits.max_errors)
        for name, quantile in QUANTILES.items():
            mine, theirs = (time_interval(each, quantile, error) for each in (challenger, champion))
            yield Measure(
                name=f"{name} of the time",
                challenger=mine,
                champion=theirs,
                loss_low=mine.low / theirs.high if theirs.high else 0.0,
                loss_high=mine.high / theirs.low if mine.high is not None and theirs.low else None,
                limit=limits.max_slowdown,
            )
    answered = [sum(each.classes.values()) for each in (challenger, champion)]
    for name in classes:
        mine, theirs = (
            share(each.classes.get(name, 0), whole, each)
            for each, whole in zip((challenger, champion), answered, strict=True)
        )
        below, above = _difference(mine, theirs)
        low, high = max(below, -above, 0.0), max(above, -below)
        yield _compared(f"share of class {name}", mine, theirs, (low, high), limits.max_class_change)
    mine, theirs = (share(each.right, each.labelled, each) for each in (challenger, champion))
    drop = _difference(theirs, mine)
    yield _compared("accuracy", mine, theirs, drop, limits.max_accuracy_drop, blocks=limits.wait_for_labels)


def time_interval(seen: Seen, quantile: float, error: float) -> Estimate:
    """Return a quantile of the answer time, in milliseconds; an upper end of None is not known yet."""
    rows, times = len(seen.elapsed_ms), seen.elapsed_ms
    low, high = ranks(quantile, rows * seen.independent, error)
    first, last = math.ceil(low * rows), math.floor(high * rows)
    return Estimate(
        value=float(times[min(math.ceil(quantile * rows), rows) - 1]) if rows else None,
        low=float(times[first - 1]) if first else 0.0,
        high=float(times[last]) if last < rows else None,
    )


def _alone(name: str, mine: Estimate, limit: float) -> Measure:
    return Measure(name=name, challenger=mine, champion=None, loss_low=mine.low, loss_high=mine.high, limit=limit)


def _compared(
    name: str, mine: Estimate, theirs: Estimate, loss: tuple[float, float], limit: float, *, blocks: bool = True
) -> Measure:
    return Measure(
        name=name, challenger=mine, champion=theirs, loss_low=loss[0], loss_high=loss[1], limit=limit, blocks=blocks
    )


def _difference(one: Estimate, other: Estimate) -> tuple[float, float]:
    """Return the least and largest difference of two shares."""
    return one.low - (1.0 if other.high is None else other.high), (1.0 if one.high is None else one.high) - other.low
