"""Rollouts: how often a challenger that is no worse is withdrawn, and how many requests it takes to withdraw a worse one."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.rollouts import GROUPS_OF_LOOK, GROUPS_OF_STEP, LIMITS, STEPS, WAITING, Version, rollout

from ctcd.cli.output import table
from ctcd.traffic.judging import Verdict

ROLLOUTS = 500
CHALLENGERS = {
    "no worse": (Version(), LIMITS, GROUPS_OF_STEP),
    "as slow as the limit": (Version(milliseconds=8.0 * LIMITS.max_slowdown), LIMITS, GROUPS_OF_STEP // 10),
    "5 points of accuracy less": (Version(accuracy=0.65), WAITING, GROUPS_OF_STEP),
    "double time": (Version(milliseconds=16.0), LIMITS, GROUPS_OF_STEP),
    "1 % errors": (Version(errors=0.01), LIMITS, GROUPS_OF_STEP),
    "a fifth of the answers another class": (Version(moved=0.4), LIMITS, GROUPS_OF_STEP),
    "5 points, double time, 1 % errors": (
        Version(accuracy=0.65, milliseconds=16.0, errors=0.01), LIMITS, GROUPS_OF_STEP,
    ),
}  # fmt: skip
"""Challengers of a champion with an accuracy of 0.7, a median of 8 ms and no errors; the limits that judge them, and the
groups that ask them in a step at most."""


@dataclass(frozen=True, kw_only=True)
class RolloutResult:
    """How simulated rollouts of one kind of challenger ended.

    Args:
        verdicts: rollouts by their last verdict; `continue` is one that was given up.
        withdrawn: share that was withdrawn, 0 to 1.
        looks: looks at all of them together.
        requests: quantiles of the requests that a challenger got until it was withdrawn, by percentage; empty if none
            was.
        broken: withdrawals by the measures that were broken.
    """

    challenger: str
    rollouts: int
    verdicts: dict[str, int]
    withdrawn: float
    looks: int
    requests: dict[int, int]
    broken: dict[str, int]


def run(_data: Path | None) -> list[Any]:
    """Simulate rollouts; every one has seeds of its own."""
    results = [_result(name) for name in CHALLENGERS]
    table(
        f"{ROLLOUTS} rollouts in steps of {', '.join(f'{share:.0%}' for share in STEPS)}; a look after {GROUPS_OF_LOOK} groups",
        ("challenger", "withdrawn", "promoted", "looks", *(f"requests, {part} %" for part in (10, 50, 90, 100))),
        [
            (
                each.challenger,
                each.withdrawn,
                each.verdicts.get(Verdict.PROMOTE, 0) / each.rollouts,
                each.looks,
                *(each.requests.get(part) for part in (10, 50, 90, 100)),
            )
            for each in results
        ],
    )
    return results


def _result(name: str) -> RolloutResult:
    version, limits, groups = CHALLENGERS[name]
    done = [rollout(version, limits, seed=seed, groups=groups) for seed in range(ROLLOUTS)]
    requests = [each.answers for each in done if each.verdict is Verdict.WITHDRAW]
    return RolloutResult(
        challenger=name,
        rollouts=len(done),
        verdicts=dict(Counter(str(each.verdict) for each in done)),
        withdrawn=len(requests) / len(done),
        looks=sum(each.looks for each in done),
        requests={part: round(float(np.percentile(requests, part))) for part in (10, 50, 90, 100)} if requests else {},
        broken=dict(Counter(", ".join(each.broken) for each in done if each.broken)),
    )
