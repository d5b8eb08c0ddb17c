"""The judgement of a challenger by the requests since the current step began, as a pure function of counts.

Each measure is a loss, by how much the challenger is worse, with an interval that is valid at every look. A limit is
`broken` if the whole interval is beyond it, `kept` if the whole interval is within it, and `open` otherwise. One broken
limit withdraws the challenger; the next step requires that all are kept, so missing evidence never counts in its
favour.
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
"""Quantiles of the response time that are judged."""


class Verdict(StrEnum):
    """The result of a look."""

    CONTINUE = "continue"
    """There is not enough evidence yet."""
    NEXT_STEP = "next step"
    """All limits are kept: the canary may take its next step, or a shadow become a canary."""
    PROMOTE = "promote"
    """All limits are kept, and this was the last step."""
    WITHDRAW = "withdraw"
    """A limit is broken."""
    END = "end"
    """The version could no longer be promoted, for example because the champion has changed."""


class State(StrEnum):
    """Where the interval of a loss is, relative to the limit."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The requests of one variant since the step began.

    Args:
        effective: effective number of requests; see `ctcd.model.reference.effective_rows`.
        failed: requests that it failed to answer, so that the champion answered, or that it failed to score as a shadow.
        failing: effective number of failed requests; infinite if it is not known.
        classes: number of answers by class.
        elapsed_ms: response times in milliseconds, ascending, including failed requests; shape (requests,).
        labelled: answers whose label is known.
        right: labelled answers that are correct.
        paired: requests that the champion has answered as well.
        agreed: paired requests with the same class from both.
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
        """Effective requests as a share of all requests, 0 to 1."""
        return self.effective / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value, None if it is not known, with its interval; `high` is None if there is no upper end yet."""

    value: float | None
    low: float
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of the challenger, with that of the champion if the two are compared.

    Args:
        loss_low: lower end of the interval of the loss, in the unit of the limit.
        loss_high: upper end; None if there is none yet.
        limit: maximum loss.
        state: whether the limit is kept.
        blocks: whether the next step requires that this limit is kept.
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
    """The current stage of an experiment.

    Args:
        mode: kind of traffic.
        step: step of a canary, from 1.
        steps: number of steps; 1 for other kinds.
        min_answers: minimum number of effective requests in the step.
        allowed: whether the policy still contains this kind of traffic and this step; it may have been changed.
        hours: hours since the step took effect; negative before.
    """

    mode: Mode
    step: int = 1
    steps: int = 1
    min_answers: float = 0.0
    allowed: bool = True
    hours: float

    @classmethod
    def of(cls, policy: TrafficPolicy, experiment: Experiment, now: datetime) -> Self:
        """Return the stage of an experiment at a time with a zone."""
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
    """The verdict of a look, with its reason and measures."""

    verdict: Verdict
    why: str
    measures: tuple[Measure, ...]


def judge(champion: Seen, challenger: Seen, limits: Limits, stage: Stage) -> Judgement:
    """Judge a challenger by the requests of both variants since the step began.

    Each step is judged separately, because within a step the shares of both are constant: across steps, a change of the
    requests over time could look like a difference between the versions. The probability of a false withdrawal is
    divided by the number of intervals in all steps (Bonferroni). A route selects requests that are not comparable with
    others, so only its errors are judged, and it never advances.
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
    if stage.hours < 0:
        waits.append("it is not in effect yet")
    elif stage.hours < limits.min_hours:
        waits.append(f"{stage.hours:,.1f} of {limits.min_hours:g} hours")
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
    # Two intervals for each comparison (accuracy, classes, and times in a canary); one for errors, one for disagreement.
    intervals = 1 if route else 1 + 2 * (1 + len(classes)) + (1 if shadow else 2 * len(QUANTILES))
    error = limits.false_withdrawals / (intervals * stage.steps)

    def share(part: int, whole: int, of: Seen) -> Estimate:
        low, high = share_interval(part * of.independent, whole * of.independent, error)
        return Estimate(value=part / whole if whole else None, low=low, high=high)

    errors = share(challenger.failed, challenger.requests, challenger)
    # For a withdrawal, repeated failures of one group count as one; the upper end assumes the larger number.
    sure = min(challenger.failed * challenger.independent, challenger.failing)
    low, _ = share_interval(sure, challenger.effective, error)
    yield _measure("errors", replace(errors, low=low), limits.max_errors)
    if route:
        return
    if shadow:
        disagreement = share(challenger.paired - challenger.agreed, challenger.paired, challenger)
        yield _measure("disagreement", disagreement, limits.max_disagreement)
    else:  # the time of a shadow means nothing, as it runs at idle priority
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
    """Return a quantile of the response time, in milliseconds; without an upper end while there are too few requests."""
    times, rows = seen.elapsed_ms, len(seen.elapsed_ms)
    low, high = ranks(share, rows * seen.independent, error)
    first, last = math.ceil(low * rows), math.floor(high * rows)
    return Estimate(
        value=quantile(times, share),
        low=float(times[first - 1]) if first else 0.0,
        high=float(times[last]) if last < rows else None,
    )
