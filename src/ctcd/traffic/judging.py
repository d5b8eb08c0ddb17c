"""What the requests since a step began say about a challenger: one look, as a pure function of counts.

Each measure is a loss, what the challenger is worse by, with an interval that holds at every look. It is `broken` if the
whole interval is beyond the limit, `kept` if none of it is, and `open` otherwise. One that is broken withdraws the
challenger; the next step needs them all kept: missing evidence is none in its favour.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ctcd.contract.judging import Limits
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy
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
        failing: number of independent ones that say as much as those; without limit if that is not known.
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
    failing: float = math.inf
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
    """A value, None if nothing is known, and the ends of its interval; None: there is no upper one yet."""

    value: float | None
    low: float
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of the challenger, beside that of the champion if it is compared with it.

    Args:
        loss_low: lower end of what the challenger is worse by, in the unit of the limit.
        loss_high: upper end; None: there is none yet.
        limit: most that it may be.
        state: where the loss is.
        blocks: whether the next step waits until it is known to be kept.
    """

    name: str
    challenger: Estimate
    champion: Estimate | None
    loss_low: float
    loss_high: float | None
    limit: float
    state: State
    blocks: bool


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where in its experiment a challenger is.

    Args:
        mode: which requests it gets.
        step: number of the step of a canary, from 1.
        steps: how many steps there are; 1 for other kinds.
        min_answers: effective requests that the step takes at least.
        allowed: whether the policy still has this kind of traffic, and this step; it may have been changed since.
        hours: hours since it took effect; negative before.
    """

    mode: Mode
    step: int = 1
    steps: int = 1
    min_answers: float = 0.0
    allowed: bool = True
    hours: float

    @classmethod
    def of(cls, policy: TrafficPolicy, experiment: Experiment, now: datetime) -> Self:
        """Return where an experiment is now, a time with a zone."""
        hours = (now - datetime.fromisoformat(experiment.effective)) / timedelta(hours=1)
        if experiment.mode is not Mode.CANARY or policy.canary is None:
            kinds = {Mode.SHADOW: policy.shadow, Mode.CANARY: policy.canary, Mode.ROUTE: policy.route}
            return cls(mode=experiment.mode, allowed=bool(kinds[experiment.mode]), hours=hours)
        steps = policy.canary.steps
        step, allowed = experiment.step, experiment.step <= len(steps)
        return cls(
            mode=experiment.mode,
            step=step,
            steps=max(step, len(steps)),
            min_answers=steps[step - 1].min_answers if allowed else 0.0,
            allowed=allowed,
            hours=hours,
        )


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
    number of intervals in all steps (Bonferroni). Requests that a route chooses are like no others: only its errors are
    judged, and nothing speaks for another step.
    """
    measures = tuple(_measures(champion, challenger, limits, stage))
    broken = [each for each in measures if each.state is State.BROKEN]
    if broken:
        return Judgement(verdict=Verdict.WITHDRAW, why="; ".join(map(_beyond, broken)), measures=measures)
    waits = []
    if stage.mode is Mode.ROUTE:
        waits.append("a route ends when it is stopped")
    if not stage.allowed:
        waits.append(f"traffic.toml has no {stage.mode} like this any more")
    if challenger.effective < stage.min_answers:
        waits.append(f"{challenger.effective:,.0f} of {stage.min_answers:,.0f} effective requests")
    if stage.hours < limits.min_hours:
        waits.append(f"{max(stage.hours, 0):,.1f} of {limits.min_hours:g} hours")
    unknown = [each.name for each in measures if each.blocks and each.state is State.OPEN]
    if unknown:
        waits.append(f"not sure yet: {', '.join(unknown)}")
    if waits:
        return Judgement(verdict=Verdict.CONTINUE, why="; ".join(waits), measures=measures)
    last = stage.mode is Mode.CANARY and stage.step == stage.steps
    return Judgement(
        verdict=Verdict.PROMOTE if last else Verdict.NEXT_STEP, why="it keeps every limit", measures=measures
    )


