"""Simulated rollouts: requests of champion and challenger are drawn, and the challenger is judged again and again."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ctcd.contract.judging import Limits
from ctcd.contract.traffic import Mode
from ctcd.model.reference import effective_rows
from ctcd.traffic.judging import Judgement, Seen, Stage, Verdict, judge

LIMITS = Limits(
    false_withdrawals=0.01,
    max_errors=0.002,
    max_slowdown=1.5,
    max_class_change=0.1,
    max_disagreement=0.2,
    max_accuracy_drop=0.02,
    min_hours=24.0,
    wait_for_labels=False,
    promote=False,
)
"""Those of the example in docs/traffic.md."""
WAITING = LIMITS.model_copy(update={"wait_for_labels": True})
"""The same, where labels arrive at once, so that they can be waited for."""
CLASSES = ("good", "fair", "poor")
SHARES = np.array([0.5, 0.3, 0.2])
"""Shares of the classes."""
STEPS = (0.05, 0.25, 0.5)
"""Shares of the requests that a challenger answers."""
GROUPS_OF_LOOK = 250
"""Groups that ask the challenger between two looks; each asks once to three times."""
GROUPS_OF_STEP = 40_000
"""Groups after which a step that has not ended is given up."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """How a version answers.

    Args:
        accuracy: share of correct answers, 0 to 1.
        milliseconds: median of the answer time.
        errors: share of requests, 0 to 1, that it fails to answer.
        moved: share of the answers of the first class, 0 to 1, that become one of the second.
    """

    accuracy: float = 0.7
    milliseconds: float = 8.0
    errors: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a rollout ended.

    Args:
        answers: requests that the challenger had got by then, in all steps.
        broken: names of the measures that withdrew it.
    """

    verdict: Verdict
    answers: int
    looks: int
    broken: tuple[str, ...] = ()


class _Variant:
    """The requests of one variant. All requests of a group are answered alike: the worst case for what they tell."""

    def __init__(self, version: Version, random: np.random.Generator) -> None:
        self._version, self._random = version, random
        self._squares, self._failed, self._counts = 0, 0, np.zeros(len(CLASSES), np.int64)
        self.seen = Seen()

    def ask(self, groups: int, load: float) -> None:
        """Let some more groups ask, while every answer takes `load` times as long as usual."""
        random, version, seen = self._random, self._version, self.seen
        asked = random.integers(1, 4, size=groups)
        rows = int(asked.sum())
        failed = random.random(groups) < version.errors
        right = random.random(groups) < version.accuracy
        place = random.choice(len(CLASSES), size=groups, p=SHARES)
        place[(place == 0) & (random.random(groups) < version.moved)] = 1
        times = np.exp(random.normal(np.log(version.milliseconds * load), 0.5, size=rows))
        answered = ~failed
        self._counts += np.bincount(place[answered], weights=asked[answered], minlength=len(CLASSES)).astype(np.int64)
        self._squares += int((asked**2).sum())
        self._failed += int((asked[failed] ** 2).sum())
        requests, failures = seen.requests + rows, seen.failed + int(asked[failed].sum())
        self.seen = Seen(
            requests=requests,
            effective=effective_rows(requests, self._squares),
            failed=failures,
            failing=effective_rows(failures, self._failed),
            classes=dict(zip(CLASSES, self._counts.tolist(), strict=True)),
            elapsed_ms=_merged(seen.elapsed_ms, times),
            labelled=seen.labelled + int(asked[answered].sum()),
            right=seen.right + int(asked[answered & right].sum()),
        )


def _merged(times: NDArray[np.float64], more: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(np.concatenate([times, more]), kind="stable")


def rollout(
    challenger: Version,
    limits: Limits,
    *,
    seed: int,
    champion: Version = Version(),
    steps: Sequence[float] = STEPS,
    min_answers: float = 500.0,
    groups: int = GROUPS_OF_STEP,
) -> Rollout:
    """Return how a rollout ends; the same seed gives the same one."""
    answers = looks = 0
    for number in range(1, len(steps) + 1):
        stage = Stage(mode=Mode.CANARY, step=number, steps=len(steps), min_answers=min_answers, hours=1_000.0)
        done = None
        random = np.random.default_rng([seed, number])
        variants = _Variant(champion, random), _Variant(challenger, random)
        for seen, judgement in itertools.islice(
            _looks(*variants, limits, stage, steps[number - 1]), groups // GROUPS_OF_LOOK
        ):
            done, asked = judgement, seen.requests
            looks += 1
        assert done is not None
        answers += asked
        broken = tuple(each.name for each in done.measures if each.state == "broken")
        result = Rollout(verdict=done.verdict, answers=answers, looks=looks, broken=broken)
        if done.verdict is not Verdict.NEXT_STEP:
            break
    return replace(result, looks=looks)


def _looks(
    theirs: _Variant, mine: _Variant, limits: Limits, stage: Stage, share: float
) -> Iterator[tuple[Seen, Judgement]]:
    for look in itertools.count():
        load = 1.0 + 0.5 * np.sin(look / 3)  # common to both, as that of a day
        mine.ask(GROUPS_OF_LOOK, load)
        theirs.ask(round(GROUPS_OF_LOOK * (1 - share) / share), load)
        judgement = judge(theirs.seen, mine.seen, limits, stage)
        yield mine.seen, judgement
        if judgement.verdict is not Verdict.CONTINUE:
            return
