"""One look at a challenger: what is broken, what is kept, what is not known, and what follows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.instance import CONTRACT
from support.rollouts import LIMITS, WAITING, Version, rollout

from ctcd.contract.judging import Limits
from ctcd.contract.traffic import Canary, Experiment, Mode, Shadow, Step, TrafficPolicy, load_traffic
from ctcd.errors import UsageError
from ctcd.traffic.judging import Judgement, Measure, Seen, Stage, State, Verdict, judge

FIRST = Stage(mode=Mode.CANARY, step=1, steps=3, min_answers=500.0, hours=48.0)
LAST = replace(FIRST, step=3)
SHADOW = Stage(mode=Mode.SHADOW, hours=48.0)
ROUTE = Stage(mode=Mode.ROUTE, hours=48.0)


def policy_with(text: str, folder: Path) -> TrafficPolicy | None:
    """Return the policy of a file with a shadow and these limits."""
    file = folder / "traffic.toml"
    file.write_text(f"[shadow]\nshare = 1.0\n{text}")
    return load_traffic(file, CONTRACT)


def documented() -> str:
    """Return the table of limits in the documentation."""
    text = (Path(__file__).parents[3] / "docs" / "traffic.md").read_text()
    return text[text.index("[limits]\n") :].partition("```")[0]


def test_the_documented_limits_are_those_that_are_simulated(tmp_path: Path) -> None:
    """What the documentation says of withdrawals is of the limits that it shows, which can be copied."""
    policy = policy_with(documented(), tmp_path)
    assert policy is not None
    assert policy.limits == LIMITS


@pytest.mark.parametrize("name", Limits.model_fields)
def test_each_limit_has_to_be_given(name: str, tmp_path: Path) -> None:
    """A limit that is left out, or that would let everything pass, is refused with its name."""
    lines = documented().splitlines()
    without = "\n".join(line for line in lines if not line.startswith(f"{name} ="))
    for text in (without, f"{without}\n{name} = 1000.0"):
        with pytest.raises(UsageError, match=f"limits.{name}: "):
            policy_with(text, tmp_path)


def seen(requests: int = 100_000, *, accuracy: float = 0.7, slower: float = 1.0, **changed: Any) -> Seen:
    """Return what is known of a version without a fault, but for what is changed."""
    known: dict[str, Any] = {
        "requests": requests,
        "effective": float(requests),
        "classes": {"good": requests // 2, "bad": requests // 2},
        "elapsed_ms": np.linspace(5.0, 15.0, requests) * slower,
        "labelled": requests,
        "right": int(requests * accuracy),
        "paired": requests,
        "agreed": int(requests * 0.95),
    }
    return Seen(**known | changed)


def measure(judgement: Judgement, name: str) -> Measure:
    return next(each for each in judgement.measures if each.name == name)


@pytest.mark.parametrize(
    ("name", "worse", "stage"),
    [
        ("errors", seen(failed=1_000), FIRST),
        ("errors", seen(failed=1_000), ROUTE),
        ("errors", seen(failed=1_000), SHADOW),
        ("median of the time", seen(slower=2.0), FIRST),
        ("95th percentile of the time", seen(elapsed_ms=np.append(np.linspace(5, 15, 90_000), [99.0] * 10_000)), FIRST),
        ("share of class bad", seen(classes={"good": 30_000, "bad": 70_000}), FIRST),
        ("share of class bad", seen(classes={"good": 30_000, "bad": 70_000}), SHADOW),
        ("accuracy", seen(accuracy=0.65), FIRST),
        ("accuracy", seen(accuracy=0.65), SHADOW),
        ("disagreement", seen(agreed=70_000), SHADOW),
    ],
)
def test_a_broken_limit_withdraws_the_challenger(name: str, worse: Seen, stage: Stage) -> None:
    """Whatever else it keeps; the reason names the measure, and the same fault of the champion withdraws nobody."""
    found = judge(seen(), worse, LIMITS, stage)
    assert found.verdict is Verdict.WITHDRAW
    assert name in found.why
    assert measure(found, name).state is State.BROKEN
    if name != "share of class bad":  # a difference, whoever is different
        assert judge(worse, seen(), LIMITS, stage).verdict is not Verdict.WITHDRAW


@pytest.mark.parametrize(
    ("stage", "verdict"),
    [
        (FIRST, Verdict.NEXT_STEP), (LAST, Verdict.PROMOTE), (SHADOW, Verdict.NEXT_STEP), (ROUTE, Verdict.CONTINUE),
    ],
)  # fmt: skip
def test_a_challenger_that_keeps_all_limits_goes_on(stage: Stage, verdict: Verdict) -> None:
    """Only after the last step of a canary it may be promoted; routes have no next step."""
    many = seen(400_000)
    found = judge(many, many, LIMITS, stage)
    assert (found.verdict, {each.state for each in found.measures}) == (verdict, {State.KEPT})


@pytest.mark.parametrize(
    ("challenger", "stage", "limits", "why"),
    [
        (Seen(), FIRST, LIMITS, "0 of 500 effective requests"),
        (seen(300), FIRST, LIMITS, "not sure yet: errors"),
        (seen(effective=499.0), FIRST, LIMITS, "499 of 500 effective requests"),
        (seen(), replace(FIRST, hours=23.0), LIMITS, "23.0 of 24 hours"),
        (seen(), replace(FIRST, hours=-0.004), LIMITS, "it is not in effect yet"),
        (seen(labelled=0, right=0), FIRST, WAITING, "not sure yet: accuracy"),
        (seen(paired=0, agreed=0), SHADOW, LIMITS, "not sure yet: disagreement"),
        (seen(300), SHADOW, LIMITS, "not sure yet: errors"),
    ],
)  # fmt: skip
def test_missing_evidence_waits(challenger: Seen, stage: Stage, limits: Any, why: str) -> None:
    """Too few requests, too little time, or an interval that still reaches beyond a limit."""
    found = judge(seen(), challenger, limits, stage)
    assert found.verdict is Verdict.CONTINUE
    assert why in found.why


@pytest.mark.parametrize("mode", Mode)
def test_traffic_that_the_policy_has_no_more_does_not_go_on(mode: Mode) -> None:
    """What was left out of the file meanwhile has no steps to come, so nothing is kept well enough to be promoted."""
    policy = TrafficPolicy(shadow=Shadow(share=1.0), limits=LIMITS)
    began = datetime(2025, 9, 3, tzinfo=UTC)
    experiment = Experiment(
        id="a", version="2", mode=mode, share=0.1, step=1, started=began.isoformat(), effective=began.isoformat()
    )
    many = seen(400_000)
    stage = Stage.of(policy, experiment, began + timedelta(days=2))
    found = judge(many, many, LIMITS, stage)
    assert found.verdict is (Verdict.NEXT_STEP if mode is Mode.SHADOW else Verdict.CONTINUE)
    assert ("traffic.toml has no" in found.why) == (mode is not Mode.SHADOW)
    assert (
        judge(
            many, seen(400_000, failed=40_000), LIMITS, Stage.of(policy, replace(experiment, mode=Mode.CANARY), began)
        ).verdict
        is Verdict.WITHDRAW
    )


def test_times_of_nothing_are_no_slowdown() -> None:
    """A clock that did not move says nothing about which one is slower."""
    still = seen(2_000, elapsed_ms=np.zeros(2_000))
    found = judge(still, seen(2_000), LIMITS, FIRST)
    assert measure(found, "median of the time").state is State.OPEN


def test_labels_need_not_be_waited_for() -> None:
    """Where they arrive months later, a step may end without them; those that are there still withdraw."""
    assert judge(seen(), seen(labelled=0, right=0), LIMITS, LAST).verdict is Verdict.PROMOTE
    assert judge(seen(), seen(labelled=40_000, right=24_000), LIMITS, LAST).verdict is Verdict.WITHDRAW


def test_rows_of_one_group_count_less() -> None:
    """The same counts withdraw if every row is of another group, and do not if a few groups asked again and again."""
    faulty = seen(20_000, accuracy=0.65)
    assert judge(seen(), faulty, LIMITS, FIRST).verdict is Verdict.WITHDRAW
    assert judge(seen(), replace(faulty, effective=2_000.0), LIMITS, FIRST).verdict is Verdict.CONTINUE


def test_one_group_that_fails_again_and_again_is_one_failure() -> None:
    """It withdraws nobody, and does not speak for the challenger either: the upper end counts every request."""
    faulty = seen(20_000, failed=250, effective=4_863.0)
    assert judge(seen(), faulty, LIMITS, FIRST).verdict is Verdict.WITHDRAW
    found = judge(seen(), replace(faulty, failing=1.0), LIMITS, FIRST)
    assert found.verdict is Verdict.CONTINUE
    errors = measure(found, "errors")
    assert errors.state is State.OPEN
    assert errors.loss_high == measure(judge(seen(), faulty, LIMITS, FIRST), "errors").loss_high


def test_the_times_of_a_shadow_and_the_requests_of_a_route_are_not_compared() -> None:
    """A shadow is scored when there is time, and a route chooses requests that are like no others."""
    slow = seen(slower=9.0, accuracy=0.1)
    assert [each.name for each in judge(seen(), slow, LIMITS, ROUTE).measures] == ["errors"]
    assert "time" not in " ".join(each.name for each in judge(seen(), slow, LIMITS, SHADOW).measures)


def test_more_steps_and_fewer_false_withdrawals_take_wider_intervals() -> None:
    """The allowed probability is shared by all intervals of all steps."""
    wide = LIMITS.model_copy(update={"false_withdrawals": LIMITS.false_withdrawals / 100})
    ends = [
        measure(judge(seen(), seen(failed=50), limits, stage), "errors").challenger.high or 0.0
        for limits, stage in ((LIMITS, replace(FIRST, steps=1)), (LIMITS, FIRST), (wide, FIRST))
    ]
    assert ends[0] < ends[1] < ends[2]


def test_a_time_without_an_upper_end_is_not_known_yet() -> None:
    """A handful of requests bound no 95th percentile: no end, and no verdict about it."""
    found = measure(judge(seen(20), seen(20), LIMITS, FIRST), "95th percentile of the time")
    assert (found.challenger.high, found.loss_high, found.state) == (None, None, State.OPEN)


def test_a_stage_is_that_of_the_policy_and_of_the_experiment() -> None:
    """Hours count from when the step takes effect; a step that the policy has no longer does not go on."""
    steps = [Step(share=0.05, min_answers=7), Step(share=0.5, min_answers=9)]
    policy, now = TrafficPolicy(shadow=Shadow(share=1.0), canary=Canary(steps=steps)), datetime.now(UTC)
    experiment = Experiment(
        id="a", version="8", mode=Mode.CANARY, share=0.05, step=1, started=now.isoformat(),
        effective=(now - timedelta(hours=3)).isoformat(),
    )  # fmt: skip
    assert Stage.of(policy, experiment, now) == Stage(mode=Mode.CANARY, step=1, steps=2, min_answers=7, hours=3.0)
    assert Stage.of(policy, replace(experiment, step=2), now).min_answers == 9
    gone = Stage.of(policy, replace(experiment, step=3), now)
    assert (gone.allowed, gone.step, gone.steps) == (False, 3, 3)
    assert Stage.of(policy, replace(experiment, mode=Mode.SHADOW, step=0), now) == Stage(mode=Mode.SHADOW, hours=3.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_challenger_that_is_no_worse_is_not_withdrawn(seed: int) -> None:
    """In simulated rollouts, with groups that are answered alike and a load that rises and falls, it passes every step."""
    found = rollout(Version(), LIMITS, seed=seed, steps=(0.25, 0.5))
    assert (found.verdict, found.broken) == (Verdict.PROMOTE, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worse", "broken", "answers"),
    [
        (Version(accuracy=0.65), "accuracy", 80_000),
        (Version(milliseconds=16.0), "median of the time", 3_000),
        (Version(errors=0.01), "errors", 15_000),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_a_challenger_that_is_clearly_worse_is_withdrawn(worse: Version, broken: str, answers: int, seed: int) -> None:
    """5 points of accuracy, double the time and 1 % of errors are each found, within a bounded number of answers."""
    found = rollout(worse, WAITING, seed=seed, steps=(0.25, 0.5))
    assert found.verdict is Verdict.WITHDRAW
    assert broken in found.broken
    assert found.answers <= answers