def _beyond(measure: Measure) -> str:
    return f"{measure.name}: worse by at least {measure.loss_low:.4g}, and the limit is {measure.limit:g}"


def _measures(champion: Seen, challenger: Seen, limits: Limits, stage: Stage) -> Iterator[Measure]:
    shadow, route = stage.mode is Mode.SHADOW, stage.mode is Mode.ROUTE
    classes = sorted({*champion.classes, *challenger.classes})
    # Two of each comparison, of accuracy and classes, and in a canary of the times; one of errors or disagreement.
    intervals = 1 if route else 1 + 2 * (1 + len(classes)) + (0 if shadow else 2 * len(QUANTILES))
    error = limits.false_withdrawals / (intervals * stage.steps)

    def share(part: int, whole: int, of: Seen) -> Estimate:
        low, high = share_interval(part * of.independent, whole * of.independent, error)
        return Estimate(value=part / whole if whole else None, low=low, high=high)

    if shadow:
        disagreement = share(challenger.paired - challenger.agreed, challenger.paired, challenger)
        yield _measure("disagreement", disagreement, limits.max_disagreement)
    else:
        errors = share(challenger.failed, challenger.requests, challenger)
        # One group that asks again and again for what fails is one failure; it only may not speak for the challenger.
        sure = min(challenger.failed * challenger.independent, challenger.failing)
        low, _ = share_interval(sure, challenger.effective, error)
        yield _measure("errors", replace(errors, low=low), limits.max_errors)
    if route:
        return
    if not shadow:  # how long a shadow takes says nothing: it is scored when there is time for it
        for name, part in QUANTILES.items():
            mine, theirs = (time_interval(each, part, error) for each in (challenger, champion))
            most = _end(theirs)
            times = mine.low / most if most else 0.0, _end(mine) / theirs.low if theirs.low else math.inf
            yield _measure(f"{name} of the time", mine, limits.max_slowdown, theirs, times)
    answered = [sum(each.classes.values()) for each in (challenger, champion)]
    for name in classes:
        mine, theirs = (
            share(each.classes.get(name, 0), whole, each)
            for each, whole in zip((challenger, champion), answered, strict=True)
        )
        less, more = _difference(mine, theirs)
        change = max(less, -more, 0.0), max(more, -less)
        yield _measure(f"share of class {name}", mine, limits.max_class_change, theirs, change)
    mine, theirs = (share(each.right, each.labelled, each) for each in (challenger, champion))
    drop = _difference(theirs, mine)
    yield _measure("accuracy", mine, limits.max_accuracy_drop, theirs, drop, blocks=limits.wait_for_labels)


def _measure(
    name: str,
    mine: Estimate,
    limit: float,
    theirs: Estimate | None = None,
    loss: tuple[float, float] | None = None,
    *,
    blocks: bool = True,
) -> Measure:
    low, high = loss or (mine.low, _end(mine))
    return Measure(
        name=name,
        challenger=mine,
        champion=theirs,
        loss_low=low,
        loss_high=high if math.isfinite(high) else None,
        limit=limit,
        state=State.BROKEN if low > limit else State.KEPT if high <= limit else State.OPEN,
        blocks=blocks,
    )


def _difference(one: Estimate, other: Estimate) -> tuple[float, float]:
    return one.low - _end(other), _end(one) - other.low


def _end(estimate: Estimate) -> float:
    return math.inf if estimate.high is None else estimate.high


def quantile(times: NDArray[np.float64], share: float) -> float | None:
    """Return the quantile of times in ascending order; None if there are none."""
    return float(times[max(math.ceil(share * len(times)), 1) - 1]) if len(times) else None


def time_interval(seen: Seen, share: float, error: float) -> Estimate:
    """Return a quantile of the response time, in milliseconds; there is no upper end until enough is known."""
    times, rows = seen.elapsed_ms, len(seen.elapsed_ms)
    low, high = ranks(share, rows * seen.independent, error)
    first, last = math.ceil(low * rows), math.floor(high * rows)
    return Estimate(
        value=quantile(times, share),
        low=float(times[first - 1]) if first else 0.0,
        high=float(times[last]) if last < rows else None,
    )
