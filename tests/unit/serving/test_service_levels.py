"""The service levels say what must hold under load, and a run that violates them is refused."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load.service_levels import Measured, compare, judge, users_at
from support.instance import INSTANCE

from ctcd.contract.service_levels import BaselineRule, Limits, Shape, load_service_levels
from ctcd.errors import UsageError

LIMITS = Limits(
    p50_ms=10.0, p95_ms=25.0, p99_ms=50.0, min_requests_per_second=30.0, max_failed_share=0.001, tolerated_failures=1
)
GOOD = Measured(
    shape="reference",
    requests=4_000,
    failures=0,
    requests_per_second=32.0,
    p50_ms=5.0,
    p95_ms=20.0,
    p99_ms=40.0,
    max_ms=9_000.0,
    errors={},
)


def broken(measured: Measured) -> list[str]:
    return [finding.rule for finding in judge(measured, LIMITS) if not finding.kept]


def test_the_service_levels_of_an_instance_are_loaded() -> None:
    """The usual shapes are defined, and the reference has 100 users who pause for one to five seconds."""
    promise = load_service_levels(INSTANCE)
    assert {"reference", "spike", "soak", "smoke"} <= set(promise.shapes)
    reference = promise.shape("reference")
    assert reference.wait_seconds == [1.0, 5.0]
    assert [users_at(reference, seconds) for seconds in (0, 119.9, 120)] == [(100, 5), (100, 5), None]
    assert reference.limits.p95_ms <= 25


def test_stages_run_one_after_another() -> None:
    """Each lasts as many seconds as it defines."""
    spike = load_service_levels(INSTANCE).shape("spike")
    counts = [users_at(spike, float(second)) for second in range(61)]
    assert [users and users[0] for users in counts] == [20] * 15 + [200] * 30 + [20] * 15 + [None]


def test_a_good_run_passes_whatever_its_slowest_request() -> None:
    """A run within its limits passes, even with one slow or failed request in hundreds."""
    assert broken(GOOD) == []
    assert broken(GOOD.model_copy(update={"failures": 1, "requests": 900})) == []
    assert broken(GOOD.model_copy(update={"failures": 4})) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"failures": 5}, "failures"),
        ({"failures": 2, "requests": 100}, "failures"),
        ({"requests_per_second": 29.0}, "requests per second"),
        ({"p50_ms": 10.1}, "p50_ms"),
        ({"p95_ms": 25.5}, "p95_ms"),
        ({"p99_ms": 51.0}, "p99_ms"),
    ],
)
def test_a_run_that_exceeds_a_limit_names_it(change: dict[str, float], rule: str) -> None:
    """A run that exceeds one limit breaks the rule of that limit and no other."""
    assert broken(GOOD.model_copy(update=change)) == [rule]


def test_a_run_that_measured_no_number_is_refused() -> None:
    """A NaN would pass every comparison that is written the wrong way round."""
    with pytest.raises(ValueError, match="finite"):
        Measured.model_validate(GOOD.model_dump() | {"p95_ms": math.nan})


def test_a_run_without_requests_does_not_pass() -> None:
    """A service that nobody reached has met no limit."""
    assert "requests per second" in broken(GOOD.model_copy(update={"requests": 0, "requests_per_second": 0.0}))


@given(st.floats(0, 1_000), st.floats(0, 1_000))
def test_a_slower_run_is_never_judged_better(one: float, other: float) -> None:
    """A run that is slower breaks every limit that the faster one breaks, and is not better against a baseline."""
    fast, slow = (GOOD.model_copy(update={"p95_ms": value}) for value in sorted((one, other)))
    rule = BaselineRule(max_slowdown=0.5, slack_ms=5.0)
    assert set(broken(fast)) <= set(broken(slow))
    kept = [all(each.kept for each in compare(run, GOOD, rule)) for run in (fast, slow)]
    assert kept[0] or not kept[1]


def test_a_regression_is_noticed_beyond_its_slack() -> None:
    """Up to 1.5 times the baseline plus five milliseconds is accepted, no more."""
    rule = BaselineRule(max_slowdown=0.5, slack_ms=5.0)
    assert all(each.kept for each in compare(GOOD.model_copy(update={"p95_ms": 35.0}), GOOD, rule))
    slower = compare(GOOD.model_copy(update={"p95_ms": 35.1}), GOOD, rule)
    assert [each.rule for each in slower if not each.kept] == ["p95_ms against the baseline"]


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("[", "not TOML"),
        ("[shapes]", "baseline: Field required"),
        ("[baseline]\nmax_slowdown = 0.5\nslack_ms = 5.0\n[shapes.x]\ndescription = 'x'", "shapes.x.limits"),
    ],
)
def test_incomplete_service_levels_are_refused(tmp_path: Path, text: str, reported: str) -> None:
    """No value has a default that could be forgotten."""
    (tmp_path / "service.toml").write_text(text)
    with pytest.raises(UsageError, match=reported):
        load_service_levels(replace(INSTANCE, folder=tmp_path))


def test_limits_without_effect_are_refused() -> None:
    """A latency of an hour, half of all requests failing, users who wait backwards."""
    for change in ({"p95_ms": 3_600_000.0}, {"max_failed_share": 0.5}, {"p99_ms": 0.0}, {"tolerated_failures": 10_000}):
        with pytest.raises(ValueError, match=r"less than|greater than"):
            Limits.model_validate(LIMITS.model_dump() | change)
    with pytest.raises(ValueError, match="the shortest comes first"):
        Shape.model_validate(load_service_levels(INSTANCE).shape("smoke").model_dump() | {"wait_seconds": [2.0, 1.0]})
    with pytest.raises(UsageError, match="'storm' is not one of"):
        load_service_levels(INSTANCE).shape("storm")
